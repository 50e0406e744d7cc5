/* console.js - the console: what /metrics and /status say, each second, as
 * pictures, behind what /status/recent has kept; topics; a place to try. */
import {connect} from "./isimud.js";

const SAMPLES_MAX = 600; /* 10 minutes, one each second */
const WINDOW = 5; /* seconds of deliveries that a percentile is of */
const PAGE_ROWS = 25;
const PAGES_MAX = 20; /* of 1,000 topics, that are looked at */
const LOG_MAX = 200;

const $ = (id) => document.getElementById(id);

/* An element with its attributes and children. */
function make(name, attributes = {}, ...children) {
	const element = document.createElement(name);

	for (const [key, value] of Object.entries(attributes))
		element.setAttribute(key, value);
	element.append(...children);
	return element;
}

function draw(name, attributes = {}, text = "") {
	const element = document.createElementNS("http://www.w3.org/2000/svg",
		name);

	for (const [key, value] of Object.entries(attributes))
		element.setAttribute(key, value);
	element.textContent = text;
	return element;
}

/* --- numbers for people --------------------------------------------------- */

function count(value) {
	if (value >= 1e6)
		return (value / 1e6).toFixed(value < 1e7 ? 2 : 1) + " M";
	if (value >= 1e5)
		return (value / 1e3).toFixed(0) + " k";
	return value >= 10 || Number.isInteger(value)
		? Math.round(value).toLocaleString("en") : value.toFixed(1);
}

function several(value, noun) {
	return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

function bytes(value) {
	const units = ["B", "KiB", "MiB", "GiB", "TiB"];
	let unit = 0;

	for (; value >= 1024 && unit < units.length - 1; unit++)
		value /= 1024;
	return (unit === 0 || value >= 100 ? value.toFixed(0)
		: value.toFixed(1)) + " " + units[unit];
}

function duration(seconds) {
	if (seconds >= 1)
		return seconds.toFixed(2) + " s";
	if (seconds >= 0.01)
		return (seconds * 1000).toFixed(0) + " ms";
	return seconds >= 0.001 ? (seconds * 1000).toFixed(1) + " ms"
		: (seconds * 1e6).toFixed(0) + " µs";
}

function span(seconds) {
	const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
	const at = parts.findIndex(([size]) => seconds >= size);
	const found = parts.slice(at < 0 ? 3 : at, (at < 0 ? 3 : at) + 2);

	return found.map(([size, unit], i) => `${Math.floor(i === 0
		? seconds / size : seconds % found[0][0] / size)} ${unit}`).join(" ");
}

/* The next of 1, 2, 5 times a power of ten, or of two for bytes. */
function nice(value, format) {
	if (format === bytes) {
		const unit = 1024 ** Math.floor(Math.log2(value) / 10);
		return [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
			.map((n) => n * unit).find((top) => top >= value);
	}
	const power = 10 ** Math.floor(Math.log10(value));
	return [1, 2, 5, 10].map((n) => n * power)
		.find((top) => top >= value * 0.9999);
}

/* --- what the server says ------------------------------------------------- */

/* Prometheus's text, as a map from names with labels to numbers. */
function parse(text) {
	const found = new Map();

	for (const line of text.split("\n")) {
		const at = line.lastIndexOf(" ");
		if (at > 0 && line[0] !== "#")
			found.set(line.slice(0, at), Number(line.slice(at + 1)));
	}
	return found;
}

/* The samples of a name: [labels, value]. */
function all(metrics, name) {
	const found = [];

	for (const [key, value] of metrics ?? [])
		if (key.startsWith(name) &&
		    (key.length === name.length || key[name.length] === "{"))
			found.push([key.slice(name.length), value]);
	return found;
}

function sum(metrics, name, label = "") {
	return all(metrics, name).reduce((total, [labels, value]) =>
		labels.includes(label) ? total + value : total, 0);
}

function most(metrics, name) {
	return Math.max(0, ...all(metrics, name).map(([, value]) => value));
}

/* {time, metrics or null, run: of the server; past: what the server has kept of
 * the time before the page was opened} */
const samples = [];
let status = null;
let awaySince = null;

function last(back = 0) {
	return samples[samples.length - 1 - back]?.metrics ?? null;
}

/* How much a counter grew in the last `seconds`; null: nobody knows. */
function grown(index, name, seconds, label) {
	const now = samples[index];
	const before = samples[Math.max(0, index - seconds)];

	if (!now?.metrics || !before?.metrics || now.run !== before.run)
		return null;
	const passed = (now.time - before.time) / 1000;
	return passed <= 0 ? null : (sum(now.metrics, name, label) -
		sum(before.metrics, name, label)) / passed;
}

function rate(name, label) {
	return (index) => grown(index, name, 1, label);
}

/* Of the deliveries of the last seconds, by their buckets. */
function percentile(part) {
	const name = "isimud_delivery_seconds_bucket";

	return (index) => {
		const now = samples[index];
		const before = samples.slice(Math.max(0, index - WINDOW), index)
			.find(({metrics}) => metrics);
		if (!now?.metrics || now.run !== before?.run)
			return null;
		const bounds = all(now.metrics, name).map(([labels, value]) => ({
			bound: labels.includes("+Inf") ? Infinity
				: Number(/"([^"]*)"/.exec(labels)[1]),
			value: value - before.metrics.get(name + labels)}));
		const total = bounds.at(-1)?.value;
		if (!total)
			return null;
		const at = bounds.findIndex(({value}) => value >= part * total);
		const low = at === 0 ? {bound: 0, value: 0} : bounds[at - 1];
		const high = bounds[at];
		if (high.bound === Infinity)
			return low.bound;
		return low.bound + (high.bound - low.bound) *
			(part * total - low.value) / (high.value - low.value || 1);
	};
}

function gauge(name, label) {
	return (index) => samples[index].metrics &&
		sum(samples[index].metrics, name, label);
}

/* What the server has kept of a figure, else as the page sees it. */
function kept(name, seen) {
	return (index) => samples[index].past ? samples[index].past[name]
		: seen(index);
}

/* --- charts --------------------------------------------------------------- */

const subscribers = (index) => samples[index].metrics &&
	sum(samples[index].metrics, "isimud_connections", '"websocket"') +
	sum(samples[index].metrics, "isimud_connections", '"event_stream"');

/* `curves`: [name, value of a sample]; `limit`: a value that is drawn. */
const charts = [
	{id: "subscribers", title: "Subscribers", format: count,
		curves: [["", kept("subscribers", subscribers)]],
		more: () => several(sum(last(), "isimud_topics"), "topic")},
	{id: "publications", title: "Publications a second", format: count,
		curves: [["", kept("publications",
			rate("isimud_publishes_total", '"ok"'))]]},
	{id: "deliveries", title: "Deliveries a second", format: count,
		curves: [["", kept("deliveries", rate("isimud_deliveries_total"))]]},
	{id: "latency", title: "Delivery latency", format: duration,
		curves: [["p50", kept("latency_p50", percentile(0.5))],
			["p99", kept("latency_p99", percentile(0.99))]]},
	{id: "buffered", title: "Buffered for subscribers", format: bytes,
		curves: [["all", kept("buffered", gauge("isimud_buffered_bytes"))],
			["worst connection", kept("buffered_worst", (index) =>
				samples[index].metrics && most(samples[index].metrics,
					"isimud_buffered_worst_bytes"))]]},
	{id: "memory", title: "Memory", format: bytes,
		curves: [["used", kept("memory",
			gauge("isimud_memory_used_bytes"))]],
		limit: () => sum(last(), "isimud_memory_limit_bytes"),
		more: (limit) => limit ? `of ${bytes(limit)}` : "no limit"},
	{id: "lag", title: "Loop lag by worker", format: duration, curves: [],
		more: () => "the worst of " +
			several(all(last(), "isimud_last_loop_lag_seconds").length,
				"worker")},
	{id: "sent", title: "Bytes a second", format: bytes,
		curves: [["sent", kept("sent", rate("isimud_sent_bytes_total"))],
			["received", kept("received",
				rate("isimud_received_bytes_total"))]]},
];

const LEFT = 4;
const TOP = 14;
/* Seconds that are drawn: no more than are needed, so that a page that was just
 * opened is no empty one. */
const SPANS = [60, 120, 300, SAMPLES_MAX];

function drawn() {
	return SPANS.find((seconds) => seconds >= samples.length);
}

function makeChart(chart) {
	chart.now = make("p", {class: "now"});
	chart.svg = draw("svg", {role: "img", tabindex: 0});
	chart.read = make("p", {class: "read", "aria-live": "polite"});
	chart.at = null;
	const figure = make("figure", {id: `chart-${chart.id}`},
		make("figcaption", {}, chart.title), chart.now, chart.svg, chart.read);

	const point = (index) => {
		chart.at = index === null ? null
			: Math.min(drawn() - 1, Math.max(0, index));
		drawChart(chart);
	};
	chart.svg.addEventListener("pointermove", (event) => {
		const box = chart.svg.getBoundingClientRect();
		point(Math.round((event.clientX - box.left) / box.width * drawn()));
	});
	chart.svg.addEventListener("pointerleave", () => point(null));
	chart.svg.addEventListener("blur", () => point(null));
	chart.svg.addEventListener("keydown", ({key}) => {
		const step = {ArrowLeft: -1, ArrowRight: 1}[key];
		if (step)
			point((chart.at ?? drawn() - 1) + step * drawn() / 60);
		if (key === "Escape")
			point(null);
	});
	$("charts").append(figure);
}

/* One curve a worker: of how many there are, the server knows. */
function findWorkers() {
	const lag = charts.find(({id}) => id === "lag");

	lag.curves = all(last(), "isimud_last_loop_lag_seconds").map(
		([labels], worker) => ["", (index) => samples[index].past
			? samples[index].past.lag[worker] ?? null
			: samples[index].metrics && (samples[index].metrics.get(
				"isimud_last_loop_lag_seconds" + labels) ?? null)]);
}

function drawChart(chart) {
	const {format} = chart;
	const seconds = drawn();
	const first = seconds - samples.length; /* empty ones before */
	const series = chart.curves.map(([, value]) =>
		samples.map((_, index) => value(index)));
	const limit = chart.limit?.() || 0;
	const known = series.flat().filter((value) => value !== null);
	const top = nice(Math.max(...known, limit,
		format === duration ? 0.001 : format === bytes ? 1024 : 2), format);
	const pixels = chart.svg.clientWidth;
	const height = chart.svg.clientHeight;
	const bottom = height - 18;
	const x = (index) => LEFT + (first + index) / (seconds - 1) *
		(pixels - 2 * LEFT);
	const y = (value) => bottom - value / top * (bottom - TOP);
	const parts = [];

	if (pixels === 0) /* not to be seen */
		return;
	chart.svg.setAttribute("viewBox", `0 0 ${pixels} ${height}`);
	for (const part of [0, 0.5, 1]) {
		const at = Math.round(y(part * top)) + 0.5;
		parts.push(draw("line", {class: "grid", x1: LEFT,
			x2: pixels - LEFT, y1: at, y2: at}));
		parts.push(draw("text", {x: LEFT, y: at - 3},
			part === 0 ? "0" : format(part * top)));
	}
	for (const [text, at, anchor] of [
		[`${seconds / 60} min ago`, LEFT, "start"],
		[seconds === 60 ? "30 s" : `${seconds / 120} min`, pixels / 2,
			"middle"], ["now", pixels - LEFT, "end"]])
		parts.push(draw("text", {x: at, y: height - 4,
			"text-anchor": anchor}, text));
	series.forEach((values, which) => {
		let line = "";
		let area = "";
		let from = null;
		const close = (index) => {
			if (from !== null && which === 0 && series.length === 1)
				area += `L${x(index - 1).toFixed(1)} ${bottom}` +
					`L${x(from).toFixed(1)} ${bottom}Z`;
			from = null;
		};
		values.forEach((value, index) => {
			if (value === null)
				return close(index);
			const point = `${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
			line += (from === null ? "M" : "L") + point;
			area += (from === null ? "M" : "L") + point;
			/* One alone is seen, too. */
			if (from === null && (values[index + 1] ?? null) === null)
				line += "h1";
			from ??= index;
		});
		close(values.length);
		if (series.length === 1)
			parts.push(draw("path", {class: "area", d: area}));
		parts.push(draw("path", {class: `curve s${which % 3}`, d: line}));
	});
	if (limit)
		parts.push(draw("line", {class: "curve limit", x1: LEFT,
			x2: pixels - LEFT, y1: y(limit), y2: y(limit)}));

	const texts = (index) => series.map((values, which) => {
		const [name] = chart.curves[which];
		const value = values[index] ?? null;
		return [name, value === null ? "–" : format(value)];
	});
	const newest = samples.length - 1;
	if (chart.id === "lag") {
		chart.now.replaceChildren(make("b", {}, format(Math.max(0,
			...series.map((values) => values[newest] ?? 0)))),
		make("span", {}, chart.more()));
	} else {
		const now = texts(newest);
		const isMany = now.length > 1;
		chart.now.replaceChildren(...now.map(([name, text]) => isMany
			? make("span", {}, make("i"), name + " ", make("b", {}, text))
			: make("b", {}, text)));
		if (chart.more)
			chart.now.append(make("span", {}, chart.more(limit)));
	}

	const index = chart.at === null ? null : Math.round(chart.at - first);
	if (index !== null && samples[index]) {
		const at = x(index);
		parts.push(draw("line", {class: "at", x1: at, x2: at, y1: TOP,
			y2: bottom}));
		const values = texts(index).map(([name, text]) =>
			name ? `${name} ${text}` : text).slice(0, 8);
		chart.read.textContent = new Date(samples[index].time)
			.toLocaleTimeString() + ": " + values.join(", ");
	} else {
		chart.read.textContent = "";
	}
	chart.svg.setAttribute("aria-label", `${chart.title}: now ` +
		`${chart.now.textContent}; the axis is from 0 to ${format(top)}. ` +
		"Left and right tell earlier values.");
	chart.svg.replaceChildren(...parts);
}

/* --- endings and refusals --------------------------------------------------- */

const REFUSALS = [
	["Subscribers told to come back later", "isimud_connections_refused_total"],
	["Publications: wrong credentials", "isimud_publishes_total", '"denied"'],
	["Publications: not acceptable", "isimud_publishes_total", '"invalid"'],
	["Publications: no room", "isimud_publishes_total", '"full"'],
	["Wrong passwords", "isimud_passwords_wrong_total"],
	["Hosts not allowed", "isimud_host_refused_total"],
	["Origins not allowed", "isimud_origin_refused_total"],
	["Tokens: the authority said no", "isimud_auth_checks_total", '"no"'],
	["Tokens: no answer", "isimud_auth_checks_total", '"failed"'],
	["Tokens: too many at once", "isimud_auth_checks_total", '"busy"'],
	["Commands answered with an error", "isimud_command_errors_total"],
	["Resumes with a loss", "isimud_resumes_total", '"reset"'],
	["Messages dropped for slow subscriptions", "isimud_dropped_total"],
	["Losses while catching up", "isimud_replay_lost_total"],
	["Lines dropped from the log", "isimud_log_dropped_total"],
];

function inLastMinute(name, label) {
	const index = samples.length - 1;
	const from = samples.findIndex((sample) => sample.metrics &&
		sample.run === samples[index].run &&
		sample.time >= samples[index].time - 60500);

	if (!last() || from < 0)
		return null;
	return sum(last(), name, label) - sum(samples[from].metrics, name, label);
}

function showRows(body, rows) {
	const seen = rows.filter(({total}) => total > 0);

	body.replaceChildren(...seen.map(({text, name, label, total}) =>
		make("tr", {}, make("td", {}, text),
			make("td", {class: "number"}, count(inLastMinute(name, label) ?? 0)),
			make("td", {class: "number"}, total.toLocaleString("en")))));
	if (seen.length === 0)
		body.append(make("tr", {class: "none"},
			make("td", {colspan: 3}, "None.")));
}

function showEnds() {
	const closed = "isimud_connections_closed_total";

	showRows($("endings"), all(last(), closed).map(([label, total]) => ({
		text: /"([^"]*)"/.exec(label)[1].replaceAll("_", " "),
		name: closed, label, total}))
		.sort((a, b) => b.total - a.total));
	showRows($("refusals"), [
		...REFUSALS.map(([text, name, label]) =>
			({text, name, label, total: sum(last(), name, label)})),
		...all(last(), "isimud_http_responses_total")
			.filter(([label]) => /"[45]/.test(label))
			.map(([label, total]) => ({
				text: "Answers with status " + /\d+/.exec(label)[0],
				name: "isimud_http_responses_total", label, total})),
	]);
}

/* --- the rest of the figures ------------------------------------------------ */

function facts(list, pairs) {
	list.replaceChildren(...pairs.map(([name, value]) => make("div", {},
		make("dt", {}, name), make("dd", {}, value))));
}

/* What of a node among several is told: text, metric without "isimud_bus_",
 * how it is written. */
const OF_NODE = [
	["Nodes, this one included", "nodes", count],
	["The log takes publications", "up", (value) => value ? "yes" : "no"],
	["Behind the log for", "lag_seconds", duration],
	["Waiting for the log", "pending_bytes", bytes],
	["Records read", 'records_total{direction="in"}', count],
	["Records written", 'records_total{direction="out"}', count],
	["Publications read", 'publications_total{direction="in"}', count],
	["Publications written", 'publications_total{direction="out"}', count],
	["Last record applied", "applied_sequence", count],
	["Times that all began anew", "epochs_total", count],
	["Records lost before they were read", "lost_records_total", count],
	["Reading up at the last join", "warm_up_seconds", duration],
];

function showNodes() {
	const found = OF_NODE.map(([text, name, format]) =>
		[text, last()?.get("isimud_bus_" + name), format])
		.filter(([, value]) => value !== undefined);

	$("nodes").hidden = found.length === 0;
	facts($("nodes").querySelector("dl"), found.map(
		([text, value, format]) => [text, format(value)]));
}

function showSettings() {
	$("settings-rows").replaceChildren(...Object.entries(status.settings).map(
		([name, value]) => make("tr", {class: value === null ? "none" : ""},
			make("td", {}, make("code", {}, name)),
			make("td", {}, value === null ? "not set"
				: make("code", {}, value)))));
}

function showState() {
	const isAway = awaySince !== null;

	$("state").textContent = isAway ? "away" : status?.state ?? "connecting";
	$("state").className = isAway ? "bad"
		: status?.state === "ready" ? "good" : "";
	$("away").hidden = !isAway;
	if (isAway && $("away").textContent === "")
		$("away").textContent = "The server has not answered since " +
			new Date(awaySince).toLocaleTimeString() +
			". It is asked again each second.";
	if (!isAway)
		$("away").textContent = "";
	if (isAway || !status)
		return;
	const workers = sum(last(), "isimud_workers");
	$("about").textContent = `${status.version} · up for ` +
		`${span(Date.now() / 1000 - status.started)} · ${workers} ` +
		(workers === 1 ? "worker" : "workers");
	document.title = `${location.hostname} · isimud`;
}

/* --- views ------------------------------------------------------------------ */

const VIEWS = ["live", "topics", "topic", "ends", "try", "settings"];
let view = "live";

function show() {
	if (view === "live") {
		charts.forEach(drawChart);
		showNodes();
	} else if (view === "ends") {
		showEnds();
	}
}

function go() {
	const [name, ...more] = location.hash.slice(1).split("/");

	view = VIEWS.includes(name) ? name : "live";
	for (const one of VIEWS)
		$(one).hidden = one !== view;
	for (const link of document.querySelectorAll("nav a")) {
		const isIt = link.hash === "#" + view ||
			(view === "topic" && link.hash === "#topics");
		if (isIt)
			link.setAttribute("aria-current", "page");
		else
			link.removeAttribute("aria-current");
	}
	leaveTopic();
	if (view === "topics")
		loadTopics();
	if (view === "topic")
		showTopic(...more.map(decodeURIComponent));
	if (samples.length > 0)
		show();
}

/* --- topics ----------------------------------------------------------------- */

/* At /console the browser has the password; on ADMIN_PORT nobody has. */
const isOnMain = location.pathname.endsWith("/console");
let password = "";
let topics = [];
let page = 0;

function utf8(text) {
	return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

/* For topics: with the password of the form, or that of the browser. */
function ask(target, publisher = "console") {
	return fetch(target, {cache: "no-store", ...password === ""
		? {credentials: isOnMain ? "same-origin" : "omit"}
		: {credentials: "omit", headers: {
			Authorization: "Basic " + utf8(`${publisher}:${password}`)}}});
}

function note(element, text, isWrong = false) {
	element.textContent = text;
	element.classList.toggle("wrong", isWrong);
}

async function loadTopics() {
	const said = $("topics-note");
	const found = [];
	let after = "";

	if (!isOnMain && password === "")
		return note(said, "Names are for those who have the password.");
	try {
		for (let i = 0; i < PAGES_MAX && after !== null; i++) {
			const answer = await ask("topics?all=true&limit=1000" +
				(after && `&after=${after}`));
			const part = await answer.json();
			if (!answer.ok)
				return note(said, part.error, true);
			found.push(...part.topics);
			after = part.next;
		}
	} catch (error) {
		return note(said, error.message, true);
	}
	topics = found.sort((a, b) => b.subscribers - a.subscribers ||
		(a.topic < b.topic ? -1 : 1));
	showTopics(after !== null);
}

function showTopics(isPart = false) {
	const wanted = $("topics-form").search.value.toLowerCase();
	const found = topics.filter(({publisher, topic}) =>
		`${publisher} ${topic}`.toLowerCase().includes(wanted));
	const pages = Math.max(1, Math.ceil(found.length / PAGE_ROWS));

	page = Math.min(page, pages - 1);
	note($("topics-note"), `${found.length.toLocaleString("en")} ` +
		(found.length === 1 ? "topic" : "topics") +
		(wanted && ` of ${topics.length.toLocaleString("en")}`) +
		(isPart ? "; there are more, which were not looked at" : ""));
	$("topics-rows").replaceChildren(...found
		.slice(page * PAGE_ROWS, (page + 1) * PAGE_ROWS)
		.map(({publisher, topic, subscribers, history, id}) => make("tr", {},
			make("td", {}, make("a", {href: "#topic/" +
				encodeURIComponent(publisher) + "/" +
				encodeURIComponent(topic)}, topic || "(empty)")),
			make("td", {}, publisher),
			make("td", {class: "number"}, count(subscribers)),
			make("td", {class: "number"}, count(history)),
			make("td", {class: "id"}, id))));
	$("page").textContent = `Page ${page + 1} of ${pages}`;
	$("before").disabled = page === 0;
	$("behind").disabled = page >= pages - 1;
}

$("topics-form").addEventListener("submit", (event) => {
	event.preventDefault();
	password = $("topics-form").password.value;
	loadTopics();
});
$("topics-form").search.addEventListener("input", () => {
	page = 0;
	showTopics();
});
$("before").addEventListener("click", () => { page--; showTopics(); });
$("behind").addEventListener("click", () => { page++; showTopics(); });

/* --- one topic -------------------------------------------------------------- */

let followed = null; /* the client of the topic's view */
let shown = null; /* {publisher, topic} */

function leaveTopic() {
	followed?.close();
	followed = null;
	shown = null;
}

async function showTopic(publisher = "", topic = "") {
	shown = {publisher, topic};
	$("topic-title").textContent = topic;
	$("topic-log").replaceChildren();
	note($("topic-note"), "");
	facts($("topic-facts"), [["Publisher", publisher]]);
	loadTopic();
	$("topic-form").requestSubmit();
}

async function loadTopic() {
	const {publisher, topic} = shown;
	const known = topics.find((one) => one.publisher === publisher &&
		one.topic === topic);
	let found = known;

	if (password !== "")
		try {
			const answer = await ask("topics/" + encodeURIComponent(topic),
				publisher);
			found = answer.ok ? await answer.json()
				: {subscribers: 0, history: 0, id: "none"};
		} catch {}
	if (shown?.topic === topic && found)
		facts($("topic-facts"), [["Publisher", publisher],
			["Subscribers", count(found.subscribers)],
			["Messages in the history", count(found.history)],
			["Last id", found.id]]);
}

function add(log, title, data, isTold = false) {
	log.prepend(make("li", isTold ? {class: "told"} : {},
		make("small", {}, new Date().toLocaleTimeString()),
		make("code", {}, title), data === undefined ? ""
			: make("pre", {}, typeof data === "string" ? data
				: JSON.stringify(data))));
	while (log.children.length > LOG_MAX)
		log.lastChild.remove();
}

/* What is told of a subscription goes to `log`, how it is to `said`. */
function follow({url, publisher, topic, token, last: wanted}, log, said) {
	const client = connect({url, publisher,
		...token && {token: () => token},
		status(state, {transport, reason}) {
			const how = transport === "stream" ? "an event stream"
				: "a WebSocket";
			note(said, {connecting: `Connecting, by ${how}`,
				open: `Connected, by ${how}`,
				waiting: `Waiting, to try again: ${reason || "no answer"}` +
					". (Is this page's origin in ALLOWED_ORIGINS?)",
				closed: `Closed: ${reason}`}[state],
			state === "waiting");
		}});
	const told = (event) => add(log, event.type + " " + (event.reason ??
		`from ${event.from} to ${event.to}`), undefined, true);

	client.subscribe(topic, {last: wanted,
		message: ({id, event, data}) =>
			add(log, id + (event ? ` (${event})` : ""), data),
		gap: told, reset: told,
		error: (error) => note(said, error.message, true)});
	return client;
}

$("topic-form").addEventListener("submit", (event) => {
	const {url, token} = event.target;

	event.preventDefault();
	followed?.close();
	$("topic-log").replaceChildren();
	followed = follow({...shown, url: url.value, token: token.value, last: 64},
		$("topic-log"), $("topic-note"));
});

/* --- try it ----------------------------------------------------------------- */

let tried = null;

function leave() {
	tried?.close();
	tried = null;
	$("try-leave").disabled = true;
}

$("try-leave").addEventListener("click", leave);
$("try-subscribe").addEventListener("submit", (event) => {
	const form = event.target;

	event.preventDefault();
	leave();
	$("try-log").replaceChildren();
	$("try-leave").disabled = false;
	tried = follow({url: form.url.value, publisher: form.publisher.value,
		topic: form.topic.value, token: form.token.value,
		last: Number(form.last.value)}, $("try-log"), $("try-state"));
});
$("try-publish").addEventListener("submit", async (event) => {
	const {password: secret, data: text, event: type} = event.target;
	const {url, publisher, topic} = $("try-subscribe");
	const said = $("try-receipt");
	let data = text.value;

	event.preventDefault();
	try {
		data = JSON.parse(data);
	} catch {} /* then it is a text */
	note(said, "Publishing");
	const client = connect({url: url.value, publisher: publisher.value,
		password: secret.value, transport: "stream"});
	try {
		const {id, subscribers: number} = await client.publish(topic.value,
			data, {event: type.value || undefined});
		note(said, `Published as ${id}, to ${number} ` +
			(number === 1 ? "subscriber" : "subscribers"));
	} catch (error) {
		note(said, `${error.message} (${error.code})`, true);
	}
	client.close();
});

/* Where subscribers are: here, or at the port that the settings name. */
function findServer() {
	const {LISTEN, PORT} = status.settings;
	const port = LISTEN ? /:(\d+)(,|$)/.exec(LISTEN)?.[1] : PORT;
	const url = isOnMain ? new URL(".", location.href).href
		: `${location.protocol}//${location.hostname}:${port ?? 3000}/`;

	for (const input of document.querySelectorAll("input[name=url]"))
		input.value ||= url;
}

/* --- each second ------------------------------------------------------------ */

async function get(target) {
	const answer = await fetch(target, {cache: "no-store",
		signal: AbortSignal.timeout(5000)});

	if (!answer.ok)
		throw new Error(`${target}: status ${answer.status}`);
	return answer;
}

/* The ten minutes before the first sample, as the server has kept them. */
async function recall() {
	const [first] = samples;
	const {lag, age, ...figures} = await (await get("status/recent")).json();
	const at = (which) => ({lag: lag.map((one) => one[which]),
		...Object.fromEntries(Object.entries(figures).map(
			([name, values]) => [name, values[which]]))});
	const found = [];
	let which = age.length - 1;

	if (which < 0)
		return;
	first.past = at(which);
	for (let ago = 1; ago < SAMPLES_MAX && ago <= age[0] + 1; ago++) {
		while (which > 0 && age[which - 1] <= ago)
			which--;
		found.unshift({time: first.time - 1000 * ago, metrics: null,
			run: first.run, past: at(which)});
	}
	samples.unshift(...found);
}

async function look() {
	const sample = {time: Date.now(), metrics: null, run: null};

	try {
		const [metrics, now] = await Promise.all([get("metrics"),
			get("status")]);
		sample.metrics = parse(await metrics.text());
		status = await now.json();
		sample.run = status.started + status.epoch;
		awaySince = null;
	} catch {
		awaySince ??= sample.time;
	}
	samples.push(sample);
	if (samples.length > SAMPLES_MAX)
		samples.shift();
	if (sample.metrics) {
		findWorkers();
		if (samples.filter((one) => one.metrics).length === 1) {
			findServer();
			showSettings();
			await recall().catch(() => {}); /* the curves begin now */
		}
	}
	showState();
	show();
	if (view === "topic" && shown && password !== "" &&
	    samples.length % 2 === 0)
		loadTopic();
}

async function run() {
	for (;;) {
		const began = Date.now();
		await look();
		await new Promise((next) => {
			setTimeout(next, Math.max(100, began + 1000 - Date.now()));
		});
	}
}

/* Light or dark: as the system is, or as chosen here; kept for the next time. */
function chooseTheme(theme) {
	document.documentElement.dataset.theme = theme;
	$("theme").value = theme;
	try {
		localStorage.setItem("isimud.theme", theme);
	} catch {} /* then it is for this time */
}

function themeBefore() {
	try {
		return localStorage.getItem("isimud.theme") ?? "";
	} catch {
		return "";
	}
}

chooseTheme(themeBefore());
$("theme").addEventListener("change", ({target}) => chooseTheme(target.value));
if (isOnMain)
	document.querySelector(".for-password").hidden = true;
charts.forEach(makeChart);
addEventListener("hashchange", () => { go(); $("main").focus(); });
addEventListener("resize", show);
await look();
go();
run();
