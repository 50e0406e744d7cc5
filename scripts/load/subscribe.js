// SUBSCRIBERS subscribers of one topic, over a few virtual users; once all are
// subscribed, MESSAGES are published, and each has to reach each, in order.
import exec from "k6/execution";
import { Counter, Trend } from "k6/metrics";
import { number, once, publish, SECONDS, subscribe } from "./common.js";

const USERS = 10;
const SUBSCRIBERS = number("SUBSCRIBERS", 1000);
const EACH = Math.ceil(SUBSCRIBERS / USERS);
const MESSAGES = number("MESSAGES", 50);

const subscribed = new Trend("subscribed_after", true);
const subscriptions = new Counter("subscriptions");
const received = new Counter("messages_received");
const ended = new Counter("ended_early");
const disordered = new Counter("messages_out_of_order");
const refused = new Counter("publications_refused");

export const options = {
  scenarios: {
    subscribers: once("subscribers", USERS, SECONDS + 5),
    publisher: once("publisher", 1, SECONDS, Math.ceil(SECONDS / 2)),
  },
  thresholds: {
    subscriptions: [`count==${EACH * USERS}`],
    messages_received: [`count==${EACH * USERS * MESSAGES}`],
    ended_early: ["count==0"],
    messages_out_of_order: ["count==0"],
    publications_refused: ["count==0"],
    subscribed_after: ["p(95)<3000"],
  },
  summaryTrendStats: ["med", "p(95)", "p(99)", "max"],
};

export function subscribers() {
  for (let i = 0; i < EACH; i++) {
    const begun = Date.now();
    let next = 0;
    const subscriber = subscribe("all", {
      subscribed() {
        subscribed.add(Date.now() - begun);
        subscriptions.add(1);
      },
      message(text) {
        received.add(1);
        if (Number(text) !== next) disordered.add(1);
        if (++next === MESSAGES) subscriber.close();
      },
      end(why) {
        ended.add(1, { why: String(why) });
      },
    });
  }
}

export async function publisher() {
  for (let i = 0; i < MESSAGES; i++) {
    const response = await publish("all", String(i));
    if (response.status !== 200) {
      refused.add(1);
      exec.test.abort("a publication was refused");
    }
  }
}
