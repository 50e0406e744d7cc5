// The way of a message from its publisher to each subscriber, under a mixed
// load: TOPICS topics with SUBSCRIBERS subscribers each, RATE messages a second
// over all of them. The message is the time at which it was made (k6's clock
// counts milliseconds); publishers and subscribers share this machine's clock.
import exec from "k6/execution";
import { Counter, Trend } from "k6/metrics";
import { number, once, publish, SECONDS, subscribe } from "./common.js";

const TOPICS = number("TOPICS", 10);
const SUBSCRIBERS = number("SUBSCRIBERS", 20);
const RATE = number("RATE", 100);
const WARM_UP = 2;

const latency = new Trend("fanout_latency", true);
const ended = new Counter("ended_early");
const deliveries = new Counter("deliveries");
const refused = new Counter("publications_refused");

export const options = {
  scenarios: {
    subscribers: once("subscribers", TOPICS, WARM_UP + SECONDS + 5),
    publishers: {
      executor: "constant-arrival-rate",
      exec: "publishers",
      rate: RATE,
      timeUnit: "1s",
      duration: `${SECONDS}s`,
      startTime: `${WARM_UP}s`,
      preAllocatedVUs: 20,
      maxVUs: 50,
      gracefulStop: "2s",
    },
  },
  thresholds: {
    fanout_latency: ["p(50)<20", "p(95)<100", "p(99)<250"],
    // A tenth for arrivals that k6 itself could not make in time.
    deliveries: [`count>=${0.9 * RATE * SECONDS * SUBSCRIBERS}`],
    ended_early: ["count==0"],
    publications_refused: ["count==0"],
  },
  summaryTrendStats: ["avg", "med", "p(95)", "p(99)", "max"],
};

export function subscribers() {
  const topic = `topic ${exec.scenario.iterationInTest}`;
  const all = [];
  for (let i = 0; i < SUBSCRIBERS; i++) {
    all.push(
      subscribe(topic, {
        message(text) {
          latency.add(Date.now() - Number(text));
          deliveries.add(1);
        },
        end(why) {
          ended.add(1, { why: String(why) });
        },
      }),
    );
  }
  setTimeout(
    () => all.forEach((one) => one.close()),
    (WARM_UP + SECONDS + 2) * 1000,
  );
}

export async function publishers() {
  const topic = `topic ${Math.floor(Math.random() * TOPICS)}`;
  const response = await publish(topic, String(Date.now()));
  if (response.status !== 200) refused.add(1);
}
