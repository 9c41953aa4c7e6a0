/** Draws a layout as SVG. */
import type { Layout, Mark, MarkKind } from "../src/timeline/layout";
import { svg } from "./elements";

/** Pixels; timeline.css gives the lanes' names the same height. */
export const LANE = 32;
const SCALE = 16;

export function heightOf(layout: Layout): number {
  return layout.lanes.length * LANE + SCALE;
}

/** The elements of the marks, by mark: the page has to find the one that is chosen. */
export function draw(chart: Element, layout: Layout, width: number): Map<Mark, SVGElement> {
  const marks = new Map<Mark, SVGElement>();
  const backgrounds = layout.lanes.map((_, index) =>
    svg("rect", { class: "lane", x: 0, y: index * LANE + 1, width, height: LANE - 2, "aria-hidden": "true" }),
  );
  const lanes = layout.lanes.map((lane, index) => {
    const top = index * LANE;
    const group = svg("g", { role: "group", "aria-label": lane.name });
    for (const mark of lane.marks) {
      const drawn = drawMark(mark, top, lane.name);
      marks.set(mark, drawn);
      group.append(drawn);
    }
    return group;
  });
  const bottom = layout.lanes.length * LANE;
  const scale = layout.scale.map(({ x, event }) =>
    svg("text", { class: "scale", x: x + 2, y: bottom + 12, "aria-hidden": "true" }, event.toLocaleString()),
  );
  // The marks lie over the present: what happened there is what one looks for.
  chart.replaceChildren(...backgrounds, ...scale, ...drawPresent(layout, bottom), ...lanes);
  chart.setAttribute("height", String(heightOf(layout)));
  return marks;
}

function drawMark(mark: Mark, top: number, lane: string): SVGElement {
  const label = `${mark.label} (${lane})`;
  const made = shapeOf(mark.kind, mark.x, top);
  made.setAttribute("class", ["mark", mark.kind, ...(mark.uncaught ? ["uncaught"] : [])].join(" "));
  made.setAttribute("role", "option");
  made.setAttribute("aria-label", label);
  made.setAttribute("aria-selected", "false");
  made.append(svg("title", {}, label));
  return made;
}

/** Events are bars in the middle of a lane, exceptions triangles above them, breakpoint hits dots below. */
export function shapeOf(kind: MarkKind, x: number, top: number): SVGElement {
  switch (kind) {
    case "event":
      return svg("rect", { x: x - 1, y: top + 11, width: 2, height: LANE - 22 });
    case "exception":
      return svg("path", { d: `M${x - 5} ${top + 3}h10l-5 8z` });
    case "hit":
      return svg("circle", { cx: x, cy: top + LANE - 7, r: 4 });
  }
}

/** A line through all lanes, since the present is everyone's; thick in the lane of the thread that runs. */
function drawPresent(layout: Layout, bottom: number): SVGElement[] {
  if (layout.present === undefined) {
    return [];
  }
  const { x, lane } = layout.present;
  const line = svg("line", { x1: x, x2: x, y1: 0, y2: bottom });
  const head = svg("path", { d: `M${x - 4} ${bottom}h8l-4 -6z` });
  const running = lane < 0 ? [] : [svg("rect", { x: x - 2, y: lane * LANE + 1, width: 4, height: LANE - 2 })];
  return [svg("g", { id: "present", "aria-hidden": "true" }, line, head, ...running)];
}
