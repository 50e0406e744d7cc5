// What the scripts share: where the server is, and one subscriber.
//
//   k6 run --no-usage-report -e URL=http://127.0.0.1:3000 -e PASSWORD=secret \
//     scripts/load/publish.js
import http from "k6/http";
import encoding from "k6/encoding";
import { WebSocket } from "k6/websockets";

export const URL = __ENV.URL || "http://127.0.0.1:3000";
export const SECONDS = number("SECONDS", 10);
const PASSWORD = __ENV.PASSWORD || "secret";
const CREDENTIALS = "Basic " + encoding.b64encode(`k6:${PASSWORD}`);

export function number(name, otherwise) {
  return Number(__ENV[name] || otherwise);
}

export function publish(topic, data) {
  return http.post(`${URL}/pub`, JSON.stringify({ topic, data }), {
    headers: {
      Authorization: CREDENTIALS,
      "Content-Type": "application/json",
    },
  });
}

// Calls on.subscribed once the subscription is in force (a ping sent after the
// subscribe message has been answered), on.message with each message's text,
// and on.end with the reason when the connection ends other than by close().
export function subscribe(topic, on) {
  const socket = new WebSocket(URL.replace(/^http/, "ws") + "/sub");
  let isOurs = false;
  socket.onopen = () => {
    socket.send(JSON.stringify({ publisher: "k6", topic }));
    socket.ping();
  };
  socket.onpong = () => on.subscribed && on.subscribed();
  socket.onmessage = (event) => on.message && on.message(event.data);
  socket.onerror = (event) => !isOurs && on.end && on.end(event.error);
  socket.onclose = (event) => !isOurs && on.end && on.end(event.code);
  return {
    close() {
      isOurs = true;
      socket.close();
    },
  };
}
