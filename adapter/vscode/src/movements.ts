/** Commands that move a session where VS Code has no command of its own. */
import * as vscode from "vscode";

import { showError } from "./command_line";
import { type Destination, atEvent } from "./position";
import { activeSession, goTo, processesOf } from "./sessions";
import type { Sessions } from "./sessions";

/** What VS Code hands to a command of the Variables view's context menu. */
interface VariableContext {
  readonly sessionId: string;
  readonly container: { readonly variablesReference: number };
  readonly variable: { readonly name: string };
}

export function registerMovements(sessions: Sessions): vscode.Disposable {
  const command = (name: string, run: (...given: never[]) => Promise<void>) =>
    vscode.commands.registerCommand(`retrace.${name}`, (...given: never[]) => run(...given).catch(showError));
  return vscode.Disposable.from(
    command("reverseStepInto", () => inThread("reverseStepIn")),
    command("reverseStepOut", () => inThread("reverseStepOut")),
    command("goToStart", () => go("start")),
    command("goToEnd", () => go("end")),
    command("goToCrash", () => go("crash")),
    command("goToEvent", goToEvent),
    command("lastChangeOfVariable", lastChangeOfVariable),
    command("lastChangeOfSelection", lastChangeOfSelection),
    command("debugAnotherProcess", () => debugAnotherProcess(sessions)),
  );
}

async function inThread(request: string): Promise<void> {
  const item = vscode.debug.activeStackItem;
  await item?.session.customRequest(request, { threadId: item.threadId });
}

async function go(destination: Destination): Promise<void> {
  const session = activeSession();
  if (session !== undefined) {
    await goTo(session, destination);
  }
}

async function goToEvent(): Promise<void> {
  const index = await vscode.window.showInputBox({
    prompt: "The index of an event, as the timeline and `retrace events` show it",
    validateInput: (text) => (/^\d+$/.test(text) ? undefined : "A number is expected."),
  });
  if (index !== undefined) {
    await go(atEvent(Number(index)));
  }
}

async function lastChangeOfVariable(context: VariableContext): Promise<void> {
  const session = activeSession();
  if (session?.id !== context.sessionId) {
    return;
  }
  await session.customRequest("lastChange", {
    variablesReference: context.container.variablesReference,
    name: context.variable.name,
  });
}

/** Of the selected expression, or the word at the cursor. */
async function lastChangeOfSelection(): Promise<void> {
  const editor = vscode.window.activeTextEditor;
  const item = vscode.debug.activeStackItem;
  if (editor === undefined || !(item instanceof vscode.DebugStackFrame)) {
    return;
  }
  const { document, selection } = editor;
  const range = selection.isEmpty ? document.getWordRangeAtPosition(selection.active) : selection;
  if (range !== undefined) {
    await item.session.customRequest("lastChange", { expression: document.getText(range), frameId: item.frameId });
  }
}

async function debugAnotherProcess(sessions: Sessions): Promise<void> {
  const session = activeSession();
  if (session === undefined) {
    return;
  }
  const items = (await processesOf(session)).map((process) => ({
    label: `Process ${process.number}`,
    description: `pid ${process.pid}`,
    detail: process.command,
    process,
  }));
  const chosen = await vscode.window.showQuickPick(items, { placeHolder: "The process to debug", matchOnDetail: true });
  if (chosen !== undefined) {
    const recording = vscode.Uri.file(String(session.configuration["recording"]));
    await sessions.start(recording, chosen.process.number);
  }
}
