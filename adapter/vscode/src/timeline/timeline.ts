/** The adapter's answer to the `timeline` request. */
import { type JsonObject, asObject, numberIn, numberOr, objectsIn, stringOr } from "../json";
import { type Position, comparePositions } from "../position";

export interface Timeline {
  /** The index behind the last event. */
  readonly end: number;
  readonly threads: readonly TimelineThread[];
  readonly events: readonly TimelineEvent[];
  readonly exceptions: readonly TimelineException[];
  /** Where breakpoints were hit. */
  readonly hits: readonly Present[];
  readonly current: Present | undefined;
}

export interface TimelineThread {
  readonly id: number;
  readonly name: string;
}

export interface TimelineEvent {
  readonly index: number;
  readonly thread: number;
  readonly function: string;
  readonly kind: string;
}

export interface TimelineException {
  readonly position: Position;
  readonly thread: number;
  readonly type: string;
  readonly message: string;
  readonly uncaught: boolean;
}

/** Where the debugger stands, or stood. */
export interface Present {
  readonly position: Position;
  readonly thread: number;
}

export function parseTimeline(answer: unknown): Timeline {
  const timeline = asObject(answer, "the timeline");
  const current = timeline["current"];
  return {
    end: numberIn(timeline, "end"),
    threads: objectsIn(timeline, "threads").map((thread) => ({
      id: numberIn(thread, "id"),
      name: stringOr(thread, "name", `Thread ${numberIn(thread, "id")}`),
    })),
    events: objectsIn(timeline, "events").map((event) => ({
      index: numberIn(event, "index"),
      thread: numberIn(event, "thread"),
      function: stringOr(event, "function", ""),
      kind: stringOr(event, "kind", ""),
    })),
    exceptions: objectsIn(timeline, "exceptions").map((exception) => ({
      position: parsePosition(asObject(exception["position"] ?? exception, "a position")),
      thread: numberIn(exception, "thread"),
      type: stringOr(exception, "type", "exception"),
      message: stringOr(exception, "message", ""),
      uncaught: exception["uncaught"] === true,
    })),
    hits: objectsIn(timeline, "hits").map((hit) => parsePresent(hit)),
    current: current === undefined || current === null ? undefined : parsePresent(current),
  };
}

/** Adds breakpoint hits to those that the timeline has. */
export function withHits(timeline: Timeline, hits: readonly Present[]): Timeline {
  const isSame = (a: Present, b: Present) =>
    a.thread === b.thread && comparePositions(a.position, b.position) === 0;
  const isNew = (hit: Present) => !timeline.hits.some((known) => isSame(known, hit));
  return { ...timeline, hits: [...timeline.hits, ...hits.filter(isNew)] };
}

export function parsePresent(answer: unknown): Present {
  const object = asObject(answer, "a place");
  return {
    position: parsePosition(asObject(object["position"], "a position")),
    thread: numberIn(object, "thread"),
  };
}

function parsePosition(position: JsonObject): Position {
  return { ...position, event: numberIn(position, "event"), ticks: numberOr(position, "ticks", 0) };
}
