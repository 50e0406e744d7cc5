// How fast publications are answered: PUBLISHERS connections, each with one
// request under way at a time, for SECONDS.
import { check } from "k6";
import { number, publish, SECONDS } from "./common.js";

export const options = {
  scenarios: {
    publish: {
      executor: "constant-vus",
      vus: number("PUBLISHERS", 16),
      duration: `${SECONDS}s`,
      gracefulStop: "5s",
    },
  },
  thresholds: {
    checks: ["rate==1"],
    http_req_failed: ["rate==0"],
    http_req_duration: ["p(95)<100", "p(99)<250"],
  },
  summaryTrendStats: ["avg", "med", "p(95)", "p(99)", "max"],
};

export default async function () {
  const response = await publish(`topic ${__VU}`, "x".repeat(64));
  check(response, { "answered 200": (r) => r.status === 200 });
}
