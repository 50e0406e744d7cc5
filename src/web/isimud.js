/* isimud.js - subscribes to topics of an isimud server, from browsers, workers
 * and node 20 or later. README.md beside it says how. MIT licence.
 *
 * A client has one link at a time: a WebSocket that speaks isimud.v1, or, where
 * WebSockets do not get through, event streams. run() makes one after another;
 * subscriptions outlive links, and know the id from which they go on. */

const SUBPROTOCOL = "isimud.v1";
const REFUSALS_MAX = 5; /* tokens in a row */
const PATIENCE_MAX = 32;
const STREAMS_MAX = 4;
const STREAM_TARGET_MAX = 4000; /* characters of topics in one URL */
const FINAL = ["forbidden", "bad_command", "too_many_subscriptions"];

/* `code`: of isimud.v1's errors, a close code, an HTTP status, or "timeout",
 * "closed", "unknown_outcome". */
export class IsimudError extends Error {
	constructor(code, message) {
		super(message);
		this.name = "IsimudError";
		this.code = code;
	}
}

export function connect(options) {
	return new Client(options);
}

/* What ask(signal) comes to, or a "timeout". */
function within(ms, ask) {
	const abort = new AbortController();
	let timer;
	const late = new Promise((_, fail) => {
		timer = setTimeout(() => {
			abort.abort();
			fail(new IsimudError("timeout", `no answer in ${ms} ms`));
		}, ms);
	});
	const asked = (async () => ask(abort.signal))();
	return Promise.race([asked, late]).finally(() => clearTimeout(timer));
}

function report(error) {
	console.error("isimud:", error);
}

function basic(publisher, password) {
	const bytes = new TextEncoder().encode(`${publisher}:${password}`);
	return "Basic " + btoa(String.fromCharCode(...bytes));
}

/* Ids are EPOCH-SEQ, of 16 digits and a number. */
function isSameEpoch(a, b) {
	return a.slice(0, 17) === b.slice(0, 17);
}

function isAtMost(a, b) {
	return isSameEpoch(a, b) && Number(a.slice(17)) <= Number(b.slice(17));
}

function keyOf(publisher, topic) {
	return JSON.stringify([publisher, topic]);
}

class Subscription {
	#client;
	#options;
	#held = null; /* messages that wait for a snapshot */
	#asking; /* the newest call of snapshot() */
	#queue = null; /* for the iterator */
	#next = null; /* wakes it */
	#failure;
	isClosed = false;
	/* Up to where all has come: from here a next link goes on. */
	id;

	constructor(client, topic, options) {
		this.#client = client;
		this.#options = options;
		this.topic = topic;
		this.publisher = options.publisher;
		this.last = options.last;
		this.slow = options.slow;
		this.id = options.since;
		this.isLive = false; /* on the link that there is */
		if (!options.message)
			this.#queue = [];
	}

	/* Resolves once it may be subscribed. */
	async begin() {
		if (this.#options.snapshot)
			await this.#ask();
	}

	/* The link has it. `resumed`: whether all came from `this.id` on. */
	joined(id, resumed) {
		const isNew = !this.id;

		this.isLive = true;
		if (resumed === false)
			return this.reset({id});
		this.id = id;
		if (isNew && this.#options.snapshot) /* it may be of before */
			this.#ask();
	}

	receive(message) {
		if (this.id && isAtMost(message.id, this.id))
			return;
		this.id = message.id;
		if (!this.#held)
			return this.#tell(message);
		this.#held.push(message);
		if (this.#held.length > this.#options.buffer)
			this.#ask(); /* the next one has them */
	}

	gap(gap) {
		if (isAtMost(gap.to, this.id))
			return;
		this.id = gap.to;
		this.#tell(gap);
		if (this.#options.snapshot)
			this.#ask();
	}

	/* Messages up to `id` will not come, those above it will. */
	reset({id, reason = "messages were lost"}) {
		const {publisher, topic} = this;

		this.id = id;
		this.#tell({type: "reset", publisher, topic, id, reason});
		if (this.#options.snapshot)
			this.#ask();
	}

	/* Asks for the state. What it was asked after is in it, so what is held
	 * is dropped; what comes meanwhile is held. The newest call counts. */
	async #ask() {
		const {snapshot, timeout} = this.#options;
		const mine = this.#asking = {};

		this.#held = [];
		for (let tries = 0; this.#asking === mine && !this.isClosed; tries++) {
			try {
				const {state, id = null} = await within(timeout, snapshot);
				if (this.#asking === mine && !this.isClosed)
					this.#begin(state, id);
				return;
			} catch (error) {
				if (this.#asking !== mine || this.isClosed)
					return;
				this.#fail(error);
				await this.#client.pause(tries);
			}
		}
	}

	#begin(state, id) {
		const {publisher, topic} = this;
		const held = this.#held;

		this.#held = null;
		if (id && (!this.id || isAtMost(this.id, id)))
			this.id = id;
		this.#tell({type: "state", publisher, topic, id, state});
		for (const message of held)
			if (!id || !isAtMost(message.id, id))
				this.#tell(message);
	}

	#tell(event) {
		if (this.isClosed)
			return;
		try {
			this.#options[event.type]?.(event);
		} catch (error) {
			this.#fail(error);
		}
		if (!this.#queue)
			return;
		this.#queue.push(event);
		if (this.#queue.length > this.#options.buffer)
			this.#dropQueued();
		this.#next?.();
	}

	/* Whoever iterates is too slow: told so, in place of messages. */
	#dropQueued() {
		const {publisher, topic} = this;
		const isMessage = ({type}) => type === "message" || type === "gap";
		const lost = this.#queue.filter(isMessage);

		this.#queue = this.#queue.filter((event) => !isMessage(event));
		if (lost.length > 0)
			this.#queue.push({type: "gap", publisher, topic,
				from: lost[0].from ?? lost[0].id,
				to: lost.at(-1).to ?? lost.at(-1).id});
	}

	#fail(error) {
		(this.#options.error ?? report)(error);
	}

	/* Ends it, with an error or without. */
	close(error) {
		if (this.isClosed)
			return;
		this.isClosed = true;
		this.#client.leave(this);
		this.#failure = error;
		if (error && (this.#options.error || this.#options.message))
			this.#fail(error);
		this.#next?.();
	}

	async *[Symbol.asyncIterator]() {
		this.#queue ??= [];
		try {
			for (;;) {
				while (this.#queue.length > 0)
					yield this.#queue.shift();
				if (this.#failure)
					throw this.#failure;
				if (this.isClosed)
					return;
				await new Promise((next) => { this.#next = next; });
			}
		} finally {
			this.close();
		}
	}
}

class Client {
	#options;
	#base;
	#subscriptions = new Map();
	#link = null; /* {join, leave, probe, end, ask: of a WebSocket} */
	#isRunning = false;
	#isClosed = false;
	#sleeping = new Set(); /* wakes each of them */
	#onOpen = []; /* publications that wait for a link */
	#patience = 1; /* doubles where a link was dead, or just slow */
	status = "new";

	constructor({url = new URL(".", import.meta.url).href, ...options}) {
		this.#options = {
			WebSocket: globalThis.WebSocket,
			fetch: (...all) => globalThis.fetch(...all),
			transport: "auto",
			credentials: "same-origin",
			ping: 20000,
			timeout: 10000,
			quiet: 75000, /* streams have a comment each 30 s */
			minDelay: 1000,
			maxDelay: 30000,
			buffer: 10000,
			...options,
		};
		this.#base = new URL(url, globalThis.location?.href);
		this.#base.protocol = this.#base.protocol.replace("ws", "http");
		if (!this.#base.pathname.endsWith("/"))
			this.#base.pathname += "/";
		globalThis.addEventListener?.("online", this.#hurry);
		globalThis.document?.addEventListener("visibilitychange", this.#hurry);
	}

	subscribe(topic, options = {}) {
		const {publisher, buffer, timeout} = this.#options;
		const one = new Subscription(this, topic,
			{publisher, buffer, timeout, ...options});
		const key = keyOf(one.publisher, topic);

		if (this.#isClosed)
			throw new IsimudError("closed", "the client is closed");
		if (this.#subscriptions.has(key))
			throw new IsimudError("already_subscribed", topic);
		this.#subscriptions.set(key, one);
		one.begin().then(() => {
			one.isReady = true;
			if (!one.isClosed)
				this.#link?.join([one]);
		});
		this.#start();
		return one;
	}

	/* For Subscription.close(). */
	leave(one) {
		const key = keyOf(one.publisher, one.topic);

		if (this.#subscriptions.get(key) !== one)
			return;
		this.#subscriptions.delete(key);
		if (one.isReady)
			this.#link?.leave(one);
	}

	/* Resolves to the receipt. "unknown_outcome": it may be published. */
	async publish(topic, data, {event, traceparent} = {}) {
		const {password} = this.#options;
		const publication = {topic, data, event, traceparent};

		this.#start();
		/* The handshake of a page can't have it. */
		if (password !== undefined && globalThis.location)
			return this.#post(publication);
		if (!this.#link?.isOpen)
			await within(this.#options.timeout, () => new Promise(
				(...settle) => this.#onOpen.push(settle)));
		if (!this.#link?.ask)
			return this.#post(publication);
		const answer = await new Promise((answered) => this.#link.ask(
			{type: "publish", ...publication}, answered));
		if (answer.type !== "published")
			throw new IsimudError(answer.code, answer.message);
		return {id: answer.id, subscribers: answer.subscribers};
	}

	close(error) {
		if (this.#isClosed)
			return;
		this.#isClosed = true;
		globalThis.removeEventListener?.("online", this.#hurry);
		globalThis.document?.removeEventListener(
			"visibilitychange", this.#hurry);
		this.#link?.end(1000, "");
		for (const one of [...this.#subscriptions.values()])
			one.close(error);
		error ??= new IsimudError("closed", "the client is closed");
		for (const [, fail] of this.#onOpen.splice(0))
			fail(error);
		this.#wake();
		this.#tell("closed", {code: error.code, reason: error.message});
	}

	/* Waits for a while, longer from try to try, each client for another
	 * time; not less than `least` ms, but no longer than to #hurry(). */
	pause(tries, least = 0) {
		const {minDelay, maxDelay} = this.#options;
		const top = Math.min(maxDelay, minDelay * 2 ** tries);

		return this.#sleep(Math.max(least, top * Math.random()));
	}

	#sleep(ms) {
		return new Promise((resolve) => {
			const wake = () => {
				clearTimeout(timer);
				this.#sleeping.delete(wake);
				resolve();
			};
			const timer = setTimeout(wake, ms);
			this.#sleeping.add(wake);
		});
	}

	#wake() {
		for (const wake of this.#sleeping)
			wake();
	}

	/* The network is back, or somebody looks: links may have died. */
	#hurry = ({type}) => {
		if (type !== "online" && document.visibilityState === "hidden")
			return;
		this.#wake();
		this.#link?.probe();
	};

	#tell(status, detail = {}) {
		this.status = status;
		try {
			this.#options.status?.(status, detail);
		} catch (error) {
			report(error);
		}
	}

	#opened(transport) {
		this.#link.isOpen = true;
		this.#tell("open", {transport});
		for (const [go] of this.#onOpen.splice(0))
			go();
	}

	#start() {
		if (this.#isClosed)
			throw new IsimudError("closed", "the client is closed");
		if (!this.#isRunning)
			this.#run();
		this.#isRunning = true;
	}

	/* Makes links, one after the other, until close(). */
	async #run() {
		const {WebSocket, transport, token} = this.#options;
		let tries = 0;
		let refusals = 0;
		let misses = 0; /* WebSockets in a row of which nothing was heard */
		let isKnown = false; /* a WebSocket has worked */
		let isStream = transport === "stream" || !WebSocket;

		while (!this.#isClosed) {
			let end;
			this.#tell("connecting",
				{transport: isStream ? "stream" : "websocket"});
			try {
				const word = token &&
					await within(this.#options.timeout, token);
				if (this.#isClosed)
					return;
				end = await (isStream ? this.#stream(word)
					: this.#socket(word));
			} catch (error) {
				end = {code: 1006, reason: error.message};
			}
			for (const one of this.#subscriptions.values())
				one.isLive = false;
			if (this.#isClosed)
				return;
			if (end.code === 1000) /* of our own */
				continue;
			refusals = end.code === 4401 ? refusals + 1 : 0;
			if (end.code === 4403 || refusals > (token ? REFUSALS_MAX : 0))
				return this.close(new IsimudError(end.code, end.reason));
			/* Too slow again and again is no success. */
			const isFine = end.good && (end.code !== 1013 ||
				Date.now() - end.good > 10000);
			tries = isFine ? 0 : tries + 1;
			if (isStream) {
				if (!end.good || isKnown)
					misses = 0;
			} else if (end.good || end.code !== 1006) {
				isKnown = true;
				misses = 0;
			} else {
				misses++;
			}
			const wasStream = isStream;
			isStream = transport === "stream" || !WebSocket ||
				(transport === "auto" && misses >= (isKnown ? 3 : 1));
			if (isStream && !wasStream)
				continue;
			this.#tell("waiting", {code: end.code, reason: end.reason});
			await this.pause(tries, end.least);
		}
	}

	#ready() {
		return [...this.#subscriptions.values()].filter((one) => one.isReady);
	}

	#find({publisher, topic}) {
		const one = this.#subscriptions.get(keyOf(publisher, topic));
		return one?.isLive ? one : undefined;
	}

	/* What comes of a link, of either kind. */
	#receive(message) {
		const one = this.#find(message);

		switch (message.type) {
		case "message":
			return one?.receive(message);
		case "gap":
			return one?.gap(message);
		case "reset":
			return one?.reset(message);
		}
	}

	/* --- a WebSocket ------------------------------------------------------ */

	#newSocket(token) {
		const {WebSocket, publisher, password} = this.#options;
		const url = new URL("sub", this.#base);
		const protocols = [SUBPROTOCOL];
		const headers = {};

		url.protocol = url.protocol.replace("http", "ws");
		/* The characters of a token (RFC 9110 5.6.2) that are token68. */
		if (token && /^[\w.~+-]+$/.test(token))
			protocols.push("bearer." + token);
		else if (token)
			url.searchParams.set("access_token", token);
		if (password !== undefined)
			headers.Authorization = basic(publisher, password);
		/* Node's own takes fields beside the protocols, others behind. */
		return globalThis.process && WebSocket === globalThis.WebSocket
			? new WebSocket(url, {protocols, headers})
			: new WebSocket(url, protocols, {headers});
	}

	/* Resolves once it has ended: {code, reason, good: when it began to
	 * work}. */
	#socket(token) {
		const {ping, timeout} = this.#options;

		return new Promise((resolve) => {
			const socket = this.#newSocket(token);
			const answers = new Map(); /* by ref */
			let ref = 0;
			let good;
			let timer;
			let isHeard = false;
			let isAsked = true;

			const watch = (ms) => {
				clearTimeout(timer);
				timer = setTimeout(look, ms);
			};
			const probe = () => {
				isHeard = false;
				isAsked = true;
				if (socket.readyState === 1)
					socket.send('{"type":"ping"}');
				watch(timeout * this.#patience);
			};
			const look = () => {
				if (isHeard) {
					if (isAsked && this.#patience > 1)
						this.#patience /= 2;
					isHeard = isAsked = false;
					watch(ping);
				} else if (isAsked) {
					this.#patience = Math.min(PATIENCE_MAX,
						2 * this.#patience);
					end(1006, "the link is dead");
				} else {
					probe();
				}
			};
			const ask = (command, answered) => {
				answers.set(++ref, answered);
				socket.send(JSON.stringify({...command, ref}));
			};
			const join = (all) =>
				all.forEach((one) => this.#request(link, one));
			const leave = ({publisher, topic}) => {
				if (socket.readyState === 1)
					ask({type: "unsubscribe", publisher, topic}, () => {});
			};
			const end = (code, reason) => {
				if (this.#link !== link)
					return;
				this.#link = null;
				clearTimeout(timer);
				socket.onopen = socket.onmessage = socket.onclose = null;
				socket.onerror = () => {};
				try {
					socket.close();
				} catch {}
				for (const answered of answers.values())
					answered({type: "error", code: "unknown_outcome",
						message: "the connection has ended"});
				resolve({code, reason, good});
			};
			const link = this.#link =
				{join: () => {}, leave, probe, end};

			watch(timeout * this.#patience);
			socket.onopen = () => {
				link.ask = ask;
				link.join = join;
				join(this.#ready());
				probe();
			};
			socket.onmessage = ({data}) => {
				const message = JSON.parse(data);
				isHeard = true;
				if (!good) {
					good = Date.now();
					this.#opened("websocket");
				}
				answers.get(message.ref)?.(message);
				answers.delete(message.ref);
				if (this.#link === link)
					this.#receive(message);
			};
			socket.onclose = ({code, reason}) => end(code, reason);
			/* onclose has the code, if it comes at all. */
			socket.onerror = () => setTimeout(end, 0, 1006,
				"the WebSocket failed");
		});
	}

	#request(link, one) {
		const {publisher, topic, id, last, slow} = one;

		link.ask({type: "subscribe", publisher, topic, since: id, last, slow},
			async (answer) => {
				if (one.isClosed)
					return;
				if (answer.type === "subscribed")
					return one.joined(answer.id, answer.resumed);
				if (FINAL.includes(answer.code))
					return one.close(new IsimudError(answer.code,
						answer.message));
				await this.pause(3);
				if (this.#link === link && !one.isClosed)
					this.#request(link, one);
			});
	}

	/* --- event streams ------------------------------------------------------ */

	/* The same as #socket(). */
	#stream(token) {
		const {quiet} = this.#options;

		return new Promise((resolve) => {
			const aborts = new Map(); /* of each subscription's stream */
			const more = [];
			let good;
			let heard = Date.now();

			const end = (code, reason, least) => {
				if (this.#link !== link)
					return;
				this.#link = null;
				for (const abort of new Set(aborts.values()))
					abort.abort();
				resolve({code, reason, least, good});
			};
			/* Those of one turn share a stream. Browsers have few
			 * connections: before there are too many, all begin anew,
			 * and those that have an id are together then. */
			const join = (all) => {
				if (more.length === 0)
					setTimeout(start);
				more.push(...all);
			};
			const start = () => {
				const found = groups(more.splice(0).filter(
					(one) => !one.isClosed));
				const open = new Set(aborts.values()).size;

				if (open > 0 && open + found.length > STREAMS_MAX)
					return end(1000, "more topics");
				if (this.#link === link)
					found.forEach(follow);
			};
			const leave = (one) => {
				const abort = aborts.get(one);
				aborts.delete(one);
				if (![...aborts.values()].includes(abort))
					abort?.abort();
			};
			const follow = async (group) => {
				const abort = new AbortController();
				for (const one of group)
					aborts.set(one, abort);
				const is = () => !abort.signal.aborted;
				const opened = () => {
					if (!good && is()) {
						good = Date.now();
						this.#opened("stream");
					}
				};
				let ended;
				try {
					ended = await this.#read(group, token, abort.signal,
						opened, () => { heard = Date.now(); });
				} catch (error) {
					ended = {code: 1006, reason: error.message};
				}
				if (is())
					end(ended.code, ended.reason, ended.least);
			};
			/* There is nothing that can be asked. */
			const probe = () => {
				if (Date.now() - heard > quiet)
					end(1006, "the link is dead");
			};
			const link = this.#link = {join, leave, end, probe};
			join(this.#ready());
		});
	}

	/* Reads one stream to its end: {code, reason, least}. */
	async #read(group, token, signal, opened, heard) {
		const {fetch, credentials, timeout} = this.#options;
		const stopping = new AbortController();
		const stop = () => stopping.abort(new Error("the link is dead"));
		let timer = setTimeout(stop, timeout);
		let least = 0;
		let rest = "";
		let block = {};

		signal.addEventListener("abort", stop);
		try {
			const response = await fetch(targetOf(group, this.#base), {
				headers: {Accept: "text/event-stream",
					...token && {Authorization: "Bearer " + token}},
				credentials, cache: "no-store", signal: stopping.signal});
			if (!response.ok || !response.body)
				return refusal(response);
			const reader = response.body.getReader();
			const decoder = new TextDecoder();
			for (;;) {
				clearTimeout(timer);
				timer = setTimeout(stop, this.#options.quiet);
				const {done, value} = await reader.read();
				heard();
				if (done)
					return {code: 1006, reason: "the stream was cut", least};
				const lines = (rest + decoder.decode(value, {stream: true}))
					.split("\n");
				rest = lines.pop();
				for (const line of lines) {
					const [, name, text] = /^([^:]*):? ?(.*?)\r?$/s.exec(line);
					if (name === "retry")
						least = Number(text);
					if (line !== "" && line !== "\r") {
						block[name] = name === "data" && block.data
							? block.data + "\n" + text : text;
						continue;
					}
					const {event, id, data} = block;
					block = {};
					if (data === undefined && id === undefined)
						continue;
					if (event === "close")
						return {...JSON.parse(data), least};
					opened();
					this.#place(group, id);
					if (data !== undefined)
						this.#receive({type: event, ...JSON.parse(data),
							...event === "reset" && {type: event}});
					if (signal.aborted)
						return {};
				}
			}
		} finally {
			clearTimeout(timer);
			stop();
		}
	}

	/* A stream's ids have a number for each topic of its URL. Its first one
	 * says where it begins. */
	#place(group, id) {
		const [epoch, numbers] = id?.split("-") ?? [];

		group.forEach((one, i) => {
			if (!one.isLive && !one.isClosed)
				id ? one.joined(one.id ?? `${epoch}-${numbers.split(".")[i]}`)
					: one.isLive = true;
		});
	}

	/* Sends it until it is answered: the key makes it one publication. */
	async #post(publication) {
		const {fetch, publisher, password, credentials} = this.#options;
		/* randomUUID() is for pages by https alone. */
		const key = `"${crypto.getRandomValues(new Uint32Array(4)).join("-")}"`;

		if (password === undefined)
			throw new IsimudError("forbidden", "publishing needs a password");
		for (let tries = 0; ; tries++) {
			let failure = new IsimudError("unknown_outcome", "no answer");
			try {
				const response = await within(this.#options.timeout,
					(signal) => fetch(new URL("pub", this.#base), {
						method: "POST", signal, credentials,
						headers: {
							Authorization: basic(publisher, password),
							"Content-Type": "application/json",
							"Idempotency-Key": key,
						},
						body: JSON.stringify(publication)}));
				const answer = await response.json().catch(() => ({}));
				if (response.ok)
					return answer;
				failure = new IsimudError(response.status, answer.error);
				if (response.status < 502)
					throw failure;
			} catch (error) {
				if (error === failure)
					throw error;
			}
			if (tries === 5 || this.#isClosed)
				throw failure;
			await this.pause(tries);
		}
	}
}

/* Those that one stream can have: of one publisher, and all with a place in one
 * epoch, or all without one. */
function groups(all) {
	const found = new Map();

	for (const one of all) {
		const key = JSON.stringify([one.publisher, one.last,
			one.id?.slice(0, 16)]);
		const last = found.get(key)?.at(-1);
		const size = encodeURIComponent(one.topic).length + 8 +
			(one.id?.length ?? 0);
		if (last && last.size + size < STREAM_TARGET_MAX && last.length < 100) {
			last.push(one);
			last.size += size;
		} else {
			const group = Object.assign([one], {size});
			found.set(key, [...found.get(key) ?? [], group]);
		}
	}
	return [...found.values()].flat();
}

function targetOf(group, base) {
	const [{publisher, last, id}] = group;
	const url = new URL("sub", base);

	url.searchParams.set("publisher", publisher);
	for (const {topic} of group)
		url.searchParams.append("topic", topic);
	url.searchParams.set("envelope", "true");
	if (last !== undefined)
		url.searchParams.set("last", last);
	if (id)
		url.searchParams.set("since", id.slice(0, 17) +
			group.map((one) => one.id.slice(17)).join("."));
	return url;
}

/* What a status means, as a close code of a WebSocket. */
function refusal({status, headers}) {
	const code = {400: 4401, 401: 4401, 403: 4403, 404: 4403}[status];
	const least = 1000 * Number(headers.get("Retry-After")) || 0;

	return {code: code ?? 1006, reason: `status ${status}`, least};
}
