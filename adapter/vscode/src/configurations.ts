/** Debug configurations: what F5 does with a launch.json and without one, and which adapter it starts. */
import * as path from "node:path";
import * as vscode from "vscode";

import { executable, retrace, showError } from "./command_line";
import { type RecordedProcess, parseRecording } from "./recording";
import { DEBUG_TYPE, configurationOf } from "./sessions";

export const RECORDINGS = "**/*.retrace";

/** More than these make no list to choose from. */
const MOST_RECORDINGS = 500;

export async function findRecordings(): Promise<vscode.Uri[]> {
  const found = await vscode.workspace.findFiles(RECORDINGS, "**/node_modules/**", MOST_RECORDINGS);
  return found.sort((a, b) => a.fsPath.localeCompare(b.fsPath));
}

export async function pickRecording(): Promise<vscode.Uri | undefined> {
  const found = await findRecordings();
  if (found.length <= 1) {
    return found[0];
  }
  const items = found.map((recording) => ({ label: vscode.workspace.asRelativePath(recording), recording }));
  return (await vscode.window.showQuickPick(items, { placeHolder: "The recording to debug" }))?.recording;
}

class Configurations implements vscode.DebugConfigurationProvider {
  async provideDebugConfigurations(): Promise<vscode.DebugConfiguration[]> {
    return (await findRecordings()).map((recording) => configurationOf(recording));
  }

  async resolveDebugConfiguration(
    _folder: vscode.WorkspaceFolder | undefined,
    configuration: vscode.DebugConfiguration,
  ): Promise<vscode.DebugConfiguration | undefined> {
    if (configuration.type) {
      return configuration;
    }
    // F5 without a launch.json.
    const recording = await pickRecording();
    if (recording === undefined) {
      void vscode.window.showInformationMessage(
        "There is no recording (*.retrace) in this workspace. Make one: retrace record -o crash.retrace -- python app.py",
      );
      return undefined;
    }
    return configurationOf(recording);
  }

  async resolveDebugConfigurationWithSubstitutedVariables(
    folder: vscode.WorkspaceFolder | undefined,
    configuration: vscode.DebugConfiguration,
  ): Promise<vscode.DebugConfiguration | undefined> {
    let recording: unknown = configuration["recording"];
    if (typeof recording !== "string") {
      return configuration;
    }
    if (folder !== undefined && !path.isAbsolute(recording)) {
      // The adapter's own folder is none that the user knows of.
      recording = path.join(folder.uri.fsPath, recording);
    }
    const resolved = { ...configuration, recording };
    if (configuration.request !== "attach" || typeof configuration["process"] === "number") {
      return resolved;
    }
    const process = await pickProcess(String(recording));
    return process === undefined ? undefined : { ...resolved, process };
  }
}

/** One of the processes of a recording, by its number; nothing if the user chose none. */
async function pickProcess(recording: string): Promise<number | undefined> {
  let processes: readonly RecordedProcess[];
  try {
    ({ processes } = parseRecording(await retrace("info", "--json", recording)));
  } catch (error) {
    await showError(error);
    return undefined;
  }
  if (processes.length <= 1) {
    return processes[0]?.index ?? 0;
  }
  const items = processes.map((process) => ({
    label: `Process ${process.index}`,
    description: process.pid === undefined ? process.ending : `pid ${process.pid}, ${process.ending}`,
    detail: process.command,
    process,
  }));
  const chosen = await vscode.window.showQuickPick(items, { placeHolder: "The process to debug", matchOnDetail: true });
  return chosen?.process.index;
}

class Adapters implements vscode.DebugAdapterDescriptorFactory {
  async createDebugAdapterDescriptor(): Promise<vscode.DebugAdapterDescriptor> {
    // VS Code's own message about a missing program names no setting.
    await retrace("--version");
    return new vscode.DebugAdapterExecutable(executable(), ["dap"]);
  }
}

export function registerConfigurations(): vscode.Disposable {
  const configurations = new Configurations();
  const { Dynamic, Initial } = vscode.DebugConfigurationProviderTriggerKind;
  return vscode.Disposable.from(
    vscode.debug.registerDebugAdapterDescriptorFactory(DEBUG_TYPE, new Adapters()),
    vscode.debug.registerDebugConfigurationProvider(DEBUG_TYPE, configurations, Initial),
    vscode.debug.registerDebugConfigurationProvider(
      DEBUG_TYPE,
      { provideDebugConfigurations: () => configurations.provideDebugConfigurations() },
      Dynamic,
    ),
  );
}
