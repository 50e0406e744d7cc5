// A ramp that finds the limit: SESSIONS sessions of isimud.v1 read one topic,
// and the rate of publications grows by GROWTH with each step of STEP_SECONDS,
// from FIRST_RATE on. The last step whose p99 of delivery latency was below
// LIMIT_MS, with all its publications made and answered, is the limit. It is
// told at the end; that a threshold fails (status 99) means that it was found.
import exec from "k6/execution";
import { Counter, Trend } from "k6/metrics";
import { number, once, publish, session, subscribeTo } from "./common.js";

const USERS = 10;
const EACH = Math.ceil(number("SESSIONS", 200) / USERS);
const FIRST = number("FIRST_RATE", 100);
const GROWTH = number("GROWTH", 1.5);
const STEPS = number("STEPS", 12);
const STEP = number("STEP_SECONDS", 5);
const LIMIT_MS = number("LIMIT_MS", 100);
const WARM_UP = 2;

const latency = new Trend("delivery_latency", true);
const failed = new Counter("failed");

const rates = Array.from({ length: STEPS }, (_, i) =>
  Math.round(FIRST * GROWTH ** i),
);

export const options = {
  scenarios: {
    sessions: once("sessions", USERS, WARM_UP + STEPS * STEP + 1),
  },
  thresholds: {
    failed: [{ threshold: "count==0", abortOnFail: true }],
  },
  summaryTrendStats: ["med", "p(95)", "p(99)", "max"],
};

rates.forEach((rate, step) => {
  options.scenarios[`step${step}`] = {
    executor: "constant-arrival-rate",
    exec: "publisher",
    rate,
    timeUnit: "1s",
    duration: `${STEP}s`,
    startTime: `${WARM_UP + step * STEP}s`,
    preAllocatedVUs: 10,
    maxVUs: 100,
    gracefulStop: "1s",
    tags: { step: String(step) },
  };
  // Judged once its messages are there: one late step is the end.
  options.thresholds[`delivery_latency{step:${step}}`] = [
    { threshold: `p(99)<${LIMIT_MS}`, abortOnFail: true },
  ];
  options.thresholds[`dropped_iterations{step:${step}}`] = [
    { threshold: "count==0", abortOnFail: true },
  ];
});

export function sessions() {
  const all = [];
  for (let i = 0; i < EACH; i++) {
    all.push(
      session([subscribeTo("limit")], {
        message({ data }) {
          latency.add(Date.now() - data.at, { step: data.step });
        },
        error: ({ code }) => failed.add(1, { code }),
        failed: (why) => failed.add(1, { why: String(why) }),
        end: (code) => failed.add(1, { code: String(code) }),
      }),
    );
  }
  setTimeout(
    () => all.forEach((one) => one.close()),
    (WARM_UP + STEPS * STEP) * 1000,
  );
}

export async function publisher() {
  const step = exec.scenario.name.slice("step".length);
  const data = { at: Date.now(), step };
  const response = await publish("limit", data);
  if (response.status !== 200) failed.add(1);
}

export function handleSummary({ metrics }) {
  const has = (step) =>
    Object.entries(metrics)
      .filter(([name]) => name.endsWith(`{step:${step}}`))
      .every(([, metric]) =>
        Object.values(metric.thresholds || {}).every(({ ok }) => ok),
      );
  const came = (step) => {
    const metric = metrics[`delivery_latency{step:${step}}`];
    return metric && metric.values.max > 0;
  };
  let text = `sessions: ${EACH * USERS}\n`;
  let limit = 0;
  rates.every((rate, step) => {
    if (!came(step)) return false;
    const { values } = metrics[`delivery_latency{step:${step}}`];
    text +=
      `${rate}/s: p50 ${values.med.toFixed(1)} ms, ` +
      `p99 ${values["p(99)"].toFixed(1)} ms${has(step) ? "" : " (too late)"}\n`;
    if (has(step)) limit = rate;
    return has(step);
  });
  const most = rates[STEPS - 1];
  text +=
    limit === most
      ? `limit: above ${most} publications/s\n`
      : `limit: ${limit} publications/s\n`;
  return { stdout: text };
}
