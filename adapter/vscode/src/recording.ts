/** What `retrace info --json` and `retrace events --json` say. */
import { type JsonObject, asObject, numberIn, numberOr, objectsIn, parseObject, stringIn, stringOr, stringsIn } from "./json";

export interface Recording {
  readonly created: string;
  readonly python: string;
  readonly size: number;
  readonly processes: readonly RecordedProcess[];
}

export interface RecordedProcess {
  readonly index: number;
  readonly pid: number | undefined;
  readonly parent: number | undefined;
  readonly forked: boolean;
  readonly command: string;
  readonly ending: string;
  readonly failed: boolean;
  readonly events: number;
  readonly raised: number;
  readonly threads: readonly RecordedThread[];
}

export interface RecordedThread {
  readonly serial: number;
  readonly events: number;
  /** The event that made it; none for the main thread. */
  readonly madeAt: number | undefined;
}

/** What crossed the boundary, as a line of text. */
export interface RecordedEvent {
  readonly index: number;
  readonly thread: number;
  readonly text: string;
  readonly raised: boolean;
}

export function parseRecording(text: string): Recording {
  const recording = parseObject(text, "the recording's description");
  return {
    created: stringIn(recording, "created"),
    python: stringIn(recording, "python"),
    size: numberIn(recording, "size"),
    processes: objectsIn(recording, "processes").map(processOf),
  };
}

function processOf(process: JsonObject): RecordedProcess {
  const ending = asObject(process["ending"], "the process's ending");
  // A process that was killed at once left no start.
  const start = asObject(process["start"] ?? {}, "the process's start");
  return {
    index: numberIn(process, "index"),
    pid: numberOr(start, "pid", undefined),
    parent: numberOr(start, "parent", undefined),
    forked: typeof start["forked_at"] === "number",
    command: commandOf(start),
    ending: endingText(ending),
    failed: isFailure(ending),
    events: numberIn(process, "events"),
    raised: numberIn(process, "raised"),
    threads: objectsIn(process, "threads").map(threadOf),
  };
}

function threadOf(thread: JsonObject): RecordedThread {
  return {
    serial: numberIn(thread, "serial"),
    events: numberIn(thread, "events"),
    madeAt: numberOr(thread, "made_at", undefined),
  };
}

function commandOf(start: JsonObject): string {
  return stringsIn(start, "argv").join(" ") || stringOr(start, "main", "");
}

function endingText(ending: JsonObject): string {
  const kind = stringIn(ending, "kind");
  switch (kind) {
    case "exited": {
      const status = numberIn(ending, "status");
      return status === -1 ? "ended" : `exited with status ${status}`;
    }
    case "stopped":
      return `recording stopped: ${stringIn(ending, "reason")}`;
    case "abrupt":
      return "ended abruptly";
    case "recording":
      return "still recording";
    case "replaced":
      return `replaced by process ${numberIn(ending, "by")}`;
    default:
      return kind;
  }
}

/** Whether the program ended otherwise than it would have wanted to. */
function isFailure(ending: JsonObject): boolean {
  const kind = stringIn(ending, "kind");
  return kind === "abrupt" || (kind === "exited" && numberIn(ending, "status") > 0);
}

/** The events of a listing, which is a JSON object a line. */
export function parseEvents(text: string): RecordedEvent[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const event = parseObject(line, "an event");
      return {
        index: numberIn(event, "index"),
        thread: numberIn(event, "running"),
        text: stringIn(event, "text"),
        raised: "raised" in event,
      };
    });
}

/** Half open: `end` is not in it. */
export interface EventRange {
  readonly start: number;
  readonly end: number;
}

/**
 * Cuts a range into at most `most` ranges of one size, which is `page` or a power of `most` times that; a range of a
 * page or less is not cut.
 */
export function subranges(range: EventRange, page: number, most: number): EventRange[] {
  let size = page;
  while (range.end - range.start > size * most) {
    size *= most;
  }
  const found: EventRange[] = [];
  for (let start = range.start; start < range.end; start += size) {
    found.push({ start, end: Math.min(start + size, range.end) });
  }
  return found;
}
