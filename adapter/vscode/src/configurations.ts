/** Debug configurations: what F5 does with a launch.json and without one, and which adapter it starts. */
import * as path from "node:path";
import * as vscode from "vscode";

import { executable, retrace } from "./command_line";
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

  resolveDebugConfigurationWithSubstitutedVariables(
    folder: vscode.WorkspaceFolder | undefined,
    configuration: vscode.DebugConfiguration,
  ): vscode.DebugConfiguration {
    const recording: unknown = configuration["recording"];
    if (folder !== undefined && typeof recording === "string" && !path.isAbsolute(recording)) {
      // The adapter's own folder is none that the user knows of.
      return { ...configuration, recording: path.join(folder.uri.fsPath, recording) };
    }
    return configuration;
  }
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
