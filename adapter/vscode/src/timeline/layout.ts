/** Where the marks of a timeline go. Nothing here knows of the page. */
import { type Position, atEvent, comparePositions } from "../position";
import type { Range } from "./range";
import type { Present, Timeline } from "./timeline";

export type MarkKind = "event" | "exception" | "hit";

/** Something that happened at an x of a lane; near ones of one kind are merged into one. */
export interface Mark {
  readonly kind: MarkKind;
  readonly x: number;
  readonly position: Position;
  readonly label: string;
  /** An exception that nothing caught. */
  readonly uncaught: boolean;
}

export interface Lane {
  readonly thread: number;
  readonly name: string;
  /** From left to right. */
  readonly marks: readonly Mark[];
}

export interface Layout {
  readonly lanes: readonly Lane[];
  readonly present: { readonly x: number; readonly lane: number } | undefined;
  readonly scale: readonly { readonly x: number; readonly event: number }[];
}

/** Marks of a kind closer than this many pixels can't be told apart, nor hit with a pointer. */
export const GAP = 4;
const SCALE_GAP = 90;

interface Happening extends Omit<Mark, "x" | "label"> {
  readonly thread: number;
  readonly text: string;
}

export function layOut(timeline: Timeline, range: Range, width: number): Layout {
  const happenings = happeningsOf(timeline);
  const lanes = timeline.threads.map((thread) => ({
    thread: thread.id,
    name: thread.name,
    marks: marksOf(
      happenings.filter((happening) => happening.thread === thread.id),
      range,
      width,
    ),
  }));
  return { lanes, present: presentOf(timeline.current, lanes, range, width), scale: scaleOf(range, width) };
}

/** Where a position is drawn: at its event, or half way to the next where the program has gone on since. */
export function xOf(position: Position, range: Range, width: number): number {
  const at = position.event + (position.ticks > 0 ? 0.5 : 0);
  return ((at - range.start) / (range.end - range.start)) * width;
}

/** The event nearest to an x. */
export function eventAt(x: number, range: Range, width: number, end: number): number {
  const event = Math.round(range.start + (x / width) * (range.end - range.start));
  return Math.min(Math.max(event, 0), Math.max(end - 1, 0));
}

function happeningsOf(timeline: Timeline): Happening[] {
  const events = timeline.events.map((event) => ({
    kind: "event" as const,
    position: atEvent(event.index),
    thread: event.thread,
    text: event.function === "" ? event.kind : event.function,
    uncaught: false,
  }));
  const exceptions = timeline.exceptions.map((exception) => ({
    kind: "exception" as const,
    position: exception.position,
    thread: exception.thread,
    text: (exception.uncaught ? "uncaught " : "") + [exception.type, exception.message].filter(Boolean).join(": "),
    uncaught: exception.uncaught,
  }));
  const hits = timeline.hits.map((hit) => ({
    kind: "hit" as const,
    position: hit.position,
    thread: hit.thread,
    text: "breakpoint hit",
    uncaught: false,
  }));
  return [...events, ...exceptions, ...hits].sort((a, b) => comparePositions(a.position, b.position));
}

function marksOf(happenings: readonly Happening[], range: Range, width: number): Mark[] {
  const marks: Mark[] = [];
  const groups = new Map<MarkKind, Happening[]>();
  const close = (kind: MarkKind) => {
    const group = groups.get(kind);
    if (group !== undefined) {
      marks.push(markOf(group, range, width));
      groups.delete(kind);
    }
  };
  for (const happening of happenings) {
    const x = xOf(happening.position, range, width);
    if (x < 0 || x > width) {
      continue;
    }
    const first = groups.get(happening.kind)?.[0];
    if (first !== undefined && x - xOf(first.position, range, width) < GAP) {
      groups.get(happening.kind)?.push(happening);
      continue;
    }
    close(happening.kind);
    groups.set(happening.kind, [happening]);
  }
  for (const kind of [...groups.keys()]) {
    close(kind);
  }
  return marks.sort((a, b) => a.x - b.x);
}

/** Of several, the uncaught exception stands for all: one that is looked for must not hide behind its neighbours. */
function markOf(group: readonly Happening[], range: Range, width: number): Mark {
  const shown = group.find((happening) => happening.uncaught) ?? group[0];
  const first = group[0];
  const last = group.at(-1);
  if (shown === undefined || first === undefined || last === undefined) {
    throw new RangeError("a mark of nothing");
  }
  const one = first === last;
  const where = first.position.event === last.position.event ? "event" : "events";
  const indices = where === "event" ? `${first.position.event}` : `${first.position.event} to ${last.position.event}`;
  return {
    kind: shown.kind,
    x: xOf(shown.position, range, width),
    position: shown.position,
    label: one ? `${shown.text}, event ${indices}` : `${shown.text} and ${group.length - 1} more, ${where} ${indices}`,
    uncaught: shown.uncaught,
  };
}

function presentOf(current: Present | undefined, lanes: readonly Lane[], range: Range, width: number) {
  if (current === undefined) {
    return undefined;
  }
  const x = xOf(current.position, range, width);
  const lane = lanes.findIndex((candidate) => candidate.thread === current.thread);
  return x < 0 || x > width ? undefined : { x, lane };
}

/** Round event indices, far enough apart for their digits. */
function scaleOf(range: Range, width: number): { x: number; event: number }[] {
  const step = roundStep(((range.end - range.start) / width) * SCALE_GAP);
  const found: { x: number; event: number }[] = [];
  for (let event = Math.ceil(range.start / step) * step; event <= range.end; event += step) {
    found.push({ x: xOf(atEvent(event), range, width), event });
  }
  return found;
}

/** The smallest of 1, 2, 5, 10, 20, 50 … that is at least this. */
function roundStep(least: number): number {
  const power = 10 ** Math.max(Math.floor(Math.log10(least)), 0);
  const factor = [1, 2, 5].find((candidate) => candidate * power >= least) ?? 10;
  return factor * power;
}
