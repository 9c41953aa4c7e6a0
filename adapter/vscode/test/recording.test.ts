import assert from "node:assert/strict";
import { test } from "node:test";

import { parseEvents, parseRecording, subranges } from "../src/recording";

const INFO = {
  created: "2026-11-25T01:07:40Z",
  python: "3.12",
  size: 1171928,
  processes: [
    {
      index: 0,
      events: 344,
      raised: 2,
      ending: { kind: "exited", status: 1 },
      start: { argv: ["app.py", "--port", "8080"], pid: 22295, parent: null, forked_at: null },
      threads: [
        { serial: 0, made_at: null, events: 339 },
        { serial: 1, made_at: 220, events: 5 },
      ],
    },
    { index: 1, events: 0, raised: 0, ending: { kind: "abrupt" }, start: null, threads: [] },
    {
      index: 2,
      events: 3,
      raised: 0,
      ending: { kind: "replaced", by: 3 },
      start: { argv: [], main: "tool", pid: 7, parent: 0, forked_at: 12 },
      threads: [],
    },
  ],
};

test("a recording's processes and threads are read", () => {
  const recording = parseRecording(JSON.stringify(INFO));
  const [first, second, third] = recording.processes;
  assert.equal(recording.python, "3.12");
  assert.deepEqual(first, {
    index: 0,
    pid: 22295,
    parent: undefined,
    forked: false,
    command: "app.py --port 8080",
    ending: "exited with status 1",
    failed: true,
    events: 344,
    raised: 2,
    threads: [
      { serial: 0, events: 339, madeAt: undefined },
      { serial: 1, events: 5, madeAt: 220 },
    ],
  });
  assert.equal(second?.ending, "ended abruptly");
  assert.equal(second.pid, undefined);
  assert.equal(third?.ending, "replaced by process 3");
  assert.equal(third.command, "tool");
  assert.ok(third.forked);
  assert.ok(!third.failed);
});

test("what is missing is named", () => {
  assert.throws(() => parseRecording('{"created": "x", "python": "3.12"}'), /"size" is no number/);
  assert.throws(() => parseRecording("[]"), /the recording's description is no object/);
});

test("events are a line each", () => {
  const text = [
    '{"index":3,"running":0,"text":"posix.getpid() -> 4","type":"call","result":4}',
    '{"index":4,"running":1,"text":"posix.stat(1) !OSError(2)","type":"call","raised":{}}',
    "",
  ].join("\n");
  assert.deepEqual(parseEvents(text), [
    { index: 3, thread: 0, text: "posix.getpid() -> 4", raised: false },
    { index: 4, thread: 1, text: "posix.stat(1) !OSError(2)", raised: true },
  ]);
  assert.deepEqual(parseEvents(""), []);
});

test("ranges cover all of what they cut, and are few", () => {
  for (const end of [1, 10, 11, 999, 1000, 1001, 123_456, 10_000_000]) {
    let ranges = [{ start: 0, end }];
    for (let depth = 0; ; depth++) {
      assert.ok(depth < 10);
      const [first] = ranges;
      if (first === undefined || first.end - first.start <= 10) {
        break;
      }
      ranges = subranges(first, 10, 10);
      assert.ok(ranges.length > 1 && ranges.length <= 10, `${ranges.length} of ${first.end}`);
      assert.equal(ranges[0]?.start, first.start);
      assert.equal(ranges.at(-1)?.end, first.end);
      ranges.slice(1).forEach((range, index) => {
        assert.equal(range.start, ranges[index]?.end);
      });
    }
  }
});
