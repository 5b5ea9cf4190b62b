import type { AvatarPlayer, NoticeDetail, Token } from "./avatar-player.js";

export interface TTSOptions {
  /** Default "nova". */
  voice?: string;
  /** Default 1.1. */
  speed?: number;
  /** Shows the speaker; absent = sound alone. */
  player?: AvatarPlayer | null;
  /** Address of the service; absent = the player's, or where the script came from. */
  src?: string;
  /** Absent = the player's. */
  token?: Token;
  onStart?: (text: string) => void;
  onEnd?: (text: string) => void;
  onError?: (error: Error, text: string) => void;
  /** Said once when the avatar cannot be shown and the voice goes on alone. */
  onNotice?: (notice: NoticeDetail) => void;
}

/** A queue of texts, spoken one after the other by the avatar; by sound alone where it cannot be shown. */
export declare class TTSManager {
  constructor(options?: TTSOptions);
  voice: string;
  speed: number;
  readonly isPlaying: boolean;
  /** Texts that wait. */
  readonly queue: readonly string[];
  /** Resolves when this text was spoken to its end, or was stopped; rejects when neither avatar nor sound could speak
   * it. */
  speak(text: string, options?: { voice?: string; speed?: number; interrupt?: boolean }): Promise<void>;
  /** Stops what is heard and empties the queue. */
  stop(): void;
  /** Allows sound; call it inside a gesture. */
  unlock(): Promise<boolean>;
}

export default TTSManager;
