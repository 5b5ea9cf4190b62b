// What the page's parts hand to one another, and what the service answers. Types alone: no browser asks for this
// file.

import type { AvatarPlayer, PlayerError } from "../avatar-player.d.ts";

/** Elements of index.html that are more than an HTMLElement, by id. */
export interface PageElements {
  player: AvatarPlayer;
  add: HTMLDialogElement;
  "add-form": HTMLFormElement;
  "add-send": HTMLButtonElement;
  image: HTMLInputElement;
  name: HTMLInputElement;
  gender: HTMLSelectElement;
  preview: HTMLImageElement;
  begin: HTMLButtonElement;
  confirm: HTMLDialogElement;
  "ask-key": HTMLDialogElement;
  key: HTMLInputElement;
  "notice-act": HTMLButtonElement;
  details: HTMLDetailsElement;
  say: HTMLFormElement;
  "say-text": HTMLTextAreaElement;
  voice: HTMLSelectElement;
  speed: HTMLInputElement;
  level: HTMLMeterElement;
  "write-answers": HTMLButtonElement;
  "client-times": HTMLTableElement;
  "server-times": HTMLTableElement;
}

export type Language = "en" | "ko";
export type TextKey = keyof typeof import("./words-en.js").default;

/** A question of an interview, as it went; seconds since the interview began. */
export interface Entry {
  question: string;
  askedAt: number;
  /** Null when it was not heard to its end. */
  heardAt: number | null;
  doneAt: number | null;
  /** Seconds of the answer, without those in which the question was asked again. */
  answered: number;
  repeats: number;
  skipped: boolean;
}

/** An interview that is not over, as a page keeps it while it is loaded again. */
export interface KeptInterview {
  questions: string[];
  index: number;
  entries: Entry[];
  seconds: number;
}

/** What a transcript says beside its entries, in the language of the page. */
export interface Words extends Record<"title" | "interviewer" | "date" | "skipped", string> {
  answer(time: string): string;
  repeated(n: number): string;
}

/** What an interview needs of a player. */
export type Speaker = Pick<AvatarPlayer, "speak" | "interrupt" | "setState" | "prerender">;

export type InterviewState = "paused" | "preparing" | "asking" | "listening" | "trouble" | "done";

export interface Notice {
  key: TextKey;
  values?: Record<string, unknown>;
  /** Of the button, which does `act`. */
  label?: TextKey;
  act?: () => void;
}

export interface Avatar {
  id: string;
  version: string;
  name: string;
  gender: string;
  builtin: boolean;
}

export interface Voice {
  id: string;
  name?: string;
  gender?: string;
  languages?: string[];
}

export interface Health {
  default_avatar: string;
  engine: { name: string; reason: string; device?: string };
  speech: { engine: string; reason: string };
  /** The model that writes recordings down. */
  transcription?: string | null;
  versions?: Record<string, string>;
}

export type { PlayerError };
