// Types of MockInterview.vue for apps, whose checker does not look into its JavaScript.

import type { DefineComponent } from "vue";
import type { AvatarPlayer, PlayerError, ReadyDetail, Token } from "./avatar-player.js";
import type { Entry } from "./interview.js";

export interface MockInterviewProps {
  /** What is asked, in order. */
  questions: string[];
  /** Id of an avatar, or man / woman. Default woman. */
  avatar?: string;
  /** ko (default) or en: of the buttons, and of the speech unless `speechLanguage` says otherwise. */
  language?: "ko" | "en";
  /** BCP 47 tag of the questions; auto (default) = seen from each text. */
  speechLanguage?: string;
  /** Default auto. */
  voice?: string;
  /** To begin with: there are buttons for it. Default 1.1. */
  speed?: number;
  /** The same. Default true. */
  captions?: boolean;
  /** A session token, or what gets one, where the service asks for it. */
  token?: Token;
  /** Address of the service; absent = where the app came from. */
  src?: string;
}

export interface Asked {
  index: number;
  question: string;
}

export type MockInterviewEmits = {
  /** The interviewer is on the screen: what runs, and why. */
  ready: (detail: ReadyDetail) => void;
  /** A question is heard. */
  asked: (asked: Asked) => void;
  /** The candidate may answer. */
  listening: (asked: Asked) => void;
  /** The list is through, or `end` was pressed. */
  finished: (entries: Entry[]) => void;
  /** The component shows it too, with a way back. */
  error: (error: PlayerError) => void;
};

/** What a template ref gives. */
export interface MockInterviewExposed {
  /** Call it inside a gesture, or the browser allows no sound. */
  begin(): Promise<void>;
  end(): void;
  player: AvatarPlayer | null;
}

/** An interview inside a Vue 3 app: the interviewer, the question, and the buttons to go through a list of them. */
declare const MockInterview: DefineComponent<
  MockInterviewProps,
  MockInterviewExposed,
  {},
  {},
  {},
  {},
  {},
  MockInterviewEmits
>;
export default MockInterview;
