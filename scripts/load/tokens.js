// CLIENTS sessions of isimud.v1 come with tokens, of which every fourth is a
// bad one: BAD_TOKEN has to be closed with 4401, GOOD_TOKEN to be let in. The
// server has AUTH_URL; load.sh gives it an authority that knows these two.
import { Counter, Trend } from "k6/metrics";
import { number, session, subscribeTo } from "./common.js";

const USERS = 10;
const CLIENTS = number("CLIENTS", 200);
const EACH = Math.ceil(CLIENTS / USERS / 4) * 4;
const ROUNDS = number("ROUNDS", 3);
const GOOD = __ENV.GOOD_TOKEN || "good";
const BAD = __ENV.BAD_TOKEN || "bad";
const ALL = EACH * USERS * ROUNDS;

const admitted = new Counter("admitted");
const denied = new Counter("denied");
const wrong = new Counter("wrong_answers");
const answered = new Trend("answered_after", true);

export const options = {
  scenarios: {
    tokens: {
      executor: "per-vu-iterations",
      vus: USERS,
      iterations: ROUNDS,
      maxDuration: "30s",
      gracefulStop: "0s",
    },
  },
  thresholds: {
    admitted: [`count==${(ALL / 4) * 3}`],
    denied: [`count==${ALL / 4}`],
    wrong_answers: ["count==0"],
    answered_after: ["p(95)<3000"],
  },
  summaryTrendStats: ["med", "p(95)", "p(99)", "max"],
};

export default function () {
  for (let i = 0; i < EACH; i++) {
    const isBad = i % 4 === 0;
    const begun = Date.now();
    const one = session(
      [subscribeTo("tokens")],
      {
        subscribed() {
          answered.add(Date.now() - begun);
          (isBad ? wrong : admitted).add(1);
          one.close();
        },
        error: ({ code }) => wrong.add(1, { code }),
        failed: (why) => wrong.add(1, { why: String(why) }),
        end(code) {
          answered.add(Date.now() - begun);
          if (isBad && code === 4401) denied.add(1);
          else wrong.add(1, { code: String(code) });
        },
      },
      isBad ? BAD : GOOD,
    );
  }
}
