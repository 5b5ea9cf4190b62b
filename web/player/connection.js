// One session over as many connections as it takes: heartbeats, acknowledgements, resuming, close codes.

import { PlayerError } from "./errors.js";
import { parseFragment } from "./wire.js";

const ACK_MS = 250;
const ACK_BYTES = 2 ** 18;
const PONG_MS = 4_000; // a connection that does not answer for so long is dead, though nobody said so
const BEAT_MS = 5_000;
const CONNECT_MS = 10_000;
const BACKOFF_MS = [0, 250, 500, 1_000, 2_000, 4_000];

// Close codes after which nothing is to be tried again, and why. The others: resume where that makes sense, else a new session.
const FINAL = {
  4000: "the service did not accept how the session was begun",
  4005: "the session's token was not accepted",
  4006: "another page went on with this session",
  4009: "this page's origin is not accepted by the service",
};
const ANEW = new Set([1001, 1009, 1011, 4001, 4003, 4004, 4008, 4013]);
const PATIENT = new Set([4008, 4013]); // wait before trying again

/**
 * Hooks: ready(ready, anew), caughtUp() once all that was missed before a resume is there, message(json), fragment(header), lost(code), gone(error).
 * `anew`: the service knows nothing of what was asked before.
 */
export class Connection {
  #url;
  #start;
  #hooks;
  #socket = null;
  #session = null; // {session, token, limits} of `ready`
  #seq = 0;
  #unacked = 0;
  #acked = 0;
  #ackTimer = null;
  #beat = null;
  #pong = null;
  #retry = null;
  #tries = 0;
  #lostAt = 0;
  #closed = false;
  #refusal = null; // the service's words before it closed
  #greeted = false; // `ready` came on this connection ...
  #behind = false; // ... and not yet all that was missed

  constructor(url, start, hooks) {
    this.#url = url;
    this.#start = start;
    this.#hooks = hooks;
    addEventListener("online", this.#now);
    document.addEventListener("visibilitychange", this.#now);
    this.#open();
  }

  get open() {
    return this.#socket?.readyState === WebSocket.OPEN && this.#session !== null && this.#greeted;
  }

  /** False when it could not be sent; the caller keeps what must not be lost. */
  send(message) {
    if (!this.open) return false;
    this.#socket.send(message instanceof Uint8Array ? message : JSON.stringify(message));
    return true;
  }

  close() {
    this.#closed = true;
    this.#rest();
    removeEventListener("online", this.#now);
    document.removeEventListener("visibilitychange", this.#now);
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send('{"type":"end"}');
    this.#socket?.close(1000);
    this.#socket = null;
  }

  #open() {
    clearTimeout(this.#retry);
    this.#retry = null;
    this.#greeted = false;
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    this.#refusal = null;
    const slow = setTimeout(() => socket === this.#socket && this.#drop(socket, 1006), CONNECT_MS);
    socket.onopen = () => {
      const resumed = this.#session && { type: "resume", session: this.#session.session, token: this.#session.token, seq: this.#seq };
      socket.send(JSON.stringify(resumed ?? { type: "start", ...this.#start }));
    };
    socket.onmessage = ({ data }) => {
      clearTimeout(slow);
      if (socket === this.#socket) this.#take(data);
    };
    socket.onclose = ({ code }) => {
      clearTimeout(slow);
      if (socket === this.#socket) this.#ended(code);
    };
  }

  #take(data) {
    if (typeof data === "string") {
      const message = JSON.parse(data);
      if (!this.#isNew(message.seq)) return;
      if (message.type === "ready") this.#welcome(message);
      else if (message.type === "pong") this.#answered();
      else {
        if (message.type === "error" && message.closing) this.#refusal = message;
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

  #isNew(seq) {
    if (seq === 0) return true;
    if (seq <= this.#seq) return false;
    this.#seq = seq;
    return true;
  }

  #welcome(ready) {
    const anew = !ready.resumed;
    this.#session = ready;
    this.#greeted = true;
    this.#tries = 0;
    this.#lostAt = 0;
    clearInterval(this.#beat);
    this.#beat = setInterval(() => this.#ping(), Math.min(BEAT_MS, ready.limits.heartbeat_s * 500));
    this.#behind = ready.resumed;
    this.#hooks.ready(ready, anew);
    this.#ping(); // it is answered behind all that was missed
  }

  #answered() {
    clearTimeout(this.#pong);
    this.#pong = null;
    if (!this.#behind) return;
    this.#behind = false;
    this.#hooks.caughtUp();
  }

  #ack() {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = null;
    if (this.#seq > this.#acked && this.send({ type: "ack", seq: this.#seq })) {
      this.#acked = this.#seq;
      this.#unacked = 0;
    }
  }

  #ping() {
    const socket = this.#socket;
    if (!this.send({ type: "ping" })) return;
    this.#pong ??= setTimeout(() => {
      this.#pong = null;
      if (socket === this.#socket) this.#drop(socket, 1006);
    }, PONG_MS);
  }

  // A socket that does not answer takes its time to close: it is left to itself.
  #drop(socket, code) {
    socket.onopen = socket.onclose = null;
    socket.close();
    this.#ended(code);
  }

  #rest() {
    clearInterval(this.#beat);
    clearTimeout(this.#pong);
    clearTimeout(this.#ackTimer);
    clearTimeout(this.#retry);
    this.#beat = this.#pong = this.#ackTimer = this.#retry = null;
    this.#greeted = false;
  }

  #ended(code) {
    this.#rest();
    this.#socket = null;
    if (this.#closed) return;
    const words = this.#refusal;
    const fail = (kind, message) => {
      this.#closed = true;
      this.#hooks.gone(new PlayerError(words?.code ?? kind, words?.message ?? message, { close: code, retry_after_s: words?.retry_after_s }));
    };
    if (code in FINAL) return fail("closed", FINAL[code]);
    const first = this.#session === null && this.#lostAt === 0;
    this.#lostAt ||= performance.now();
    const patience = 1000 * (this.#session?.limits.resume_s || 30);
    if (performance.now() - this.#lostAt > Math.max(patience, 60_000) || (this.#session === null && this.#tries >= 3)) {
      return fail("unreachable", `the service cannot be reached (close code ${code})`);
    }
    if (ANEW.has(code)) {
      if (code === 4003) return fail("closed", "the session ended because nothing was said for a long time");
      this.#session = null;
      this.#seq = this.#acked = 0;
    }
    if (!first || code !== 1006) this.#hooks.lost(code);
    const wait = PATIENT.has(code) ? Math.max(1000 * (words?.retry_after_s ?? 2), 1000) : BACKOFF_MS[Math.min(this.#tries, BACKOFF_MS.length - 1)];
    this.#tries += 1;
    this.#retry = setTimeout(() => this.#open(), wait * (0.8 + 0.4 * Math.random()));
    return undefined;
  }

  // The network is back, or somebody looks at the page again: do not wait for the next try.
  #now = () => {
    if (this.#retry !== null && !document.hidden) this.#open();
    else this.#ping();
  };
}
