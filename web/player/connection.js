// One session over as many connections as it takes: heartbeats, acknowledgements, resuming, close codes.

import { messageOf, PlayerError } from "./errors.js";
import { parseFragment } from "./wire.js";
/** @import { Credentials } from "./credentials.js" */
/** @import { Bytes, ClientMessage, ConnectionHooks, Failure, Ready, ServerMessage } from "./types.d.ts" */
/** @import { Timer, TransportOptions } from "./types.d.ts" */

const SUBPROTOCOL = "museserve.v1";
const BEARER = "museserve.bearer."; // a page cannot give its WebSocket headers
const ACK_MS = 250;
const ACK_BYTES = 2 ** 18;
const PONG_MS = 4_000; // a connection that does not answer for so long is dead, though nobody said so
const HEARTBEAT_MS = 5_000;
const BUSY_BEAT_MS = 500; // while something is waited for: a service that falls silent is noticed
const QUIET_MS = 1_400; // without a word then: it is told, and the connection is given some more time
const LOOK_MS = 200;
const CONNECT_MS = 10_000;
const BACKOFF_MS = [0, 100, 250, 500, 1_000, 2_000, 4_000];
const GIVE_UP_MS = 60_000; // or what the service keeps a session for, where that is longer
const RESUME_S = 30; // unless the service says
const FIRST_TRIES = 3; // before there ever was a session
const BUSY_S = 2; // unless the service says how long to wait

const ABNORMAL = 1006; // the browser's code of a connection that was lost
const EXPIRED = 4003; // nothing was said for a long time
const UNKNOWN_SESSION = 4004; // the service, or this part of it, does not have it
const UNAUTHORIZED = 4010; // the token is used up, too old, or none

// Close codes after which nothing is to be tried again, and why. The others: resume where that makes sense, else a
// new session.
/** @type {Record<number, string>} */ const FINAL = {
  4000: "the service did not accept how the session was begun",
  4005: "the session's token was not accepted",
  4006: "another page went on with this session",
  4009: "this page's origin is not accepted by the service",
  4011: "the token is not for this",
};
const NEW_SESSION = new Set([1001, 1009, 1011, 1012, 4001, EXPIRED, UNKNOWN_SESSION, 4008, 4013]);
const WAIT_FIRST = new Set([4008, 4013]); // wait before trying again

export class Connection {
  #url;
  #start;
  #hooks;
  /** @type {WebSocket | null} */ #socket = null;
  /** @type {Ready | null} */ #session = null;
  #seq = 0;
  #unacked = 0;
  #acked = 0;
  /** @type {Timer | undefined} */ #ackTimer;
  /** @type {Timer | undefined} */ #heartbeat;
  /** @type {Timer | undefined} */ #pongTimer;
  /** @type {Timer | undefined} */ #retryTimer;
  #tries = 0;
  #lostAt = 0;
  #patient; // however many tries the first session takes
  #closed = false;
  #credentials;
  /** @type {Promise<string> | null} */ #asked = null; // a token that is on its way
  /** @type {Failure | null} */ #closingError = null; // the service's reason before it closed
  #pingedAt = 0; // performance.now()
  #heardAt = 0;
  #lookedAt = 0;
  #quiet = false;
  #established = false; // `ready` came on this connection ...
  #catchingUp = false; // ... and not yet all that was missed

  /** @param {URL} url @param {TransportOptions["start"]} start @param {ConnectionHooks} hooks
   * @param {boolean} patient the service is known to be there @param {Credentials} credentials */
  constructor(url, start, hooks, patient, credentials) {
    this.#credentials = credentials;
    this.#url = url;
    this.#start = start;
    this.#hooks = hooks;
    this.#patient = patient;
    addEventListener("online", this.#retryNow);
    document.addEventListener("visibilitychange", this.#retryNow);
    this.#open();
  }

  get open() {
    return this.#socket?.readyState === WebSocket.OPEN && this.#session !== null && this.#established;
  }

  /** False when it could not be sent; the caller keeps what must not be lost. @param {Bytes | ClientMessage} message */
  send(message) {
    if (!this.open || !this.#socket) return false;
    this.#socket.send(message instanceof Uint8Array ? message : JSON.stringify(message));
    return true;
  }

  close() {
    this.#closed = true;
    this.#clearTimers();
    removeEventListener("online", this.#retryNow);
    document.removeEventListener("visibilitychange", this.#retryNow);
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send('{"type":"end"}');
    this.#socket?.close(1000);
    this.#socket = null;
  }

  #open() {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = undefined;
    this.#established = false;
    this.#closingError = null;
    const asked = (this.#asked = this.#credentials.fresh());
    asked.then(
      (token) => {
        if (asked === this.#asked && !this.#closed) this.#dial(token);
      },
      (error) => {
        if (asked !== this.#asked || this.#closed) return;
        this.#closingError = { type: "error", seq: 0, code: "unauthorized", message: messageOf(error) };
        this.#closedWith(UNAUTHORIZED);
      },
    );
  }

  /** @param {string} bearer */
  #dial(bearer) {
    this.#asked = null;
    const socket = new WebSocket(this.#url, bearer ? [SUBPROTOCOL, BEARER + bearer] : []);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    const slow = setTimeout(() => {
      if (socket === this.#socket) this.#drop(socket);
    }, CONNECT_MS);
    socket.onopen = () => {
      const { session, token } = this.#session ?? {};
      const resume = { type: "resume", session, token, seq: this.#seq };
      socket.send(JSON.stringify(this.#session ? resume : { type: "start", ...this.#start }));
    };
    socket.onmessage = ({ data }) => {
      clearTimeout(slow);
      if (socket !== this.#socket) return;
      this.#heardAt = performance.now();
      this.#tellQuiet(false);
      this.#receive(data);
    };
    socket.onclose = ({ code }) => {
      clearTimeout(slow);
      if (socket === this.#socket) this.#closedWith(code);
    };
  }

  /** @param {string | ArrayBuffer} data */
  #receive(data) {
    if (typeof data === "string") {
      /** @type {ServerMessage | Ready | { type: "pong", seq: number }} */ const message = JSON.parse(data);
      if (!this.#isNew(message.seq)) return;
      if (message.type === "ready") this.#begin(message);
      else if (message.type === "pong") this.#answered();
      else {
        if (message.type === "error" && message.closing) this.#closingError = message;
        this.#hooks.message(message);
      }
      return;
    }
    const fragment = parseFragment(data);
    if (!this.#isNew(fragment.seq)) return;
    this.#unacked += data.byteLength;
    if (this.#unacked > ACK_BYTES) this.#ack();
    else this.#ackTimer ??= setTimeout(() => this.#ack(), ACK_MS);
    this.#hooks.fragment(fragment);
  }

  /** @param {number} seq */
  #isNew(seq) {
    if (seq === 0) return true;
    if (seq <= this.#seq) return false;
    this.#seq = seq;
    return true;
  }

  /** @param {Ready} ready */
  #begin(ready) {
    this.#session = ready;
    this.#established = this.#patient = true;
    this.#tries = this.#lostAt = 0;
    clearInterval(this.#heartbeat);
    const restMs = Math.min(HEARTBEAT_MS, 1000 * (ready.limits.heartbeat_s / 2));
    this.#heartbeat = setInterval(() => this.#look(restMs), LOOK_MS);
    this.#catchingUp = ready.resumed;
    this.#hooks.ready(ready, !ready.resumed);
    this.#ping(); // it is answered behind all that was missed
  }

  #answered() {
    clearTimeout(this.#pongTimer);
    this.#pongTimer = undefined;
    if (!this.#catchingUp) return;
    this.#catchingUp = false;
    this.#hooks.caughtUp();
  }

  #ack() {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    if (this.#seq > this.#acked && this.send({ type: "ack", seq: this.#seq })) {
      this.#acked = this.#seq;
      this.#unacked = 0;
    }
  }

  /** @param {number} restMs between two pings where nothing is waited for */
  #look(restMs) {
    const now = performance.now();
    const busy = this.#hooks.busy();
    // A page that stood itself has heard nothing meanwhile, and looks again first.
    if (!busy || now - this.#lookedAt > 2 * LOOK_MS) this.#heardAt = Math.max(this.#heardAt, now - BUSY_BEAT_MS);
    this.#lookedAt = now;
    if (now - this.#pingedAt >= (busy ? BUSY_BEAT_MS : restMs)) this.#ping();
    if (busy && now - this.#heardAt > QUIET_MS) this.#tellQuiet(true);
  }

  /** @param {boolean} quiet */
  #tellQuiet(quiet) {
    if (quiet === this.#quiet) return;
    this.#quiet = quiet;
    this.#hooks.quiet(quiet);
  }

  #ping() {
    const socket = this.#socket;
    if (!socket || !this.send({ type: "ping" })) return;
    this.#pingedAt = performance.now();
    this.#pongTimer ??= setTimeout(() => {
      this.#pongTimer = undefined;
      if (socket === this.#socket) this.#drop(socket);
    }, PONG_MS);
  }

  /** A socket that does not answer takes its time to close: it is left to itself. @param {WebSocket} socket */
  #drop(socket) {
    socket.onopen = socket.onclose = null;
    socket.close();
    this.#closedWith(ABNORMAL);
  }

  #clearTimers() {
    clearInterval(this.#heartbeat);
    clearTimeout(this.#pongTimer);
    clearTimeout(this.#ackTimer);
    clearTimeout(this.#retryTimer);
    this.#heartbeat = this.#pongTimer = this.#ackTimer = this.#retryTimer = undefined;
    this.#established = false;
  }

  /** @param {number} code */
  #closedWith(code) {
    this.#clearTimers();
    this.#socket = null;
    this.#quiet = false; // that it is lost is told
    if (this.#closed) return;
    const refusal = this.#refusal(code);
    if (refusal) {
      this.#closed = true;
      this.#hooks.gone(refusal);
      return;
    }
    const first = this.#session === null && this.#lostAt === 0;
    this.#lostAt ||= performance.now();
    if (NEW_SESSION.has(code)) {
      // Another part of the service answered: it can begin at once.
      if (code === UNKNOWN_SESSION && this.#session) this.#tries = 0;
      this.#session = null;
      this.#seq = this.#acked = 0;
    }
    if (!first || code !== ABNORMAL) this.#hooks.lost(code);
    if (this.#closed) return;
    const askedMs = Math.max(1000 * (this.#closingError?.retry_after_s ?? BUSY_S), 1000);
    const waitMs = WAIT_FIRST.has(code) ? askedMs : BACKOFF_MS[Math.min(this.#tries, BACKOFF_MS.length - 1)];
    this.#tries += 1;
    this.#retryTimer = setTimeout(() => this.#open(), waitMs * (0.8 + 0.4 * Math.random())); // not all pages at once
  }

  /** Why it is not tried again; null when it is. @param {number} code */
  #refusal(code) {
    const reason = this.#closingError;
    const more = { close: code, retry_after_s: reason?.retry_after_s };
    /** @type {(kind: string, message: string) => PlayerError} */
    const refusal = (kind, message) => new PlayerError(reason?.code ?? kind, reason?.message ?? message, more);
    if (code in FINAL) return refusal("closed", FINAL[code]);
    if (code === UNAUTHORIZED && (!this.#credentials.renewable || this.#tries >= FIRST_TRIES)) {
      return refusal("unauthorized", "the service did not accept the token");
    }
    const lostMs = this.#lostAt === 0 ? 0 : performance.now() - this.#lostAt;
    const patienceMs = Math.max(1000 * (this.#session?.limits.resume_s || RESUME_S), GIVE_UP_MS);
    if (lostMs > patienceMs || (!this.#patient && this.#tries >= FIRST_TRIES)) {
      return refusal("unreachable", `the service cannot be reached (close code ${code})`);
    }
    if (code === EXPIRED) return refusal("closed", "the session ended because nothing was said for a long time");
    return null;
  }

  // The network is back, or somebody looks at the page again: do not wait for the next try.
  #retryNow = () => {
    if (this.#retryTimer !== undefined && !document.hidden) this.#open();
    else this.#ping();
  };
}
