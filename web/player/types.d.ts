// What the player's parts hand to one another, and the messages of a session (docs/sessions.md). Types alone: no
// browser asks for this file.

import type { AvatarPlayer, Cue, EndedDetail, Mode, NoticeDetail } from "../avatar-player.d.ts";
import type { ReadyDetail, SpeakOptions, Word } from "../avatar-player.d.ts";
import type { Credentials } from "./credentials.js";
import type { PlayerError } from "./errors.js";
import type { Quality } from "./quality.js";
import type { Run } from "./slots.js";
import type { Timeline } from "./timeline.js";
import type { Utterance } from "./utterance.js";

/** What every utterance takes unless it says otherwise. */
export type VoiceSettings = Pick<SpeakOptions, "voice" | "speed" | "language">;

/** Options of `speak` that were checked. */
export type Request = SpeakOptions & { id: string };

/** What `setState` says the person's side is at. */
export type PersonState = Parameters<AvatarPlayer["setState"]>[0];

/** A promise, and how it is settled. */
export interface Deferred<Value> {
  promise: Promise<Value>;
  resolve(value: Value): void;
  reject(reason: unknown): void;
}

/** A part of a text that is written bit by bit. */
export interface Piece {
  delta?: string;
  flush?: boolean;
  final?: boolean;
}

// --- a way to the service: a live session, or finished files -----------------------------------------------

export interface Transport {
  readonly mode: Mode;
  readonly opened: Promise<ReadyDetail>;
  readonly timeline: Timeline | null;
  speak(utterance: Utterance): void;
  write(utterance: Utterance, piece: Piece): void;
  /** Takes utterances off the screen. */
  interrupt(utterances: Utterance[]): void;
  setState(state: PersonState): void;
  /** The service has this text ready: it comes sooner. */
  markCached?(options: SpeakOptions): void;
  close(): void;
}

export interface TransportOptions {
  /** Address of the service. */
  base: string;
  start: VoiceSettings & { avatar?: string };
  credentials: Credentials;
  video: HTMLVideoElement;
  quality: Quality;
  hooks: TransportHooks;
}

export interface TransportHooks {
  ready(detail: ReadyDetail): void;
  quiet(quiet: boolean): void;
  lost(): void;
  failed(error: PlayerError): void;
  notice(code: NoticeDetail["code"], message: string, id?: string): void;
  error(error: PlayerError): void;
  /** Its first speaking picture is on the screen, so long after `speak`. */
  started(utterance: Utterance, ms: number): void;
  ended(utterance: Utterance, outcome: EndedDetail["outcome"], error?: PlayerError | null): void;
  /** What is heard now, and where in it. */
  tick(utterance: Utterance | null, ms: number): void;
  /** Frame 0 of the utterance lies at this time of the media. */
  placed(utterance: Utterance, originS: number): void;
  seeking(why: SeekReason): void;
}

// --- the timeline ------------------------------------------------------------------------------------------

/** "in step": a start at which the pictures do not jump. "due": to where the clock would be anyway. */
export type SeekReason = "start" | "in step" | "cut" | "late" | "underrun" | "due";

export interface TimelineHooks {
  tick(): void;
  shown(run: Run, at: number): void;
  ended(run: Run): void;
  /** It played on after the clock had stood for so long. */
  underrun(run: Run | null, ms: number): void;
  /** The line is slower than the speech: so many seconds of it are gathered before it is heard, or goes on. */
  holding(run: Run, seconds: number): void;
  /** What is asked for next is asked for in another rendition than before. */
  rendition(level: number, before: number): void;
  /** So many segments of idle stood in for speech that was not there. */
  late(run: Run, segments: number): void;
  seeking(why: SeekReason): void;
  error(error: Error): void;
}

/** What lies in a slot. run: null for idle; frame: of the utterance; phase: the idle frame under the slot's first
 * picture. */
export interface SlotContent {
  run: Run | null;
  frame: number;
  phase: number;
  /** It begins with a key frame. */
  key: boolean;
  /** It was played before, and is there for the pictures behind it alone: the clock jumps over it. */
  again: boolean;
  /** How many segments of a gesture it and those after it are; 0: it is of none. */
  gesture: number;
}

/** At the beginning of an idle loop's bundle; sizes in bytes. */
export interface IdleIndex {
  codecs: string;
  frames: number;
  init: number;
  segments: number[];
  steady: number[];
  gestures?: Record<string, { first: number; segments: number[] }[]>;
}

export type Timer = ReturnType<typeof setTimeout>;
export type Bytes = Uint8Array<ArrayBuffer>;

// --- messages to the service -------------------------------------------------------------------------------

export type ClientMessage =
  | ({ type: "speak"; id: string; text?: string; audio?: true; deltas?: true; pcm?: number; phase?: number; rendition?: number } & VoiceSettings &
      TakenOver)
  | ({ type: "text"; id: string; phase?: number } & Piece)
  | { type: "audio_end"; id: string; phase?: number }
  | { type: "played"; id: string; frames: number; phase?: number }
  | { type: "interrupt"; id: string }
  | { type: "state"; state: "listening" | "thinking" }
  | { type: "ping" }
  | { type: "ack"; seq: number }
  | ({ type: "stats" } & Stats);

/** What came of an utterance in an earlier session, and the last part that came of it. */
export interface TakenOver {
  received?: { frames: number; part: SpokenPart };
}

/** What the service made in one go, and how; given back to it as it is. */
export interface SpokenPart {
  first_frame: number;
  phase: number;
  chars?: [number, number];
  first_word: number;
  first_cue: number;
  sound_ms?: number;
}

export type Counter = keyof AvatarPlayer["counters"];
export type Time = "first_frame_ms" | "interrupt_ms";
export type Stats = Partial<Record<Counter, number> & Record<Time, number[]>>;

// --- messages of the service -------------------------------------------------------------------------------

export interface Fragment {
  flags: number;
  nFrames: number;
  seq: number;
  /** The utterance's number. */
  n: number;
  /** Counted from the utterance's start. */
  firstFrame: number;
  phase: number;
  data: Bytes;
}

export interface Limits {
  queued_utterances: number;
  heartbeat_s: number;
  resume_s: number;
}

export interface Ready extends Pick<ReadyDetail, "avatar" | "lips" | "speech" | "resumed"> {
  type: "ready";
  seq: number;
  session: string;
  token: string;
  notices: string[];
  idle: { url: string; frames: number; segments: number; first_bytes?: number };
  media: { codecs: string; fps: number; segment_frames: number };
  limits: Limits;
}

/** What the messages of an utterance have in common; `n` is its number in the session. */
interface OfUtterance {
  seq: number;
  id: string;
  n: number;
}

export type ServerMessage =
  | ({ type: "queued"; ahead: number } & OfUtterance)
  | { type: "accepted"; seq: number; id?: string; what: string }
  | Started
  | ({ type: "part" } & SpokenPart & OfUtterance)
  | WordsMessage
  | ({ type: "delayed"; retry_after_s: number } & OfUtterance)
  | Waiting
  | ({ type: "finished"; frames: number; phase: number } & OfUtterance)
  | Interrupted
  | { type: "nothing_to_interrupt"; seq: number; id?: string; reason: string }
  | { type: "moving"; seq: number; id?: undefined; within_s: number }
  | Failure;

export interface Started extends OfUtterance {
  type: "started";
  first_frame: number;
  phase: number;
  grid: number;
  cached: "no" | "speech" | "segments";
  speech_engine: string;
  notice: string;
  timings_ms: Record<string, number>;
}

export interface Waiting extends OfUtterance {
  type: "waiting";
  frames: number;
  phase: number;
  sound_ms?: number;
}

export interface Interrupted extends OfUtterance {
  type: "interrupted";
  frames: number;
  by: "client" | "error" | "end";
}

export interface WordsMessage extends OfUtterance {
  type: "words";
  first_word: number;
  words: Word[];
  first_cue: number;
  cues: Cue[];
}

export interface Failure {
  type: "error";
  seq: number;
  code: string;
  message: string;
  id?: string;
  retry_after_s?: number;
  /** The close code that follows. */
  closing?: number;
}

export interface ConnectionHooks {
  /** `anew`: the service knows nothing of what was asked before. */
  ready(ready: Ready, anew: boolean): void;
  /** All that was missed before a resume is there. */
  caughtUp(): void;
  message(message: ServerMessage): void;
  fragment(fragment: Fragment): void;
  /** Something is waited for. */
  busy(): boolean;
  /** The service says nothing although something is waited for; then, that it does again. */
  quiet(quiet: boolean): void;
  lost(code: number): void;
  gone(error: PlayerError): void;
}

// --- for the check of types --------------------------------------------------------------------------------

/** Fails to compile, and names what is left over, unless nothing is. */
export type Nothing<LeftOver extends never> = LeftOver;
