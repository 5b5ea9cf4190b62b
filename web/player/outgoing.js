// What was asked of the service and is not finished: sent in order, held back where it would be too much, sent again where it was lost.

const DELTA_MS = 30; // text that is written letter by letter goes in pieces
const AUDIO_PIECE = 256 * 1024;
const KNOWN = 500;

/** How long until speech is there, seconds: expected, and learned. Speech that comes late makes the picture jump, speech that comes early waits. */
class Latency {
  #known = new Set();
  #seconds = { fresh: { mean: 0.2, spread: 0.03 }, known: { mean: 0.1, spread: 0.03 } };

  #kind(utterance) {
    return this.#seconds[this.#known.has(key(utterance)) ? "known" : "fresh"];
  }

  of(utterance) {
    const { mean, spread } = this.#kind(utterance);
    return mean + spread / 2;
  }

  learn(utterance, seconds) {
    const kind = this.#kind(utterance);
    const change = Math.min(seconds, 1.5) - kind.mean;
    kind.mean += 0.25 * change;
    kind.spread += 0.25 * (Math.abs(change) - kind.spread);
    if (utterance.options.text) this.know(utterance);
  }

  know(utterance) {
    this.#known.add(key(utterance));
    if (this.#known.size > KNOWN) this.#known.delete(this.#known.values().next().value);
  }
}

const key = ({ options: { text, voice, speed, language } }) => JSON.stringify([text, voice, speed, language]);

export class Outgoing {
  #send;
  #aim;
  #limits = { queued_utterances: 16 };
  #list = []; // utterances whose end the service has not told
  #latency = new Latency();
  #timer = null;
  #held = false;

  /** send(message): false when there is no connection; aim(latencyS): the idle frame to speak from, undefined without a timeline */
  constructor(send, aim) {
    this.#send = send;
    this.#aim = aim;
  }

  /** Texts that the service has ready. */
  know(options) {
    this.#latency.know({ options });
  }

  add(utterance) {
    Object.assign(utterance, { key: null, wire: utterance.id, announced: false, pieces: [], sent: 0, taken: 0, waiting: false, tries: 0 });
    this.#list.push(utterance);
    this.#announce();
  }

  write(utterance, piece) {
    const last = utterance.pieces[utterance.pieces.length - 1];
    const joins = last && utterance.pieces.length > utterance.sent && !last.flush && !last.final && last.delta !== undefined;
    if (joins) Object.assign(last, piece, { delta: last.delta + (piece.delta ?? "") });
    else utterance.pieces.push({ delta: "", ...piece });
    if (piece.flush || piece.final) this.#sendPieces(utterance);
    else this.#timer ??= setTimeout(() => this.#sendAllPieces(), DELTA_MS);
  }

  interrupt(utterances) {
    for (const utterance of utterances) {
      utterance.unwanted = true;
      if (!utterance.announced) this.received(utterance);
      else if (this.#list.includes(utterance)) this.#send({ type: "interrupt", id: utterance.wire });
    }
  }

  /** A new session: all that was not finished is to be said again, from `catchUp` on. Returns it. */
  reset(limits) {
    this.#limits = limits;
    this.#held = true;
    this.#list = this.#list.filter((utterance) => !utterance.unwanted);
    for (const utterance of this.#list) Object.assign(utterance, { n: null, announced: false, sent: 0, taken: 0, waiting: false, words: [], cues: [], wordsTold: 0 });
    return [...this.#list];
  }

  /** Connected again, but what the service got is not known yet: nothing new is said until `catchUp`, or it would be said twice. */
  hold() {
    this.#held = true;
  }

  /** Connected, and all that was missed is there: what the service did not get is sent again. */
  catchUp() {
    this.#held = false;
    for (const utterance of [...this.#list]) {
      if (utterance.unwanted) this.#send({ type: "interrupt", id: utterance.wire });
      else if (utterance.announced && utterance.n === null) utterance.announced = false;
      else if (utterance.options.audio && utterance.announced && utterance.taken === 0) this.#again(utterance);
      utterance.sent = utterance.taken;
    }
    this.#announce();
    this.#sendAllPieces();
  }

  // Half a recording may have arrived, and nobody knows which half.
  #again(utterance) {
    this.#send({ type: "interrupt", id: utterance.wire });
    utterance.tries += 1;
    utterance.wire = `${utterance.id.slice(0, 58)}.${utterance.tries}`;
    utterance.announced = false;
    utterance.n = null;
  }

  close() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#list = [];
  }

  // --- what the service told ---------------------------------------------------------------------------------------------

  queued(utterance, n) {
    utterance.n = n;
  }

  accepted(utterance) {
    utterance.taken += 1;
  }

  started(utterance) {
    utterance.waiting = false;
  }

  waits(utterance) {
    utterance.waiting = true;
  }

  /** The first whole segment is there. */
  arrived(utterance) {
    if (utterance.sentAt !== null && utterance.options.text) this.#latency.learn(utterance, (performance.now() - utterance.sentAt) / 1000);
  }

  received(utterance) {
    this.#list = this.#list.filter((one) => one !== utterance);
    this.#announce();
  }

  byWire(wire) {
    return this.#list.find((utterance) => utterance.wire === wire) ?? null;
  }

  byNumber(n) {
    return this.#list.find((utterance) => utterance.n === n) ?? null;
  }

  // --- sending -----------------------------------------------------------------------------------------------------------

  #announce() {
    if (this.#held) return;
    let before = 0;
    for (const utterance of [...this.#list]) {
      if (!utterance.announced && before < this.#limits.queued_utterances) {
        if (!this.#speak(utterance, before)) return;
      }
      before += 1;
    }
  }

  #speak(utterance, before) {
    const { text, audio, deltas, voice, speed, language } = utterance.options;
    const source = text !== undefined ? { text } : audio ? { audio: true } : { deltas };
    const asked = { type: "speak", id: utterance.wire, ...source, ...(voice && { voice }), ...(speed && { speed }), ...(language && { language }) };
    if (!this.#send({ ...asked, ...this.#phase(utterance, before) })) return false;
    utterance.announced = true;
    utterance.sentAt = before === 0 ? performance.now() : null; // behind another one it is the other that takes the time
    if (audio) this.#upload(utterance);
    else this.#sendPieces(utterance);
    return true;
  }

  // Where the loop will stand when the speech comes; behind other speech the service knows better.
  #phase(utterance, before) {
    const phase = before === 0 ? this.#aim(this.#latency.of(utterance)) : undefined;
    return phase === undefined ? {} : { phase };
  }

  async #upload(utterance) {
    const { wire } = utterance;
    const bytes = new Uint8Array(await new Response(utterance.options.audio).arrayBuffer());
    if (utterance.wire !== wire || utterance.over) return;
    for (let at = 0; at < bytes.length; at += AUDIO_PIECE) this.#send(bytes.subarray(at, at + AUDIO_PIECE));
    this.#send({ type: "audio_end", id: wire, ...this.#phase(utterance, this.#list.indexOf(utterance)) });
  }

  #sendAllPieces() {
    clearTimeout(this.#timer);
    this.#timer = null;
    for (const utterance of this.#list) this.#sendPieces(utterance);
  }

  #sendPieces(utterance) {
    if (this.#held || !utterance.options.deltas || !utterance.announced || utterance.over) return;
    while (utterance.sent < utterance.pieces.length) {
      const idle = this.#list[0] === utterance && (utterance.waiting || utterance.words.length === 0);
      const phase = idle ? this.#phase(utterance, 0) : {};
      if (!this.#send({ type: "text", id: utterance.wire, ...utterance.pieces[utterance.sent], ...phase })) return;
      utterance.sent += 1;
    }
  }
}
