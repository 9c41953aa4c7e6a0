/**
 * A place in a recording's execution: so many line events after the event of this index. The adapter's own positions
 * say more, by which it finds them again; that is handed back as it is.
 */
export interface Position {
  readonly event: number;
  readonly ticks: number;
  readonly [more: string]: unknown;
}

/** What the adapter's gotoPosition takes. */
export type Destination = Position | "start" | "end" | "crash";

export function atEvent(event: number): Position {
  return { event, ticks: 0 };
}
