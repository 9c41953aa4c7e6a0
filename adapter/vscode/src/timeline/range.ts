/** The part of the execution that the timeline shows, in event indices; both ends may lie between two events. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** Fewer events than this do not fill the view. */
const NARROWEST = 8;

export function whole(end: number): Range {
  return { start: 0, end: Math.max(end, NARROWEST) };
}

/** Shows `factor` times as much (less than 1: zooms in), with what is at `centre` staying where it is. */
export function zoomed(range: Range, factor: number, centre: number, end: number): Range {
  const all = whole(end);
  const size = range.end - range.start;
  const wanted = Math.min(Math.max(size * factor, NARROWEST), all.end);
  const start = centre - ((centre - range.start) * wanted) / size;
  return within({ start, end: start + wanted }, all);
}

/** Moves by a share of what is shown. */
export function panned(range: Range, share: number, end: number): Range {
  const by = (range.end - range.start) * share;
  return within({ start: range.start + by, end: range.end + by }, whole(end));
}

/** Moves as little as it takes to show `at`, with some of what is around it. */
export function showing(range: Range, at: number, end: number): Range {
  if (at >= range.start && at <= range.end) {
    return range;
  }
  const half = (range.end - range.start) / 2;
  return within({ start: at - half, end: at + half }, whole(end));
}

function within(range: Range, all: Range): Range {
  const size = Math.min(range.end - range.start, all.end - all.start);
  const start = Math.min(Math.max(range.start, all.start), all.end - size);
  return { start, end: start + size };
}
