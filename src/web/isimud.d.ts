/** An id: EPOCH-SEQ. */
export type Id = string;

export type Status = "new" | "connecting" | "open" | "waiting" | "closed";

export interface Message<T = any> {
  type: "message";
  publisher: string;
  topic: string;
  id: Id;
  /** The type of its event, if it has one. */
  event?: string;
  /** Which trace it is part of (W3C Trace Context), if that is known. */
  traceparent?: string;
  data: T;
}

/** The messages from `from` to `to`, both included, are lost. */
export interface Gap {
  type: "gap";
  publisher: string;
  topic: string;
  from: Id;
  to: Id;
}

/** Messages may be lost; those that follow are above `id`. */
export interface Reset {
  type: "reset";
  publisher: string;
  topic: string;
  id: Id;
  reason: string;
}

/** What snapshot() answered; messages that are in it do not come. */
export interface State<S = any> {
  type: "state";
  publisher: string;
  topic: string;
  id: Id | null;
  state: S;
}

export type Event<T = any, S = any> =
  | Message<T>
  | Gap
  | Reset
  | State<S>;

export class IsimudError extends Error {
  /** A code of isimud.v1, a close code (4401, 4403), an HTTP status, or
   * "timeout", "closed", "already_subscribed", "unknown_outcome". */
  code: string | number;
  constructor(code: string | number, message: string);
}

export interface ClientOptions {
  /** The folder that has /sub; by default the one that has isimud.js. */
  url?: string | URL;
  /** The publisher of subscriptions that do not name one, and who publishes. */
  publisher?: string;
  /** Asked at each connect. */
  token?(signal: AbortSignal): string | null | undefined
    | Promise<string | null | undefined>;
  /** To publish with: the server's. Not for pages that others can open. */
  password?: string;
  status?(status: Status, detail: {
    transport?: "websocket" | "stream";
    code?: string | number;
    reason?: string;
  }): void;
  /** "auto": event streams where WebSockets do not get through. */
  transport?: "auto" | "websocket" | "stream";
  /** A constructor, where there is none, or not the wanted one. */
  WebSocket?: any;
  fetch?: typeof fetch;
  /** For event streams: "include" sends cookies to other origins. */
  credentials?: RequestCredentials;
  /** Milliseconds of silence, after which the server is asked: 20,000. */
  ping?: number;
  /** Milliseconds that an answer may take: 10,000. */
  timeout?: number;
  /** Milliseconds of silence after which an event stream is dead: 75,000. */
  quiet?: number;
  /** Milliseconds between two tries to connect: 0 to 1,000 at first, */
  minDelay?: number;
  /** and 0 to 30,000 at last. */
  maxDelay?: number;
  /** Events that wait for an iterator or a snapshot, at most: 10,000. */
  buffer?: number;
}

export interface SubscribeOptions<T = any, S = any> {
  publisher?: string;
  /** Goes on behind this one. */
  since?: Id;
  /** Begins with so many of the history. */
  last?: number;
  /** "drop": a gap instead of the end of the connection (WebSocket only). */
  slow?: "close" | "drop";
  /** Asked at first, and where messages were lost: the state, and the id of
   * the last message that is in it. */
  snapshot?(signal: AbortSignal): Promise<{state: S; id?: Id | null}>
    | {state: S; id?: Id | null};
  state?(state: State<S>): void;
  message?(message: Message<T>): void;
  gap?(gap: Gap): void;
  reset?(reset: Reset): void;
  /** What went wrong: of the end of the subscription, of snapshot(), of a
   * handler. By default it goes to the console. */
  error?(error: Error): void;
}

export interface Subscription<T = any, S = any>
  extends AsyncIterable<Event<T, S>> {
  readonly publisher: string;
  readonly topic: string;
  /** Up to where all has come; undefined before it began. */
  readonly id: Id | undefined;
  readonly isClosed: boolean;
  close(): void;
}

export interface Client {
  readonly status: Status;
  subscribe<T = any, S = any>(
    topic: string,
    options?: SubscribeOptions<T, S>,
  ): Subscription<T, S>;
  publish(
    topic: string,
    data: unknown,
    options?: {event?: string; traceparent?: string},
  ): Promise<{id: Id; subscribers: number}>;
  close(): void;
}

export function connect(options?: ClientOptions): Client;
