// Runs a script of scripts/load without k6, as far as these scripts go: so that
// each of them is run against the server by a test wherever node is. It has
// k6's modules by name, its executors per-vu-iterations, constant-vus and
// constant-arrival-rate, thresholds, and handleSummary. All virtual users share
// one loop and one instance of the script.
//
//   node --experimental-websocket test/load/k6.mjs SCRIPT [NAME=VALUE …]
//
// Prints the metrics; exit status 99 if a threshold failed, as k6's.
import {AsyncLocalStorage} from "node:async_hooks";
import {register} from "node:module";
import path from "node:path";
import {pathToFileURL} from "node:url";

const [script, ...settings] = process.argv.slice(2);
const user = new AsyncLocalStorage(); // {scenario, iteration} of who runs

globalThis.__ENV = Object.fromEntries(
	settings.map((one) => /^([^=]*)=(.*)$/s.exec(one).slice(1)));
globalThis.__VU = 1;

// --- metrics -----------------------------------------------------------------

const samples = new Map(); // by name: [{value, tags}]

class Metric {
	constructor(name) {
		this.name = name;
		samples.set(name, []);
	}

	add(value, tags = {}) {
		samples.get(this.name).push({value, tags});
	}
}

function quantile(sorted, part) {
	const at = part * (sorted.length - 1);
	const low = Math.floor(at);
	const high = Math.ceil(at);

	return sorted[low] + (sorted[high] - sorted[low]) * (at - low);
}

function valuesOf(name) {
	const [, metric, tag, wanted] = /^([^{]*)(?:{(.*?):(.*)})?$/.exec(name);
	const all = (samples.get(metric) ?? [])
		.filter(({tags}) => !tag || String(tags[tag]) === wanted)
		.map(({value}) => Number(value)).sort((a, b) => a - b);
	const sum = all.reduce((a, b) => a + b, 0);

	return {
		count: sum, sum, rate: sum / all.length, max: all.at(-1) ?? 0,
		...all.length > 0 && {
			avg: sum / all.length, med: quantile(all, 0.5),
			"p(95)": quantile(all, 0.95), "p(99)": quantile(all, 0.99)},
	};
}

function isKept(name, threshold) {
	const [, what, operator, limit] =
		/^(.*?)(==|<=|>=|<|>)(.*)$/.exec(threshold.replaceAll(" ", ""));
	const has = valuesOf(name)[what.replace("p(50)", "med")];

	if (has === undefined || Number.isNaN(has))
		return true; // nothing to judge
	return {
		"==": has === Number(limit), "<": has < limit, ">": has > limit,
		"<=": has <= limit, ">=": has >= limit}[operator];
}

// --- modules -----------------------------------------------------------------

let aborted = false;

function Socket(url, protocols, {headers = {}} = {}) {
	const {"Sec-WebSocket-Protocol": protocol, ...others} = headers;
	return new WebSocket(url, {
		headers: others, ...protocol && {protocols: [protocol]}});
}

async function asyncRequest(method, url, body, {headers} = {}) {
	const response = await fetch(url, {method, body, headers});
	return {status: response.status, body: await response.text()};
}

async function open(url, {headers}, setup) {
	const handlers = {};
	const controller = new AbortController();

	setup({
		on: (name, handler) => { handlers[name] = handler; },
		close: () => controller.abort(),
	});
	const response = await fetch(url, {headers, signal: controller.signal});
	try {
		handlers.open?.();
		let event = {};
		let rest = "";
		for await (const part of response.body.pipeThrough(
			new TextDecoderStream())) {
			const lines = (rest + part).split("\n");
			rest = lines.pop();
			for (const line of lines) {
				const [, name, text] = /^([^:]*):? ?(.*)$/.exec(line);
				if (name !== "")
					event[name === "event" ? "name" : name] = text;
				if (line !== "")
					continue;
				if (!controller.signal.aborted)
					handlers.event?.(event);
				event = {};
			}
		}
	} catch (error) {
		if (!controller.signal.aborted)
			handlers.error?.({error: () => String(error)});
	}
	return {status: response.status};
}

const modules = {
	"k6": {check(value, all) {
		return Object.values(all).every((holds) => holds(value));
	}},
	"k6/http": {default: {asyncRequest}},
	"k6/encoding": {default: {b64encode: btoa}},
	"k6/websockets": {WebSocket: Socket},
	"k6/metrics": {Counter: Metric, Trend: Metric, Rate: Metric},
	"k6/execution": {default: {
		scenario: {
			get name() { return user.getStore().name; },
			get iterationInTest() { return user.getStore().iteration; },
		},
		test: {abort() { aborted = true; }},
	}},
	"k6/x/sse": {default: {open}},
};
globalThis.k6modules = modules;

const hooks = `
let names;
export function initialize(all) { names = all; }
export function resolve(name, context, next) {
	return name in names ? {url: "k6module:" + name, shortCircuit: true}
		: next(name, context);
}
export function load(url, context, next) {
	if (!url.startsWith("k6module:")) return next(url, {...context,
		...url.includes("/scripts/load/") && {format: "module"}});
	const name = url.slice("k6module:".length);
	return {format: "module", shortCircuit: true, source:
		"const m = globalThis.k6modules[" + JSON.stringify(name) + "];" +
		names[name].map((one) => one === "default"
			? "export default m.default;"
			: "export const " + one + " = m." + one + ";").join("")};
}`;
register("data:text/javascript," + encodeURIComponent(hooks), {
	data: Object.fromEntries(Object.entries(modules)
		.map(([name, all]) => [name, Object.keys(all)]))});

// --- running -----------------------------------------------------------------

const seconds = (text = "0s") => Number(/^([0-9.]+)s$/.exec(text)[1]);
const wait = (s) => new Promise((done) => setTimeout(done, s * 1000));

async function runScenario(name, how, exports, begun) {
	const run = exports[how.exec ?? "default"];
	const as = (iteration) => user.run({name, iteration}, run);
	const isOver = () => aborted ||
		performance.now() - begun > 1000 * seconds(how.duration);

	await wait(seconds(how.startTime));
	begun = performance.now();
	if (aborted)
		return;
	if (how.executor === "per-vu-iterations") {
		await Promise.all(Array.from({length: how.vus}, async (_, vu) => {
			for (let i = 0; i < how.iterations; i++)
				await as(vu * how.iterations + i);
		}));
	} else if (how.executor === "constant-vus") {
		await Promise.all(Array.from({length: how.vus}, async () => {
			while (!isOver())
				await as(0);
		}));
	} else if (how.executor === "constant-arrival-rate") {
		const all = [];
		while (!isOver()) {
			const due = how.rate * (performance.now() - begun) / 1000;
			while (all.length < due)
				all.push(as(all.length));
			await wait(0.005);
		}
		await Promise.all(all);
	} else {
		throw new Error(`there is no executor ${how.executor}`);
	}
}

const exports = await import(pathToFileURL(path.resolve(script)).href);
const {scenarios, thresholds} = exports.options;
const metrics = {};

function judge() {
	let isFine = true;

	for (const [name, all] of Object.entries(thresholds)) {
		metrics[name] = {values: valuesOf(name), thresholds: {}};
		for (const one of all) {
			const text = one.threshold ?? one;
			const ok = isKept(name, text);
			metrics[name].thresholds[text] = {ok};
			isFine &&= ok;
			aborted ||= !ok && one.abortOnFail === true;
		}
	}
	return isFine;
}

const judging = setInterval(judge, 500);
const begun = performance.now();
await Promise.race([
	Promise.all(Object.entries(scenarios).map(([name, how]) =>
		runScenario(name, how, exports, begun))),
	new Promise((stop) => {
		const looking = setInterval(() => aborted && stop(), 100);
		looking.unref();
	}),
]);
// What is still open lives as long as k6 would let it, or until all is fine.
const end = Math.max(...Object.values(scenarios).map((how) =>
	seconds(how.startTime) + seconds(how.maxDuration ?? how.duration)));
while (!aborted && !judge() && performance.now() - begun < end * 1000)
	await wait(0.1);
clearInterval(judging);
const isFine = judge();
if (exports.handleSummary) {
	process.stdout.write(exports.handleSummary({metrics}).stdout);
} else {
	for (const [name, {values, thresholds: all}] of Object.entries(metrics))
		for (const [text, {ok}] of Object.entries(all))
			console.log(ok ? "ok  " : "FAIL", name, text, JSON.stringify(values));
}
process.exit(isFine ? 0 : 99);
