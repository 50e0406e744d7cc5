// SESSIONS sessions of isimud.v1, each with TOPICS topics over its one
// WebSocket; once all are subscribed, MESSAGES are published to each topic, and
// each has to reach each session, in order, none missing and none twice.
import exec from "k6/execution";
import { Counter, Trend } from "k6/metrics";
import {
  number,
  once,
  publish,
  SECONDS,
  sequenceOf,
  session,
  subscribeTo,
} from "./common.js";

const USERS = 10;
const SESSIONS = number("SESSIONS", 200);
const EACH = Math.ceil(SESSIONS / USERS);
const TOPICS = number("TOPICS", 5);
const MESSAGES = number("MESSAGES", 20);
const ALL = EACH * USERS;

const subscribed = new Trend("subscribed_after", true);
const subscriptions = new Counter("subscriptions");
const received = new Counter("messages_received");
const wrong = new Counter("messages_out_of_order");
const ended = new Counter("ended_early");
const refused = new Counter("refused");

export const options = {
  scenarios: {
    sessions: once("sessions", USERS, SECONDS + 5),
    publisher: once("publisher", 1, SECONDS, Math.ceil(SECONDS / 2)),
  },
  thresholds: {
    subscriptions: [`count==${ALL * TOPICS}`],
    messages_received: [`count==${ALL * TOPICS * MESSAGES}`],
    messages_out_of_order: ["count==0"],
    ended_early: ["count==0"],
    refused: ["count==0"],
    subscribed_after: ["p(95)<3000"],
  },
  summaryTrendStats: ["med", "p(95)", "p(99)", "max"],
};

const names = Array.from({ length: TOPICS }, (_, i) => `v1 ${i}`);

export function sessions() {
  for (let i = 0; i < EACH; i++) {
    const begun = Date.now();
    const last = {}; // by topic, the number of its last message
    let left = TOPICS * MESSAGES;
    const one = session(
      names.map((topic) => subscribeTo(topic)),
      {
        subscribed({ topic, id }) {
          last[topic] = sequenceOf(id);
          subscribed.add(Date.now() - begun);
          subscriptions.add(1);
        },
        message({ topic, id }) {
          received.add(1);
          if (sequenceOf(id) !== ++last[topic]) wrong.add(1);
          if (--left === 0) one.close();
        },
        error: ({ code }) => refused.add(1, { code }),
        failed: (why) => refused.add(1, { why: String(why) }),
        end: (code) => ended.add(1, { code: String(code) }),
      },
    );
  }
}

export async function publisher() {
  for (let i = 0; i < MESSAGES; i++) {
    for (const topic of names) {
      const response = await publish(topic, i);
      if (response.status !== 200) {
        refused.add(1);
        exec.test.abort("a publication was refused");
      }
    }
  }
}
