// `import type {} from "@museserve/avatar-player/react"` lets React 19's checker know <avatar-player> in JSX: its
// attributes, which React sets as properties, and its events, as `on` and their name.

import type { DetailedHTMLProps, HTMLAttributes } from "react";
import type { AvatarPlayer, PlayerEvents, Token } from "./avatar-player.js";

type PlayerAttributes = Partial<
  Pick<AvatarPlayer, "src" | "avatar" | "voice" | "speed" | "language" | "captions" | "motion" | "muted" | "label">
>;
type PlayerListeners = { [Type in keyof PlayerEvents as `on${Type}`]?: (event: PlayerEvents[Type]) => void };
type PlayerProperties = PlayerAttributes & PlayerListeners & { token?: Token };
type OtherAttributes = Omit<HTMLAttributes<AvatarPlayer>, keyof PlayerProperties>;

declare module "react" {
  namespace JSX {
    interface IntrinsicElements {
      "avatar-player": DetailedHTMLProps<OtherAttributes, AvatarPlayer> & PlayerProperties;
    }
  }
}
