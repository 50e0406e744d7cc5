/* driver.mjs - isimud.js in node, told what to do by lines of JSON from stdin;
 * all that happens to it is a line of JSON on stdout.
 * usage: driver.mjs OPTIONS; {"url": …, "socket": "own" | "builtin" | "none"} and
 * what connect() takes */
import {createInterface} from "node:readline";

import {connect} from "../../src/web/isimud.js";
import {OwnWebSocket} from "./socket.mjs";

const {socket, hasToken, ...options} = JSON.parse(process.argv[2]);
const subscriptions = new Map();
let token;
let state = {state: null, id: null}; /* what snapshot() answers */

function say(what, more) {
	process.stdout.write(JSON.stringify({what, ...more}) + "\n");
}

function told(event) {
	say(event.type, event);
}

function error({code, message}) {
	say("error", {code, message});
}

async function snapshot() {
	say("snapshot");
	if (state.url)
		return (await fetch(state.url)).json();
	return state;
}

if (socket === "builtin" && !globalThis.WebSocket)
	throw new Error("this node has no WebSocket");
const client = connect({
	...options,
	...socket === "own" && {WebSocket: OwnWebSocket},
	...socket === "none" && {WebSocket: undefined},
	...hasToken && {token: () => {
		say("token");
		return token;
	}},
	status: (status, detail) => say("status", {status, ...detail}),
});

async function iterate(subscription, topic) {
	try {
		for await (const event of subscription)
			say("next", {event});
		say("done", {topic});
	} catch ({code}) {
		say("threw", {topic, code});
	}
}

const commands = {
	subscribe({topic, publisher, hasSnapshot, iterates, ...more}) {
		const handlers = {message: told, gap: told, reset: told, state: told,
			error};
		const one = client.subscribe(topic, {
			...publisher && {publisher},
			...hasSnapshot && {snapshot},
			...!iterates && handlers, ...more});
		subscriptions.set(topic, one);
		if (iterates)
			iterate(one, topic);
	},
	unsubscribe({topic}) {
		subscriptions.get(topic).close();
	},
	async publish({topic, data, ...options}) {
		try {
			say("published", await client.publish(topic, data, options));
		} catch (failure) {
			error(failure);
		}
	},
	token({value}) {
		token = value;
	},
	state(value) {
		state = value;
	},
	close() {
		client.close();
	},
};

const lines = createInterface({input: process.stdin});
lines.on("line", (line) => {
	const {command, ...more} = JSON.parse(line);
	commands[command](more);
	say("did", {command});
});
lines.on("close", () => process.exit(0));
