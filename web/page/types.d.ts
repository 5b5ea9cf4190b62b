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

/** What a transcript says beside its entries, in the language of the page. */
export interface Words extends Record<"title" | "interviewer" | "date" | "skipped", string> {
  answer(time: string): string;
  repeated(n: number): string;
}

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
