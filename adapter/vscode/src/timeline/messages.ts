/** What the extension and the timeline's page tell each other. */
import type { Position } from "../position";
import type { Timeline } from "./timeline";

export type ToPage =
  | { readonly type: "timeline"; readonly timeline: Timeline; readonly session: string }
  /** There is nothing to show, and why. */
  | { readonly type: "nothing"; readonly reason: string };

export type FromPage =
  /** The page is there, and shows this part of the execution; without one, all of it. */
  | { readonly type: "show"; readonly start?: number; readonly count?: number; readonly detail: number }
  | { readonly type: "go"; readonly position: Position };
