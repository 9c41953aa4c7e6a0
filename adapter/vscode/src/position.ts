/**
 * A place in a recording's execution: so many line events after the event of this index. The adapter's own positions
 * say more, by which it finds them again; that is handed back as it is.
 */
export interface Position {
  readonly event: number;
  readonly ticks: number;
  readonly [more: string]: unknown;
}

/** Which of two positions comes first, as a sort wants it: 0 where they are the same. */
export function comparePositions(a: Position, b: Position): number {
  const keys = ["event", "window", "tick", "ticks", "raise", "instruction"];
  return keys.map((key) => placeIn(a, key) - placeIn(b, key)).find((difference) => difference !== 0) ?? 0;
}

/** An event's own position comes before those of the lines after it, and says less. */
function placeIn(position: Position, key: string): number {
  const place = position[key];
  return typeof place === "number" ? place : -1;
}

/** What the adapter's gotoPosition takes. */
export type Destination = Position | "start" | "end" | "crash";

export function atEvent(event: number): Position {
  return { event, ticks: 0 };
}
