/* socket.mjs - a WebSocket (RFC 6455) of node's own modules, for those versions
 * that have none: what isimud.js uses of one, no more. */
import {createHash, randomBytes} from "node:crypto";
import {request} from "node:http";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const TEXT = 1;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

export class OwnWebSocket {
	readyState = 0;
	#socket;
	#rest = Buffer.alloc(0);
	#close = {code: 1006, reason: ""};

	constructor(url, protocols, {headers}) {
		const key = randomBytes(16).toString("base64");
		const accept = createHash("sha1").update(key + GUID).digest("base64");

		this.asked = request(String(url).replace(/^ws/, "http"), {
			agent: false,
			headers: {
				...headers,
				Connection: "Upgrade",
				Upgrade: "websocket",
				"Sec-WebSocket-Version": 13,
				"Sec-WebSocket-Key": key,
				"Sec-WebSocket-Protocol": protocols.join(", "),
			},
		});
		this.asked.on("upgrade", (answer, socket, first) => {
			if (answer.headers["sec-websocket-accept"] !== accept)
				return this.#end(socket);
			this.#socket = socket;
			this.readyState = 1;
			this.onopen?.({});
			socket.on("data", (bytes) => this.#read(bytes));
			socket.on("error", () => {});
			socket.on("close", () => this.#end(socket));
			if (first.length > 0)
				this.#read(first);
		});
		this.asked.on("response", (answer) => this.#end(answer.socket));
		this.asked.on("error", () => this.#end());
		this.asked.end();
	}

	send(text) {
		this.#write(TEXT, Buffer.from(text));
	}

	close() {
		if (this.readyState === 1) {
			this.#write(CLOSE, Buffer.from([1000 >> 8, 1000 & 255]));
			this.readyState = 2;
			setTimeout(() => this.#socket.destroy(), 1000).unref();
		} else {
			this.asked.destroy();
		}
	}

	#write(opcode, payload) {
		const mask = randomBytes(4);
		const {length} = payload;
		const head = length < 126 ? Buffer.from([128 | opcode, 128 | length])
			: Buffer.from([128 | opcode, 128 | 126, length >> 8,
				length & 255]);
		const masked = Buffer.from(payload.map((byte, i) =>
			byte ^ mask[i % 4]));

		if (length > 65535)
			throw new Error("too long for this client");
		this.#socket.write(Buffer.concat([head, mask, masked]));
	}

	/* A server's frames are not masked, and isimud's not fragmented. */
	#read(bytes) {
		this.#rest = Buffer.concat([this.#rest, bytes]);
		for (;;) {
			const rest = this.#rest;
			let length = rest[1];
			let start = 2;
			if (rest.length < 2)
				return;
			if (length === 126 && rest.length >= 4)
				[length, start] = [rest.readUInt16BE(2), 4];
			else if (length === 127 && rest.length >= 10)
				[length, start] = [Number(rest.readBigUInt64BE(2)), 10];
			else if (length > 125)
				return;
			if (rest.length < start + length)
				return;
			const payload = rest.subarray(start, start + length);
			this.#rest = rest.subarray(start + length);
			this.#take(rest[0] & 15, payload);
		}
	}

	#take(opcode, payload) {
		if (opcode === TEXT)
			return this.onmessage?.({data: payload.toString()});
		if (opcode === PING && this.readyState === 1)
			return this.#write(PONG, payload);
		if (opcode !== CLOSE)
			return;
		if (payload.length >= 2)
			this.#close = {code: payload.readUInt16BE(0),
				reason: payload.toString("utf8", 2)};
		this.#socket.end();
	}

	#end(socket) {
		socket?.destroy();
		if (this.readyState === 3)
			return;
		if (this.readyState === 0)
			this.onerror?.({});
		this.readyState = 3;
		this.onclose?.(this.#close);
	}
}
