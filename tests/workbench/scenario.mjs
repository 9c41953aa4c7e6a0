// What a user does with the recording of a service that crashed, from F5 to the cause:
//   node scenario.mjs '{"packages": …, "address": …, "folder": …, "screenshots": …, "lines": …, "answer": …}'
// The last words on stdout say which step is being done.
import assert from "node:assert/strict";

import { Workbench } from "./workbench.mjs";

const given = JSON.parse(process.argv[2]);
const { lines, answer } = given;

const workbench = await Workbench.open(given);
const { page } = workbench;

async function step(what, act) {
  console.log(what);
  await act();
  await workbench.screenshot(what.replaceAll(/\W+/g, "-"));
}

async function untilShown(name, text) {
  await workbench.until(`${name} should be ${text}`, () => workbench.valueOf(name), (value) => value.includes(text));
}

/** It was raised below the service's function, in the library that parses. */
async function untilAtCrash() {
  const isCrash = (stack) => stack[0]?.file === "decoder.py" && stack.some((frame) => frame.name === "latest_price");
  await workbench.until("the program should stand at the crash", () => workbench.stack(), isCrash);
}

async function indexInTimeline() {
  const where = await workbench.whereInTimeline();
  return Number(/At event ([\d,]+)/.exec(where)[1].replaceAll(",", ""));
}

try {
  await step("a breakpoint where the answer is parsed", () => workbench.toggleBreakpoint("service.py", lines.parse));

  await step("F5 stops at the crash", async () => {
    await workbench.command("View: Show Run and Debug");
    await workbench.pressUntil("F5", page.locator(".debug-toolbar"));
    await untilAtCrash();
  });

  await step("reverse step out goes back to the caller", async () => {
    await workbench.until("main should be on top", async () => {
      const stack = await workbench.stack();
      if (stack.length > 0 && stack[0].name !== "main") {
        await workbench.press("Reverse Step Out");
        await workbench.until("it should move", () => workbench.stack(), (now) =>
          now.length > 0 && JSON.stringify(now) !== JSON.stringify(stack));
      }
      return workbench.stack();
    }, (stack) => stack[0]?.name === "main");
    await workbench.untilStandsIn("main", lines.call);
  });

  await step("step back goes to the line before", async () => {
    await workbench.press("Step Back");
    await workbench.untilStandsIn("main", lines.call - 1);
  });

  await step("forwards again to the call", async () => {
    await page.keyboard.press("F10");
    await workbench.untilStandsIn("main", lines.call);
  });

  await step("at the crash again", async () => {
    await workbench.command("Retrace: Go to the Crash");
    await untilAtCrash();
  });

  await step("the timeline", async () => {
    await workbench.command("Focus on Retrace Timeline View");
    await workbench.timeline.locator(".mark.event").first().waitFor();
    await workbench.timeline.locator(".mark.exception.uncaught").first().waitFor();
  });

  await step("reverse continues to the breakpoint", async () => {
    await workbench.press("Reverse");
    await workbench.untilStandsIn("latest_price", lines.parse);
    await workbench.timeline.locator(".mark.hit").first().waitFor();
  });

  await step("the answer is in Variables", () => untilShown("text", answer));

  await step("and behind the line in the editor", async () => {
    const line = page.locator(".view-line", { hasText: "text = response.text" });
    // The editor's spaces do not break.
    const shown = async () => (await line.textContent()).replaceAll("\u00a0", " ");
    await workbench.until("the value should be inline", shown, (text) => text.includes(answer));
  });

  await step("the call's arguments are in the caller's frame", async () => {
    await page.locator(".debug-call-stack .monaco-list-row .stack-frame", { hasText: "main" }).click();
    await workbench.variable("number").waitFor();
  });

  await step("the last change of a value", async () => {
    const number = await workbench.valueOf("number");
    await workbench.variable("number").click({ button: "right" });
    await workbench.menuItem("Last Change of This Value");
    // Right behind the line that gave it this value.
    await workbench.untilStandsIn("main", lines.loop + 1);
    await untilShown("number", number);
  });

  await step("a click in the timeline goes there", async () => {
    const before = await indexInTimeline();
    const chart = workbench.timeline.locator("#chart");
    const { width } = await chart.boundingBox();
    await chart.click({ position: { x: width / 2, y: 16 } });
    const after = await workbench.until("the present should move", indexInTimeline, (now) => now !== before);
    assert.ok(after < before, `${after} is before ${before}`);
  });

  await step("the timeline by keys", async () => {
    const before = await indexInTimeline();
    // The editor takes the focus whenever the program stops.
    const chart = workbench.timeline.locator("#chart");
    await chart.press("Home");
    await chart.press("Enter");
    await workbench.until("the present should be earlier", indexInTimeline, (now) => now < before);
  });

  await step("zoomed in", async () => {
    await workbench.timeline.locator("#zoom-in").click();
    await workbench.until("a part is shown", () => workbench.whereInTimeline(), (text) => text.includes("shown:"));
  });

  await step("the session ends", async () => {
    await workbench.press("Stop");
    await page.locator(".debug-toolbar").waitFor({ state: "hidden" });
    await workbench.timeline.getByText("No recording is being debugged").waitFor();
  });

  await step("a double click on the recording stops at the crash", async () => {
    await workbench.command("Explorer: Focus on Folders View");
    await workbench.fileInExplorer("service.retrace").dblclick();
    await untilAtCrash();
    await workbench.timeline.locator(".mark.exception.uncaught").first().waitFor();
    const tab = page.locator(".tab", { hasText: "service.retrace" });
    await tab.waitFor({ state: "detached" });
    assert.deepEqual(await workbench.notifications(), []);
  });

  const pane = page.locator(".pane", { has: page.locator('.pane-header[aria-label^="Recordings"]') });
  const row = (text) => pane.locator(".monaco-list-row", { hasText: text }).first();
  const unfold = (text) => row(text).locator(".monaco-tl-twistie").click();

  await step("the Recordings view", async () => {
    await workbench.command("Debug: Focus on Recordings View");
    await unfold("service.retrace");
    await unfold("Process 0");
    for (const name of ["Threads", "Exceptions", "Events"]) {
      await row(name).waitFor();
    }
    await unfold("Exceptions");
    await row("JSONDecodeError").waitFor();
  });

  await step("a click in the Recordings view goes there", async () => {
    // The list has only the rows in its elements that are seen.
    await row("JSONDecodeError").hover();
    await page.mouse.wheel(0, 80);
    // The first exception listed is where one is; another one is not.
    const other = pane.locator('.monaco-list-row[aria-level="4"][aria-posinset="2"]');
    await other.waitFor();
    const number = Number(/event ([\d,]+)/.exec(await other.textContent())[1].replaceAll(",", ""));
    assert.notEqual(number, await indexInTimeline());
    await other.click();
    await workbench.until("the present should be the event", indexInTimeline, (now) => now === number);
    await row("JSONDecodeError").click();
    await untilAtCrash();
  });

  await step("a file that is no recording", async () => {
    await workbench.press("Stop");
    await page.locator(".debug-toolbar").waitFor({ state: "hidden" });
    await workbench.command("Explorer: Focus on Folders View");
    await workbench.fileInExplorer("broken.retrace").dblclick();
    await workbench.until("the message is shown", () => workbench.dialog(), (text) => text.includes(given.complaint));
  });
} catch (error) {
  await workbench.screenshot("failed");
  throw error;
} finally {
  await workbench.close();
}
