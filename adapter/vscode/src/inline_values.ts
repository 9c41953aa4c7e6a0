/** The values of variables, in the editor behind the lines of the function where the program stands. */
import * as vscode from "vscode";

import { beginningOfFunction, namesOf } from "./names";
import { activeSession } from "./sessions";

class InlineValues implements vscode.InlineValuesProvider {
  provideInlineValues(
    document: vscode.TextDocument,
    viewPort: vscode.Range,
    context: vscode.InlineValueContext,
  ): vscode.InlineValue[] {
    const wanted = vscode.workspace.getConfiguration("retrace", document).get<boolean>("inlineValues", true);
    if (!wanted || activeSession() === undefined) {
      return [];
    }
    const stopped = context.stoppedLocation.end.line;
    // A module's lines are full of imported names, whose values say nothing.
    const first = beginningOfFunction((index) => document.lineAt(index).text, stopped) ?? stopped;
    const lines = Array.from({ length: stopped - first + 1 }, (_, index) => document.lineAt(first + index).text);
    const values: vscode.InlineValue[] = [];
    for (const [index, names] of namesOf(lines).entries()) {
      const line = first + index;
      if (line < viewPort.start.line || line > viewPort.end.line) {
        continue;
      }
      for (const { text, column } of names) {
        const range = new vscode.Range(line, column, line, column + text.length);
        // VS Code has the variables already: nothing is evaluated.
        values.push(new vscode.InlineValueVariableLookup(range, text, true));
      }
    }
    return values;
  }
}

export function registerInlineValues(): vscode.Disposable {
  return vscode.languages.registerInlineValuesProvider({ language: "python" }, new InlineValues());
}
