// CLIENTS subscribers lose their connections at once and come back at once,
// STORMS times; the last time each has to receive what is published then.
import { Counter, Trend } from "k6/metrics";
import { number, publish, subscribe } from "./common.js";

const USERS = 10;
const CLIENTS = number("CLIENTS", 1000);
const EACH = Math.ceil(CLIENTS / USERS);
const STORMS = number("STORMS", 5);

const back = new Trend("back_after", true);
const returns = new Counter("returns");
const received = new Counter("messages_received");
const refused = new Counter("connections_refused");

export const options = {
  scenarios: {
    storm: {
      executor: "per-vu-iterations",
      vus: USERS,
      iterations: 1,
      maxDuration: "20s",
      gracefulStop: "0s",
    },
  },
  thresholds: {
    connections_refused: ["count==0"],
    returns: [`count==${EACH * USERS * STORMS}`],
    messages_received: [`count==${EACH * USERS}`],
    back_after: ["p(95)<2000", "max<5000"],
  },
  summaryTrendStats: ["med", "p(95)", "p(99)", "max"],
};

// One virtual user is one crowd: when its last member is back, all go at once.
export default function () {
  storm(1);
}

function storm(round) {
  const topic = `crowd ${__VU}`;
  const crowd = [];
  let here = 0;
  let heard = 0;
  for (let i = 0; i < EACH; i++) {
    const begun = Date.now();
    crowd.push(
      subscribe(topic, {
        subscribed() {
          back.add(Date.now() - begun);
          returns.add(1);
          if (++here < EACH) return;
          if (round === STORMS) {
            publish(topic, "welcome back");
          } else {
            crowd.forEach((one) => one.close());
            storm(round + 1);
          }
        },
        message() {
          received.add(1);
          if (++heard === EACH) crowd.forEach((one) => one.close());
        },
        end() {
          refused.add(1);
        },
      }),
    );
  }
}
