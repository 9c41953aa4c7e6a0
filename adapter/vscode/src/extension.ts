/** Debugs recordings of Python programs, forwards and backwards. The work is done by `retrace dap`. */
import * as vscode from "vscode";

import { registerConfigurations } from "./configurations";
import { registerInlineValues } from "./inline_values";
import { registerMovements } from "./movements";
import { registerRecordingEditor } from "./recording_editor";
import { registerRecordingsView } from "./recordings_view";
import { Sessions } from "./sessions";
import { registerTimelineView } from "./timeline_view";

export function activate(context: vscode.ExtensionContext): void {
  const sessions = new Sessions();
  context.subscriptions.push(
    sessions,
    registerConfigurations(),
    registerMovements(sessions),
    registerRecordingsView(sessions),
    registerRecordingEditor(sessions),
    registerTimelineView(context.extensionUri, sessions),
    registerInlineValues(),
  );
}
