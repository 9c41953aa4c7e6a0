import assert from "node:assert/strict";
import { test } from "node:test";

import { atEvent, comparePositions } from "../src/position";
import { GAP, eventAt, layOut, xOf } from "../src/timeline/layout";
import { panned, showing, whole, zoomed } from "../src/timeline/range";
import { type Timeline, parseTimeline, withHits } from "../src/timeline/timeline";

const EVENTS = 1000;
const WIDTH = 500;
const ALL = { start: 0, end: EVENTS };

/** As the adapter sends it: every seventh event is in the second thread. */
function answer() {
  const threadOf = (index: number) => (index % 7 === 0 ? 2 : 1);
  return {
    end: EVENTS,
    threads: [{ id: 1, name: "MainThread" }, { id: 2 }],
    events: Array.from({ length: EVENTS }, (_, index) => ({
      index,
      thread: threadOf(index),
      function: `f${index}`,
      kind: "function",
    })),
    exceptions: [
      { event: 500, thread: 1, type: "KeyError", message: "'a'", uncaught: false },
      { event: 501, thread: 1, type: "ValueError", message: "", uncaught: true },
    ],
    hits: [{ position: { event: 100, ticks: 3 }, thread: 2, breakpointId: 1 }],
    current: { position: { event: 250 }, thread: 2 },
  };
}

test("the adapter's answer is read", () => {
  const timeline = parseTimeline(answer());
  assert.equal(timeline.events.length, EVENTS);
  assert.deepEqual(timeline.threads[1], { id: 2, name: "Thread 2" });
  assert.deepEqual(timeline.hits, [{ position: { event: 100, ticks: 3 }, thread: 2 }]);
  assert.deepEqual(timeline.current, { position: { event: 250, ticks: 0 }, thread: 2 });
  assert.equal(parseTimeline({ end: 0, current: null }).current, undefined);
  assert.throws(() => parseTimeline({ threads: [] }), /"end" is no number/);
});

test("the adapter finds its positions again", () => {
  const position = { event: 7, ticks: 2, window: 1, tick: 93, raise: 0 };
  const exceptions = [{ ...position, event: 7, thread: 1, type: "KeyError", position }];
  const timeline = parseTimeline({ end: 9, exceptions, current: { position, thread: 1 } });
  assert.deepEqual(timeline.exceptions[0]?.position, position);
  assert.deepEqual(timeline.current?.position, position);
});

test("lines after one event are told apart, and drawn in their order", () => {
  // `ticks` begins anew where a checkpoint stands.
  const at = (window: number, tick: number, ticks: number) => ({ event: 1, ticks, window, tick, raise: 0 });
  const hits = [at(1, 40, 40), at(0, 90, 80), at(0, 10, 40)].map((position) => ({ position, thread: 1 }));
  const timeline = withHits({ ...parseTimeline(answer()), events: [], exceptions: [], hits: [] }, hits);
  assert.equal(timeline.hits.length, 3);
  const order = [...hits].sort((a, b) => comparePositions(a.position, b.position));
  assert.deepEqual(order, [hits[2], hits[1], hits[0]]);
  assert.ok(comparePositions(atEvent(1), at(0, 1, 1)) < 0 && comparePositions(at(0, 1, 1), atEvent(2)) < 0);
});

test("a breakpoint hit that is known already is not added", () => {
  const timeline = parseTimeline(answer());
  const known = { position: { event: 100, ticks: 3 }, thread: 2 };
  const other = { position: { event: 100, ticks: 4 }, thread: 2 };
  assert.deepEqual(withHits(timeline, [known, other]).hits, [known, other]);
});

test("marks that would lie on each other are merged, and none gets lost", () => {
  const timeline = parseTimeline(answer());
  const { lanes } = layOut(timeline, ALL, WIDTH);
  assert.deepEqual(lanes.map((lane) => lane.name), ["MainThread", "Thread 2"]);
  for (const lane of lanes) {
    const events = lane.marks.filter((mark) => mark.kind === "event");
    assert.ok(events.length <= WIDTH / GAP + 1);
    events.slice(1).forEach((mark, index) => {
      assert.ok(mark.x - (events[index]?.x ?? 0) >= GAP);
    });
    const counted = events.map((mark) => 1 + Number(/and (\d+) more/.exec(mark.label)?.[1] ?? 0));
    const there = timeline.events.filter((event) => event.thread === lane.thread).length;
    assert.equal(counted.reduce((sum, count) => sum + count, 0), there);
  }
});

test("near enough, every event has its mark", () => {
  const timeline = parseTimeline(answer());
  const { lanes, present } = layOut(timeline, { start: 95, end: 105 }, WIDTH);
  const labels = lanes.flatMap((lane) => lane.marks).map((mark) => mark.label);
  assert.equal(labels.filter((label) => label.startsWith("f")).length, 11);
  assert.ok(labels.includes("f100, event 100"));
  assert.ok(labels.includes("breakpoint hit, event 100"));
  assert.equal(present, undefined, "the present is elsewhere");
});

test("the uncaught exception is not hidden by a caught one beside it", () => {
  const { lanes } = layOut(parseTimeline(answer()), ALL, WIDTH);
  const exceptions = lanes[0]?.marks.filter((mark) => mark.kind === "exception");
  assert.equal(exceptions?.length, 1);
  assert.equal(exceptions[0]?.position.event, 501);
  assert.ok(exceptions[0].uncaught);
  assert.equal(exceptions[0].label, "uncaught ValueError and 1 more, events 500 to 501");
});

test("the present is in the lane of its thread", () => {
  const { present } = layOut(parseTimeline(answer()), ALL, WIDTH);
  assert.deepEqual(present, { x: 125, lane: 1 });
});

test("between two events is between their places", () => {
  const x = xOf({ event: 10, ticks: 5 }, ALL, WIDTH);
  assert.ok(x > xOf({ event: 10, ticks: 0 }, ALL, WIDTH) && x < xOf({ event: 11, ticks: 0 }, ALL, WIDTH));
});

test("a click leads to the event drawn there, and never out of the recording", () => {
  for (const event of [0, 1, 499, EVENTS - 1]) {
    assert.equal(eventAt(xOf({ event, ticks: 0 }, ALL, WIDTH), ALL, WIDTH, EVENTS), event);
  }
  assert.equal(eventAt(WIDTH, ALL, WIDTH, EVENTS), EVENTS - 1);
  assert.equal(eventAt(-5, ALL, WIDTH, EVENTS), 0);
  assert.equal(eventAt(5, whole(0), WIDTH, 0), 0);
});

test("the scale has round numbers, apart from each other", () => {
  for (const range of [ALL, { start: 3.5, end: 12 }, { start: 0, end: 1e7 }, { start: 123, end: 456 }]) {
    const { scale } = layOut(parseTimeline(answer()), range, WIDTH);
    assert.ok(scale.length >= 1, JSON.stringify(range));
    scale.slice(1).forEach(({ x, event }, index) => {
      const previous = scale[index];
      assert.ok(previous !== undefined && x - previous.x >= 40);
      assert.match(String(event - previous.event), /^[125]0*$/);
    });
  }
});

test("a timeline of nothing has no lanes", () => {
  const nothing: Timeline = { end: 0, threads: [], events: [], exceptions: [], hits: [], current: undefined };
  const layout = layOut(nothing, whole(0), WIDTH);
  assert.deepEqual(layout.lanes, []);
  assert.equal(layout.present, undefined);
});

test("zooming keeps what is under the pointer there, and stays within the recording", () => {
  const zoomedIn = zoomed(ALL, 0.5, 300, EVENTS);
  assert.deepEqual(zoomedIn, { start: 150, end: 650 });
  assert.deepEqual(zoomed(zoomedIn, 2, 300, EVENTS), ALL);
  assert.deepEqual(zoomed(ALL, 2, 300, EVENTS), ALL);
  let range = ALL;
  for (let i = 0; i < 100; i++) {
    range = zoomed(range, 0.5, 0, EVENTS);
    assert.ok(range.start >= 0 && range.end <= EVENTS && range.end > range.start);
  }
});

test("moving stops at both ends", () => {
  const range = { start: 100, end: 200 };
  assert.deepEqual(panned(range, 0.5, EVENTS), { start: 150, end: 250 });
  assert.deepEqual(panned(range, -10, EVENTS), { start: 0, end: 100 });
  assert.deepEqual(panned(range, 100, EVENTS), { start: EVENTS - 100, end: EVENTS });
});

test("what is in sight does not move", () => {
  const range = { start: 100, end: 200 };
  assert.equal(showing(range, 150, EVENTS), range);
  assert.deepEqual(showing(range, 500, EVENTS), { start: 450, end: 550 });
  assert.deepEqual(showing(range, 10, EVENTS), { start: 0, end: 100 });
});
