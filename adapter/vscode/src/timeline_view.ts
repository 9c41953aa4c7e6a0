/** The Timeline view: asks the adapter for what its page shows, and goes where one clicks. */
import { randomBytes } from "node:crypto";
import * as vscode from "vscode";

import { BreakpointHits } from "./breakpoint_hits";
import { showError } from "./command_line";
import { type Sessions, activeSession, goTo, timelineOf } from "./sessions";
import type { FromPage, ToPage } from "./timeline/messages";
import { withHits } from "./timeline/timeline";

type Shown = Extract<FromPage, { type: "show" }>;

class TimelineView implements vscode.WebviewViewProvider {
  private view: vscode.WebviewView | undefined;
  private shown: Shown | undefined;
  /** Requests in a row: only the answer to the last one is shown. */
  private asked = 0;

  constructor(
    private readonly extension: vscode.Uri,
    private readonly hits: BreakpointHits,
  ) {}

  resolveWebviewView(view: vscode.WebviewView): void {
    this.view = view;
    view.webview.options = { enableScripts: true, localResourceRoots: [this.extension] };
    view.webview.onDidReceiveMessage((message: FromPage) => {
      this.receive(message).catch(showError);
    });
    view.onDidDispose(() => {
      this.view = undefined;
      this.shown = undefined;
    });
    view.webview.html = pageOf(view.webview, this.extension);
  }

  /** Shows where the active session stands now. */
  async refresh(): Promise<void> {
    if (this.shown === undefined) {
      return;
    }
    const asked = ++this.asked;
    const message = await this.answer(this.shown);
    if (asked === this.asked) {
      await this.view?.webview.postMessage(message);
    }
  }

  private async receive(message: FromPage): Promise<void> {
    switch (message.type) {
      case "show":
        this.shown = message;
        await this.refresh();
        break;
      case "go": {
        const session = activeSession();
        if (session !== undefined) {
          await goTo(session, message.position);
        }
        break;
      }
    }
  }

  private async answer({ start, count, detail }: Shown): Promise<ToPage> {
    const session = activeSession();
    if (session === undefined) {
      return { type: "nothing", reason: "No recording is being debugged." };
    }
    try {
      const part = start === undefined || count === undefined ? { detail } : { start, count, detail };
      const timeline = withHits(await timelineOf(session, part), this.hits.of(session));
      return { type: "timeline", timeline, session: session.id };
    } catch (error) {
      return { type: "nothing", reason: error instanceof Error ? error.message : String(error) };
    }
  }
}

function pageOf(webview: vscode.Webview, extension: vscode.Uri): string {
  const nonce = randomBytes(16).toString("base64url");
  const style = webview.asWebviewUri(vscode.Uri.joinPath(extension, "media", "timeline.css")).toString();
  const script = webview.asWebviewUri(vscode.Uri.joinPath(extension, "dist", "timeline.js")).toString();
  return `<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta http-equiv="Content-Security-Policy"
    content="default-src 'none'; style-src ${webview.cspSource}; script-src 'nonce-${nonce}';">
  <title>Timeline</title>
  <link rel="stylesheet" href="${style}">
</head>
<body>
  <div id="tools" role="toolbar" aria-label="Timeline" hidden>
    <button id="zoom-in" title="Zoom in (+)" aria-label="Zoom in">+</button>
    <button id="zoom-out" title="Zoom out (-)" aria-label="Zoom out">−</button>
    <button id="whole" title="Show the whole execution (0)">All</button>
    <button id="earlier" title="Show what was earlier" aria-label="Earlier">◂</button>
    <button id="later" title="Show what was later" aria-label="Later">▸</button>
    <span id="where" role="status"></span>
    <span id="legend" aria-hidden="true"></span>
  </div>
  <div id="lanes" hidden>
    <div id="names" aria-hidden="true"></div>
    <svg id="chart" tabindex="0" role="listbox" aria-label="What happened, in order: arrow keys choose, Enter goes there"></svg>
  </div>
  <p id="nothing"></p>
  <script nonce="${nonce}" src="${script}"></script>
</body>
</html>`;
}

export function registerTimelineView(extension: vscode.Uri, sessions: Sessions): vscode.Disposable {
  const hits = new BreakpointHits();
  const timeline = new TimelineView(extension, hits);
  const refresh = () => {
    timeline.refresh().catch(showError);
  };
  return vscode.Disposable.from(
    hits,
    vscode.window.registerWebviewViewProvider("retrace.timeline", timeline),
    sessions.onMoved(refresh),
    vscode.debug.onDidChangeActiveDebugSession(refresh),
  );
}
