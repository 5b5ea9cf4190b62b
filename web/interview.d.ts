import type { AvatarPlayer, PlayerError } from "./avatar-player.js";

/** The speeds that a person may choose from. */
export declare const PACES: number[];

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

/** What an interview needs of a player. */
export type Speaker = Pick<AvatarPlayer, "speak" | "interrupt" | "setState" | "prerender">;

/** paused: kept from before; `goOn` asks the question again. preparing: not heard yet. asking. listening: the candidate
 * answers. trouble: it could not be asked; `error` says why, `repeat` tries again. done. */
export type InterviewState = "paused" | "preparing" | "asking" | "listening" | "trouble" | "done";

export interface InterviewHooks {
  /** After every change. */
  onChange(interview: Interview): void;
  /** Once. */
  onDone(interview: Interview): void;
}

/** The course of an interview: which question is asked, heard, answered or skipped, and when. It knows the player and no
 * document, so it serves any framework. */
export declare class Interview {
  /** `kept`: what to go on with. */
  constructor(player: Speaker, questions: string[], hooks: InterviewHooks, kept?: KeptInterview | null);
  readonly state: InterviewState;
  readonly error: PlayerError | null;
  /** Number of the question. */
  readonly index: number;
  /** Of the questions that were asked so far. */
  readonly entries: Entry[];
  /** What a page keeps to go on with this interview after it was loaded again. */
  readonly kept: KeptInterview;
  readonly total: number;
  readonly question: string;
  readonly last: boolean;
  /** Since the interview began. */
  readonly seconds: number;
  /** Seconds of the answer to this question so far, without those in which it was asked again. */
  readonly answered: number;
  /** Asks the first question. */
  begin(): void;
  /** After it was kept: the question is asked again, which the candidate did not ask for. */
  goOn(): void;
  repeat(): void;
  /** The candidate has heard enough and answers. */
  interrupt(): void;
  /** `skipped`: the candidate does not answer this one. */
  next(how?: { skipped?: boolean }): void;
  end(): void;
}
