/** The `retrace` command line: it knows the format of recordings, the extension does not. */
import { execFile } from "node:child_process";
import * as vscode from "vscode";

/** Its message is what the command line said. */
export class CommandLineError extends Error {}

/** There is no such program. */
export class MissingExecutable extends CommandLineError {}

const MOST_OUTPUT = 256 * 1024 * 1024;

export function executable(): string {
  return vscode.workspace.getConfiguration("retrace").get<string>("executable", "retrace");
}

/** Runs `retrace` to its end and returns what it printed. */
export function retrace(...options: string[]): Promise<string> {
  const program = executable();
  return new Promise((resolve, reject) => {
    execFile(program, options, { maxBuffer: MOST_OUTPUT }, (error, stdout, stderr) => {
      if (error === null) {
        resolve(stdout);
      } else if (error.code === "ENOENT") {
        reject(new MissingExecutable(`There is no "${program}": name the retrace command line in the settings.`));
      } else {
        reject(new CommandLineError(stderr.trim() === "" ? error.message : stderr.trim()));
      }
    });
  });
}

/** Shows an error as it is; where a setting is wrong, with a way to it. */
export async function showError(error: unknown): Promise<void> {
  const message = error instanceof Error ? error.message : String(error);
  const settings = "Open Settings";
  const actions = error instanceof MissingExecutable ? [settings] : [];
  if ((await vscode.window.showErrorMessage(message, ...actions)) === settings) {
    await vscode.commands.executeCommand("workbench.action.openSettings", "retrace.executable");
  }
}
