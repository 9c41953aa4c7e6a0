/** The timeline's page. */
import { type Layout, type Mark, eventAt, layOut } from "../src/timeline/layout";
import type { FromPage, ToPage } from "../src/timeline/messages";
import { type Range, panned, showing, whole, zoomed } from "../src/timeline/range";
import type { Timeline } from "../src/timeline/timeline";
import { type Position, atEvent } from "../src/position";
import { LANE, draw, shapeOf } from "./drawing";
import { element, svg } from "./elements";
import { api } from "./vscode_api";

const ZOOM = 2;
const PAN = 0.5;

const chart = element("chart");

let timeline: Timeline | undefined;
let session = api.getState()?.session ?? "";
/** None: the whole execution, whose length only the adapter's answer tells. */
let range: Range | undefined = api.getState()?.range;
let layout: Layout | undefined;
let drawn = new Map<Mark, SVGElement>();
let chosen: Mark | undefined;

function send(message: FromPage): void {
  api.postMessage(message);
}

/** Asks for the part that is shown; more events than pixels are of no use. */
function ask(): void {
  const detail = Math.max(window.innerWidth, 200);
  if (range === undefined) {
    send({ type: "show", detail });
  } else {
    const start = Math.floor(range.start);
    send({ type: "show", start, count: Math.ceil(range.end) - start + 1, detail });
  }
}

function receive(message: ToPage): void {
  const nothing = message.type === "nothing";
  element("tools").hidden = nothing;
  element("lanes").hidden = nothing;
  element("nothing").textContent = nothing ? message.reason : "";
  if (message.type === "nothing") {
    timeline = undefined;
    return;
  }
  const moved = message.timeline.current?.position;
  const previous = timeline?.current?.position;
  const isOther = message.session !== session;
  timeline = message.timeline;
  session = message.session;
  if (isOther) {
    show(undefined);
  } else if (range !== undefined && moved !== undefined && moved.event !== previous?.event) {
    // Where one went is shown; where one has scrolled to since stays.
    const wanted = showing(range, moved.event, timeline.end);
    if (wanted !== range) {
      show(wanted);
    }
  }
  redraw();
}

function show(wanted: Range | undefined): void {
  range = wanted;
  api.setState({ session, range });
  redraw();
  ask();
}

function shownRange(of: Timeline): Range {
  return range ?? whole(of.end);
}

function redraw(): void {
  if (timeline === undefined) {
    return;
  }
  const shown = shownRange(timeline);
  const before = chosen;
  layout = layOut(timeline, shown, chart.clientWidth);
  drawn = draw(chart, layout, chart.clientWidth);
  const runs = timeline.current?.thread;
  const names = layout.lanes.map((lane) => {
    const name = document.createElement("div");
    name.textContent = lane.name;
    name.title = lane.name;
    name.className = lane.thread === runs ? "present" : "";
    return name;
  });
  element("names").replaceChildren(...names);
  element("where").textContent = whereText(timeline, shown);
  choose(before && marksInOrder().find((mark) => mark.kind === before.kind && isSame(mark.position, before.position)));
}

function whereText(of: Timeline, shown: Range): string {
  const part = range === undefined ? "" : `, shown: ${Math.round(shown.start)} to ${Math.round(shown.end)}`;
  if (of.current === undefined) {
    return `${of.end.toLocaleString()} events${part}`;
  }
  const { position, thread } = of.current;
  const name = of.threads.find((candidate) => candidate.id === thread)?.name ?? `thread ${thread}`;
  const ticks = position.ticks === 0 ? "" : ` + ${position.ticks.toLocaleString()} line${position.ticks === 1 ? "" : "s"}`;
  return `At event ${position.event.toLocaleString()}${ticks} of ${of.end.toLocaleString()}, in ${name}${part}`;
}

function isSame(a: Position, b: Position): boolean {
  return a.event === b.event && a.ticks === b.ticks;
}

function choose(mark: Mark | undefined): void {
  if (chosen !== undefined) {
    drawn.get(chosen)?.classList.remove("chosen");
    drawn.get(chosen)?.setAttribute("aria-selected", "false");
    drawn.get(chosen)?.removeAttribute("id");
  }
  chosen = mark;
  const element = mark === undefined ? undefined : drawn.get(mark);
  if (element === undefined) {
    chart.removeAttribute("aria-activedescendant");
    return;
  }
  element.id = "chosen";
  element.classList.add("chosen");
  element.setAttribute("aria-selected", "true");
  chart.setAttribute("aria-activedescendant", element.id);
}

function marksInOrder(): Mark[] {
  return (layout?.lanes ?? []).flatMap((lane) => lane.marks).sort((a, b) => a.x - b.x);
}

/** The mark so many further in the order of time; from the present where none is chosen. */
function chooseBy(step: 1 | -1): void {
  const marks = marksInOrder();
  const from = chosen ? marks.indexOf(chosen) : marks.findIndex((mark) => mark.x >= (layout?.present?.x ?? 0)) - 1;
  const next = Math.min(Math.max(from + step, 0), marks.length - 1);
  choose(marks[next]);
}

/** The mark nearest to the chosen one, in the next lane that has any. */
function chooseInLane(step: 1 | -1): void {
  const lanes = layout?.lanes ?? [];
  const x = chosen?.x ?? 0;
  let lane = lanes.findIndex((candidate) => chosen !== undefined && candidate.marks.includes(chosen)) + step;
  for (; lane >= 0 && lane < lanes.length; lane += step) {
    const marks = [...(lanes[lane]?.marks ?? [])];
    const nearest = marks.sort((a, b) => Math.abs(a.x - x) - Math.abs(b.x - x))[0];
    if (nearest !== undefined) {
      choose(nearest);
      return;
    }
  }
}

function go(position: Position): void {
  send({ type: "go", position });
}

function zoom(factor: number, x?: number): void {
  if (timeline === undefined) {
    return;
  }
  const shown = shownRange(timeline);
  const at = x ?? layout?.present?.x ?? chart.clientWidth / 2;
  const centre = shown.start + (at / chart.clientWidth) * (shown.end - shown.start);
  show(zoomed(shown, factor, centre, timeline.end));
}

function pan(share: number): void {
  if (timeline !== undefined) {
    show(panned(shownRange(timeline), share, timeline.end));
  }
}

const KEYS: Readonly<Record<string, () => void>> = {
  ArrowRight: () => { chooseBy(1); },
  ArrowLeft: () => { chooseBy(-1); },
  ArrowDown: () => { chooseInLane(1); },
  ArrowUp: () => { chooseInLane(-1); },
  Home: () => { choose(marksInOrder()[0]); },
  End: () => { choose(marksInOrder().at(-1)); },
  Enter: () => { if (chosen !== undefined) { go(chosen.position); } },
  "+": () => { zoom(1 / ZOOM); },
  "-": () => { zoom(ZOOM); },
  "0": () => { show(undefined); },
};

function onClick(event: MouseEvent): void {
  if (timeline === undefined) {
    return;
  }
  const target = event.target instanceof Element ? event.target.closest(".mark") : null;
  const mark = [...drawn].find(([, candidate]) => candidate === target)?.[0];
  choose(mark);
  const x = event.clientX - chart.getBoundingClientRect().left;
  go(mark?.position ?? atEvent(eventAt(x, shownRange(timeline), chart.clientWidth, timeline.end)));
}

function onWheel(event: WheelEvent): void {
  if (event.ctrlKey) {
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1 / ZOOM : ZOOM, event.clientX - chart.getBoundingClientRect().left);
  } else if (event.deltaX !== 0) {
    event.preventDefault();
    pan(event.deltaX / chart.clientWidth);
  }
}

function fillLegend(): void {
  const entries = [["event", "event"], ["exception", "exception"], ["hit", "breakpoint hit"]] as const;
  for (const [kind, text] of entries) {
    const shape = shapeOf(kind, LANE / 2, 0);
    shape.setAttribute("class", kind);
    // The shape's own place in a lane, cut out of it.
    const top = { event: 8, exception: 0, hit: LANE - 15 }[kind];
    const box = svg("svg", { viewBox: `${LANE / 2 - 8} ${top} 16 15` }, shape);
    const entry = document.createElement("span");
    entry.append(box, text);
    element("legend").append(entry);
  }
}

const BUTTONS: Readonly<Record<string, () => void>> = {
  "zoom-in": () => { zoom(1 / ZOOM); },
  "zoom-out": () => { zoom(ZOOM); },
  whole: () => { show(undefined); },
  earlier: () => { pan(-PAN); },
  later: () => { pan(PAN); },
};

for (const [id, act] of Object.entries(BUTTONS)) {
  element(id).addEventListener("click", act);
}
chart.addEventListener("click", onClick);
chart.addEventListener("wheel", onWheel, { passive: false });
chart.addEventListener("keydown", (event) => {
  const act = KEYS[event.key];
  if (act !== undefined) {
    event.preventDefault();
    act();
  }
});
window.addEventListener("resize", redraw);
window.addEventListener("message", (event: MessageEvent<ToPage>) => { receive(event.data); });
fillLegend();
ask();
