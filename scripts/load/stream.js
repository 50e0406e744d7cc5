// STREAMS event streams of one topic, one to a virtual user. MESSAGES are
// published; when a stream has half of them it is cut, and comes back with
// Last-Event-ID. Each has to get each message once, in order.
//
// k6 itself reads no streams: this needs the extension k6/x/sse
// (github.com/phymbert/xk6-sse), which k6 1.2 and later fetch by themselves, or
// a k6 built with it: xk6 build --with github.com/phymbert/xk6-sse
import { Counter } from "k6/metrics";
import sse from "k6/x/sse";
import { number, once, pause, publish, SECONDS, streamOf } from "./common.js";

const STREAMS = number("STREAMS", 50);
const MESSAGES = number("MESSAGES", 20);
const WARM_UP = Math.ceil(SECONDS / 2);

const received = new Counter("messages_received");
const wrong = new Counter("messages_out_of_order");
const lost = new Counter("resets");
const failed = new Counter("failed");
const returns = new Counter("returns");

export const options = {
  scenarios: {
    streams: once("streams", STREAMS, SECONDS + 10),
    publisher: once("publisher", 1, SECONDS + 10, WARM_UP),
  },
  thresholds: {
    messages_received: [`count==${STREAMS * MESSAGES}`],
    messages_out_of_order: ["count==0"],
    resets: ["count==0"],
    failed: ["count==0"],
    returns: [`count==${STREAMS}`],
  },
};

export async function streams() {
  const place = { id: "", next: 0 };
  await read(place, MESSAGES / 2);
  returns.add(1);
  await read(place, MESSAGES);
}

// Reads until `place` has come to message `end`; sse.open() returns only then.
async function read(place, end) {
  const headers = { Accept: "text/event-stream" };
  if (place.id) headers["Last-Event-ID"] = place.id;
  const response = await sse.open(streamOf("stream"), { headers }, (client) => {
    client.on("event", (event) => {
      if (event.id) place.id = event.id;
      if (event.name === "reset") lost.add(1);
      // The stream's first block has an id and no data.
      if (event.name === "reset" || !event.data) return;
      received.add(1);
      if (Number(event.data) !== place.next) wrong.add(1);
      if (++place.next === end) client.close();
    });
    client.on("error", () => place.next < end && failed.add(1));
  });
  if (response.status !== 200) failed.add(1);
}

export async function publisher() {
  for (let i = 0; i < MESSAGES; i++) {
    const response = await publish("stream", i);
    if (response.status !== 200) failed.add(1);
    await pause(20);
  }
}
