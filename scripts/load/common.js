// What the scripts share: where the server is, and one subscriber.
//
//   k6 run --no-usage-report -e URL=http://127.0.0.1:3000 -e PASSWORD=secret \
//     scripts/load/publish.js
import http from "k6/http";
import encoding from "k6/encoding";
import { WebSocket } from "k6/websockets";

export const URL = __ENV.URL || "http://127.0.0.1:3000";
export const SECONDS = number("SECONDS", 10);
export const TOKEN = __ENV.TOKEN || "";
const PASSWORD = __ENV.PASSWORD || "secret";
const CREDENTIALS = "Basic " + encoding.b64encode(`k6:${PASSWORD}`);

export function number(name, otherwise) {
  return Number(__ENV[name] || otherwise);
}

// A scenario that `vus` virtual users run once each.
export function once(exec, vus, maxSeconds, startSeconds = 0) {
  return {
    executor: "per-vu-iterations",
    exec,
    vus,
    iterations: 1,
    startTime: `${startSeconds}s`,
    maxDuration: `${maxSeconds}s`,
    gracefulStop: "0s",
  };
}

// Resolves to the response.
export function publish(topic, data) {
  const body = JSON.stringify({ topic, data });
  return http.asyncRequest("POST", `${URL}/pub`, body, {
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

// A session of isimud.v1. `commands` are sent once it is open; `on.TYPE` is
// called with each message of that type (subscribed, message, gap, error, …),
// on.end with the close code when it ends other than by close().
export function session(commands, on, token = TOKEN) {
  const query = token ? `?access_token=${encodeURIComponent(token)}` : "";
  // As a field, since not every k6 takes the constructor's list of protocols.
  const socket = new WebSocket(
    URL.replace(/^http/, "ws") + "/sub" + query,
    null,
    { headers: { "Sec-WebSocket-Protocol": "isimud.v1" } },
  );
  let isOurs = false;
  socket.onopen = () =>
    commands.forEach((command) => socket.send(JSON.stringify(command)));
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (on[message.type]) on[message.type](message);
  };
  socket.onerror = (event) => {
    if (!isOurs && on.failed) on.failed(event.error);
  };
  socket.onclose = (event) => {
    if (!isOurs && on.end) on.end(event.code);
  };
  return {
    close() {
      isOurs = true;
      socket.close();
    },
  };
}

export function subscribeTo(topic, members = {}) {
  return { type: "subscribe", publisher: "k6", topic, ...members };
}

// SEQ of an id, EPOCH-SEQ.
export function sequenceOf(id) {
  return Number(id.slice(id.indexOf("-") + 1));
}

export function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// An event stream's URL.
export function streamOf(topic) {
  const token = TOKEN && `&access_token=${encodeURIComponent(TOKEN)}`;
  return `${URL}/sub?publisher=k6&topic=${encodeURIComponent(topic)}${token}`;
}
