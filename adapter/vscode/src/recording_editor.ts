/** Opening a `.retrace` file: a recording is no text, so opening it is debugging it. */
import { randomBytes } from "node:crypto";
import * as path from "node:path";
import * as vscode from "vscode";

import { showError } from "./command_line";
import type { Sessions } from "./sessions";

class RecordingEditor implements vscode.CustomReadonlyEditorProvider {
  constructor(private readonly sessions: Sessions) {}

  openCustomDocument(uri: vscode.Uri): vscode.CustomDocument {
    return { uri, dispose: () => undefined };
  }

  resolveCustomEditor(document: vscode.CustomDocument, panel: vscode.WebviewPanel): void {
    // Before the page is there, its tab can't be closed.
    panel.webview.onDidReceiveMessage(() => {
      this.debug(document.uri)
        .catch(showError)
        // There is nothing to show in the tab: the source where the program stopped is what one wants to see. A tab
        // that stayed would start a session again whenever the window is reloaded.
        .finally(() => {
          panel.dispose();
        });
    });
    panel.webview.options = { enableScripts: true };
    panel.webview.html = pageOf(document.uri);
  }

  private async debug(recording: vscode.Uri): Promise<void> {
    await vscode.commands.executeCommand("workbench.view.debug");
    // The console would come up in front of the timeline.
    const session = this.sessions.start(recording, 0, { internalConsoleOptions: "neverOpen" });
    await vscode.commands.executeCommand("retrace.timeline.focus", { preserveFocus: true });
    await session;
  }
}

/** A page that says that it is there. */
function pageOf(recording: vscode.Uri): string {
  const nonce = randomBytes(16).toString("base64url");
  const name = path.basename(recording.fsPath).replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`);
  return `<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'nonce-${nonce}';">
  <title>Recording</title>
</head>
<body>
  <p>Opening ${name} in the debugger…</p>
  <script nonce="${nonce}">acquireVsCodeApi().postMessage("ready");</script>
</body>
</html>`;
}

export function registerRecordingEditor(sessions: Sessions): vscode.Disposable {
  return vscode.window.registerCustomEditorProvider("retrace.recording", new RecordingEditor(sessions));
}
