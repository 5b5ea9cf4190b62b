/**
 * `<avatar-player>`: an interviewer who lives, speaks, can be interrupted, and is captioned. docs/player.md tells how
 * it is used.
 *
 *     import "/avatar-player.js";
 *     const player = document.querySelector("avatar-player");
 *     button.onclick = async () => { await player.unlock(); await player.speak("Tell me about yourself.").ended; };
 */

/**
 * What the element is at; also its attribute `data-state`, so that CSS can show it.
 *
 * off: not connected. connecting. idle, listening, thinking: alive and silent; the latter two as told by `setState`.
 * waiting: asked to speak, nothing is heard yet. speaking. reconnecting: the connection is lost and sought; what had
 * arrived is played. failed: it gave up; `connect()` is the way back.
 */
export type PlayerState =
  "off" | "connecting" | "idle" | "listening" | "thinking" | "waiting" | "speaking" | "reconnecting" | "failed";

/** How pictures come: through a media source, or as one finished mp4 an utterance where the browser has none. */
export type Mode = "stream" | "file";

/** A session token of the service, or what gets one from the page's own backend: it is asked again for every session,
 * connection and finished video. null = the service asks for none. */
export type Token = string | null | (() => string | null | Promise<string | null>);

export interface SpeakOptions {
  /** Exactly one of `text`, `audio`, `deltas` and `pcm`. */
  text?: string;
  /** Recorded speech: wav, mp3, m4a, ogg, webm or flac. */
  audio?: Blob | ArrayBuffer | Uint8Array;
  /** The text comes piece by piece through `write` and `end` of the utterance. */
  deltas?: true;
  /** The sound comes piece by piece through `write` and `end` of the utterance, as a realtime model or a voice of your
   * own makes it: 16-bit mono samples at so many Hz. */
  pcm?: 16000 | 24000 | 48000;
  /** Names the utterance, `[A-Za-z0-9_.:-]{1,64}`, once in a session; made up when absent. */
  id?: string;
  /** Stop all that is playing or queued first. */
  interrupt?: boolean;
  /** For this utterance; absent = the element's attributes. */
  voice?: string;
  speed?: number;
  language?: string;
}

export interface Word {
  text: string;
  /** Milliseconds from the utterance's first frame. */
  start_ms: number;
  end_ms: number;
  /** The voice does not tell its times; these are guessed. */
  estimated?: boolean;
}

export interface Cue {
  start_ms: number;
  end_ms: number;
  lines: string[];
}

export interface StartedDetail {
  id: string;
  /** The first speaking picture was painted so long after `speak`. */
  first_frame_ms: number;
  /** What spoke: the name of an engine, such as `hibari`. */
  voice: string;
  /** What the cache had: nothing, the speech, or finished segments. "no" in the mode "file". */
  cached: "no" | "speech" | "segments";
  /** From the moment the service began to work until each of its stages had its first result; empty in the mode
   * "file". */
  timings_ms: Record<string, number>;
}

export interface EndedDetail {
  id: string;
  outcome: "finished" | "interrupted" | "failed";
  /** How much of it was heard, milliseconds: with `pcm` of the sound that was written, else of the utterance, as its
   * words count. What a language model should take for said. */
  heard_ms: number;
  /** With the outcome "failed". */
  error?: PlayerError;
}

export interface WordDetail extends Word {
  id: string;
  /** Number of the word in its utterance. */
  index: number;
}

export interface InterruptedDetail {
  /** The utterances that were stopped. */
  ids: string[];
  /** Time from the call until the sound was silent. */
  silent_ms: number;
}

export interface StateDetail {
  state: PlayerState;
  before: PlayerState;
}

export interface ReadyDetail {
  session: string | null;
  mode: Mode;
  avatar: string;
  /** What draws the lips and what speaks, and why these. */
  lips: { name: string; reason: string };
  speech: { name: string; reason: string };
  resumed: boolean;
}

/** Something works, but not as it was asked for. `message` is for people, in English; `code` for programs. */
export interface NoticeDetail {
  code:
    | "locked" // sound waits for a gesture: call unlock() inside one
    | "file_mode" // no media source here: every utterance is made whole first
    | "sound_only" // TTSManager: the avatar cannot be shown, the voice goes on
    | "sound_paused" // the system took the sound, e.g. for a phone call: unlock() brings it back, or the system itself
    | "sound_on" // the sound came by itself: the call is over, or the device was slow to begin
    | "still" // motion is off: a portrait with sound and captions
    | "quiet" // for more than a second nothing came of what is waited for; the connection may be lost ...
    | "heard" // ... and was not: the service answers again
    | "reconnecting"
    | "resumed"
    | "restarted" // a new session; what was not finished goes on
    | "moved" // the same, because the service asked for it, and before the connection was closed
    | "rendition" // what is asked for next has fewer bytes, as the line is slow, or more again
    | "slow" // the line is slower than the speech: some of it is gathered before it is heard
    | "dry" // speech did not come in time; the face waits
    | "voice" // another voice or engine than asked for
    | "vad" // voice activity was heard, or the microphone was refused
    | "service"; // what the service noted when the session began
  message: string;
  id?: string;
}

/** `code` is the service's code of the error, or `unreachable`, `unsupported`, `media`, `closed`, `interrupted`,
 * `bad_call`. `unauthorized` also where the page got no token. */
export declare class PlayerError extends Error {
  readonly code: string;
  /** The utterance, where it is one's. */
  readonly id?: string;
  /** The close code of the connection, where it ended. */
  readonly close?: number;
  readonly retry_after_s?: number;
}

/** One utterance. `started` and `ended` never leave an unhandled rejection behind. */
export interface Utterance {
  readonly id: string;
  readonly state: "queued" | "speaking" | "finished" | "interrupted" | "failed";
  /** The first speaking picture is on the screen. Rejects with a PlayerError when it never comes. */
  readonly started: Promise<StartedDetail>;
  /** Always resolves, after the last picture, the interruption or the failure. */
  readonly ended: Promise<EndedDetail>;
  readonly words: readonly Word[];
  readonly cues: readonly Cue[];
  /** With `deltas`: more text; it may end anywhere, also inside a syllable. With `pcm`: more samples, or their bytes in
   * little-endian order. */
  write(more: string | Int16Array | Uint8Array | ArrayBuffer): void;
  /** With `deltas`: speak what is there, even in the middle of a sentence. */
  flush(): void;
  /** With `deltas` and `pcm`: nothing more comes. */
  end(): void;
  interrupt(): void;
}

/** What was said so far. */
export interface TranscriptEntry {
  id: string;
  /** Text as it was given; for recordings what the service made of it, or empty. */
  text: string;
  /** Milliseconds since 1970 when it was first heard; null while it waits. */
  at: number | null;
  outcome: "queued" | "speaking" | EndedDetail["outcome"];
}

export interface VoiceActivityOptions {
  /** Interrupt what is being said when the person speaks. Default true. */
  interrupt?: boolean;
  /** Speech must last so long. Default 180. */
  hold_ms?: number;
  /** Above the noise floor, dB. Default 10. */
  threshold_db?: number;
}

export interface PlayerEvents {
  ready: CustomEvent<ReadyDetail>;
  started: CustomEvent<StartedDetail>;
  word: CustomEvent<WordDetail>;
  /** The caption that is shown changed; null between captions. */
  caption: CustomEvent<{ id: string; lines: string[] } | null>;
  ended: CustomEvent<EndedDetail>;
  interrupted: CustomEvent<InterruptedDetail>;
  statechange: CustomEvent<StateDetail>;
  /** `voice`: the person began or ceased to speak (`listen`). */
  voice: CustomEvent<{ speaking: boolean }>;
  notice: CustomEvent<NoticeDetail>;
  error: CustomEvent<PlayerError>;
}

/**
 * Attributes (properties of the same name reflect them; null and undefined take them away):
 *
 * - `src`: address of the service; absent = where the script came from
 * - `avatar`: id, or man / woman; absent = the service's default. A change while connected begins a new session
 * - `voice` (auto), `speed` (1.1), `language` (auto)
 * - `captions`: on (default) | off. Shown or not; the text track and the `word` and `caption` events are there in both
 * - `motion`: auto (default; still where the system asks for reduced motion) | on | off
 * - `muted`: present = no sound
 * - `label`: the badge upon the picture, which names it for screen readers, too; absent = "AI-generated", in Korean
 *   pages "AI로 생성된 영상"; none = no badge, for pages that say so themselves
 *
 * CSS parts: `picture` (the video), `portrait`, `captions` (the box), `caption` (a line), `label`. Custom properties:
 * `--caption-size` (1.05em … of the element's font size), `--caption-color`, `--caption-background`,
 * `--player-radius`, `--player-background`.
 */
export declare class AvatarPlayer extends HTMLElement {
  src: string;
  avatar: string;
  voice: string;
  speed: number;
  language: string;
  captions: "on" | "off";
  motion: "auto" | "on" | "off";
  muted: boolean;
  label: string;

  /** Set it before `connect`. A property alone: a token does not belong into a page. Default null. */
  token: Token;

  readonly state: PlayerState;
  readonly mode: Mode | null;
  /** True when the picture moves; false for the still portrait. */
  readonly moving: boolean;
  /** True once sound is allowed. */
  readonly unlocked: boolean;
  /** The utterance that is heard or comes next. */
  readonly current: Utterance | null;
  readonly transcript: readonly TranscriptEntry[];
  /** Quality counters since the element was made, as sent to the service. */
  readonly counters: Readonly<
    Record<"dry_outs" | "dry_ms" | "late_segments" | "dropped_frames" | "painted_frames" | "reconnects", number>
  >;

  /** Opens the session and shows the idle face, muted until `unlock`. Resolves when the face is on the screen. Also the
   * way back from `failed`. Rejects with a PlayerError. */
  connect(): Promise<ReadyDetail>;
  /** Connects where that was not done. Utterances play in the order of the calls. */
  speak(what: string | SpeakOptions): Utterance;
  /** Silences the sound at once, and shows the idle face. Without an id: all that plays or waits. Returns the ids that
   * were stopped. */
  interrupt(id?: string): string[];
  /** What the conversation is at; tells the service, and the face nods now and then, or looks away to think. `speaking`
   * and `waiting` take precedence while they last. */
  setState(state: "idle" | "listening" | "thinking"): void;
  /** Allows sound. Call it inside a click or key press, once. Resolves to whether sound is allowed now. */
  unlock(): Promise<boolean>;
  /** Has texts ready in the service's cache, so that they start at once. */
  prerender(texts: string[]): Promise<void>;
  /** Hears the person through the microphone, listens when they speak, and interrupts; off until called. Rejects when
   * the microphone is refused. */
  listen(options?: VoiceActivityOptions): Promise<void>;
  stopListening(): void;
  /** Ends the session and frees everything. */
  disconnect(): void;

  addEventListener<K extends keyof PlayerEvents>(
    type: K,
    listener: (this: AvatarPlayer, event: PlayerEvents[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "avatar-player": AvatarPlayer;
  }
}
