// `import type {} from "@museserve/avatar-player/vue"` lets Vue's checker know <avatar-player> in templates: its
// attributes, its events, and what a template ref gives.

import type { DefineComponent } from "vue";
import type { AvatarPlayer, PlayerEvents, Token } from "./avatar-player.js";

type PlayerAttributes = Partial<
  Pick<AvatarPlayer, "src" | "avatar" | "voice" | "speed" | "language" | "captions" | "motion" | "muted" | "label">
>;
type PlayerEmits = { [Type in keyof PlayerEvents]: (event: PlayerEvents[Type]) => void };

declare module "vue" {
  interface GlobalComponents {
    "avatar-player": DefineComponent<PlayerAttributes & { token?: Token }, AvatarPlayer, {}, {}, {}, {}, {}, PlayerEmits>;
  }
}
