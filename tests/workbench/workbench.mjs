// Drives the workbench as a user does: by keys, clicks and what is on the screen.
import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { createRequire } from "node:module";

const PATIENCE = 60_000;
const SIZE = { width: 1400, height: 900 };

export class Workbench {
  static async open({ packages, browser: executablePath, address, folder, screenshots }) {
    const { chromium } = createRequire(pathToFileURL(join(packages, "package.json")))("playwright-core");
    const browser = await chromium.launch({
      executablePath,
      args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
    });
    const page = await browser.newPage({ viewport: SIZE });
    page.setDefaultTimeout(PATIENCE);
    await page.goto(`${address}/?folder=${encodeURIComponent(folder)}`);
    await page.locator(".explorer-folders-view .monaco-list-row").first().waitFor();
    return new Workbench(browser, page, screenshots);
  }

  constructor(browser, page, screenshots) {
    this.browser = browser;
    this.page = page;
    this.screenshots = screenshots;
    this.shots = 0;
  }

  async close() {
    await this.browser.close();
  }

  async screenshot(name) {
    this.shots += 1;
    // No tooltip of what was clicked last.
    await this.page.mouse.move(0, 0);
    const number = String(this.shots).padStart(2, "0");
    await this.page.screenshot({ path: join(this.screenshots, `${number}-${name}.png`) });
  }

  /** Waits until what `look` returns satisfies `holds`, and returns it; the error says what it was last. */
  async until(what, look, holds) {
    const end = Date.now() + PATIENCE;
    let seen;
    do {
      seen = await look();
      if (holds(seen)) {
        return seen;
      }
      await this.page.waitForTimeout(100);
    } while (Date.now() < end);
    assert.fail(`${what}; what was seen: ${JSON.stringify(seen)}`);
  }

  /** A workbench that is still starting swallows keys. */
  async pressUntil(key, shown) {
    await this.until(`${key} should do something`, async () => {
      await this.page.keyboard.press(key);
      return shown.first().waitFor({ timeout: PATIENCE / 10 }).then(() => true, () => false);
    }, (done) => done);
  }

  async command(title) {
    await this.page.keyboard.press("F1");
    const input = this.page.locator(".quick-input-widget input[type=text]");
    await input.fill(`>${title}`);
    await this.page.locator(".quick-input-list .monaco-list-row", { hasText: title }).first().click();
  }

  async openFile(name, line) {
    await this.page.keyboard.press("Control+p");
    await this.page.locator(".quick-input-widget input[type=text]").fill(`${name}:${line}`);
    await this.page.locator(".quick-input-list .monaco-list-row", { hasText: name }).first().waitFor();
    await this.page.keyboard.press("Enter");
    await this.page.locator(`.tab.active[aria-label^="${name}"]`).waitFor();
    await this.page.locator(".statusbar-item", { hasText: `Ln ${line},` }).waitFor();
  }

  async toggleBreakpoint(name, line) {
    await this.openFile(name, line);
    await this.pressUntil("F9", this.page.locator(".codicon-debug-breakpoint, .codicon-debug-breakpoint-unverified"));
  }

  fileInExplorer(name) {
    return this.page.locator(".explorer-folders-view .monaco-list-row", { hasText: name });
  }

  /** The stack of the thread that stands: names and lines, the innermost first. */
  async stack() {
    const rows = this.page.locator(".debug-call-stack .monaco-list-row .stack-frame");
    return rows.evaluateAll((frames) =>
      frames.map((frame) => ({
        name: frame.querySelector(".label")?.textContent ?? "",
        file: frame.querySelector(".file-name")?.textContent ?? "",
        line: Number.parseInt(frame.querySelector(".line-number")?.textContent ?? "", 10),
      })),
    );
  }

  async untilStandsIn(name, line) {
    const holds = ([top]) => top?.name === name && (line === undefined || top.line === line);
    return this.until(`the program should stand in ${name}, line ${line}`, () => this.stack(), holds);
  }

  /** Presses a button of the debug toolbar, once the program stands. */
  async press(label) {
    // A key binding stands in parentheses behind it.
    const name = new RegExp(`^${label}( \\(.*\\))?$`);
    await this.page.locator(".debug-toolbar").getByRole("button", { name, disabled: false }).click();
  }

  variable(name) {
    const named = this.page.locator(".name", { hasText: new RegExp(`^\\s*${name}\\s*[:=]?\\s*$`) });
    return this.page.locator(".debug-variables .monaco-list-row", { has: named });
  }

  async valueOf(name) {
    return this.variable(name).locator(".value").first().textContent();
  }

  get timeline() {
    return this.page.frameLocator("iframe.webview.ready").frameLocator("#active-frame");
  }

  async whereInTimeline() {
    return this.timeline.locator("#where").textContent();
  }

  async menuItem(title) {
    const item = this.page.locator(".monaco-menu .action-item", { hasText: title }).first();
    await item.waitFor();
    // A menu that has just come up ignores the mouse: it might be the click that brought it up.
    await this.until(`the menu should take ${title}`, async () => {
      await item.click();
      return item.waitFor({ state: "hidden", timeout: PATIENCE / 10 }).then(() => true, () => false);
    }, (taken) => taken);
  }

  /** What the notification centre lists: what has come up, whether it is still shown or not. */
  async notifications() {
    await this.command("Notifications: Show Notifications");
    const centre = this.page.locator(".notifications-center.visible");
    await centre.waitFor();
    const shown = await centre.locator(".notification-list-item-message").allTextContents();
    await this.page.keyboard.press("Escape");
    await centre.waitFor({ state: "hidden" });
    return shown;
  }

  async dialog() {
    return (await this.page.locator(".monaco-dialog-box").allTextContents()).join("\n");
  }
}
