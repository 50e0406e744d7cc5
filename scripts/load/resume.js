// CLIENTS sessions of isimud.v1 cut their connections every CUT_MS or so and
// come back with `since`, while RATE messages a second are published for
// SECONDS; each has to get each message once, in order.
import { Counter, Trend } from "k6/metrics";
import {
  number,
  once,
  pause,
  publish,
  SECONDS,
  session,
  subscribeTo,
} from "./common.js";

const USERS = 10;
const CLIENTS = number("CLIENTS", 100);
const EACH = Math.ceil(CLIENTS / USERS);
const RATE = number("RATE", 50);
const CUT_MS = number("CUT_MS", 1000);
const MESSAGES = RATE * SECONDS;
const WARM_UP = 2;
const ROOM = 10;

const back = new Trend("back_after", true);
const cuts = new Counter("cuts");
const received = new Counter("messages_received");
const wrong = new Counter("messages_out_of_order");
const lost = new Counter("not_resumed");
const failed = new Counter("failed");

export const options = {
  scenarios: {
    clients: once("clients", USERS, WARM_UP + SECONDS + ROOM),
    publisher: once("publisher", 1, SECONDS + ROOM, WARM_UP),
  },
  thresholds: {
    messages_received: [`count==${EACH * USERS * MESSAGES}`],
    messages_out_of_order: ["count==0"],
    not_resumed: ["count==0"],
    failed: ["count==0"],
    cuts: [`count>=${EACH * USERS}`],
    back_after: ["p(95)<1000"],
  },
  summaryTrendStats: ["med", "p(95)", "p(99)", "max"],
};

export function clients() {
  for (let i = 0; i < EACH; i++) {
    const place = { since: undefined, next: 0 };
    connect(place);
  }
}

function connect(place) {
  const begun = Date.now();
  let cutting;
  const one = session(
    [subscribeTo("resumed", place.since ? { since: place.since } : {})],
    {
      subscribed({ id, resumed }) {
        if (place.since) back.add(Date.now() - begun);
        if (resumed === false) lost.add(1);
        place.since = place.since || id;
      },
      message({ id, data }) {
        received.add(1);
        if (data !== place.next) wrong.add(1);
        place.next = data + 1;
        place.since = id;
        if (place.next === MESSAGES) {
          clearTimeout(cutting);
          one.close();
        }
      },
      gap: () => lost.add(1),
      reset: () => lost.add(1),
      error: ({ code }) => failed.add(1, { code }),
      failed: (why) => failed.add(1, { why: String(why) }),
      end: (code) => failed.add(1, { code: String(code) }),
    },
  );
  cutting = setTimeout(
    () => {
      cuts.add(1);
      one.close();
      connect(place);
    },
    CUT_MS * (0.5 + Math.random()),
  );
}

export async function publisher() {
  for (let i = 0; i < MESSAGES; i++) {
    const response = await publish("resumed", i);
    if (response.status !== 200) failed.add(1);
    await pause(1000 / RATE);
  }
}
