/** Debug sessions of recordings, and the requests that only these answer. */
import * as vscode from "vscode";

import { asObject, numberIn, objectsIn, stringsIn } from "./json";
import type { Destination } from "./position";
import { type Timeline, parseTimeline } from "./timeline/timeline";

export const DEBUG_TYPE = "retrace";

export interface ProcessInSession {
  readonly number: number;
  readonly pid: number;
  readonly command: string;
}

export function activeSession(): vscode.DebugSession | undefined {
  const session = vscode.debug.activeDebugSession;
  return session?.type === DEBUG_TYPE ? session : undefined;
}

/** Knows the sessions there are: VS Code tells only of the active one. */
export class Sessions implements vscode.Disposable {
  private readonly sessions = new Set<vscode.DebugSession>();
  private readonly moved = new vscode.EventEmitter<vscode.DebugSession>();
  private readonly subscriptions: { dispose(): unknown }[];

  /** A session stands at another position than before. */
  readonly onMoved = this.moved.event;

  constructor() {
    this.subscriptions = [
      this.moved,
      vscode.debug.onDidStartDebugSession((session) => {
        if (session.type === DEBUG_TYPE) {
          this.sessions.add(session);
        }
      }),
      vscode.debug.onDidTerminateDebugSession((session) => this.sessions.delete(session)),
      vscode.debug.onDidReceiveDebugSessionCustomEvent(({ session, event }) => {
        if (session.type === DEBUG_TYPE && event === "positionChanged") {
          this.moved.fire(session);
        }
      }),
    ];
  }

  of(recording: vscode.Uri, process: number): vscode.DebugSession | undefined {
    return [...this.sessions].find((session) => isOf(session, recording, process));
  }

  /** Starts to debug, and resolves where the session stands for the first time; with nothing if it can't. */
  async start(
    recording: vscode.Uri,
    process: number,
    more: Partial<vscode.DebugConfiguration> = {},
  ): Promise<vscode.DebugSession | undefined> {
    const waiting: vscode.Disposable[] = [];
    const standing = new Promise<vscode.DebugSession | undefined>((resolve) => {
      const settle = (session: vscode.DebugSession, result: vscode.DebugSession | undefined) => {
        if (isOf(session, recording, process)) {
          resolve(result);
        }
      };
      waiting.push(this.onMoved((session) => { settle(session, session); }));
      waiting.push(vscode.debug.onDidTerminateDebugSession((session) => { settle(session, undefined); }));
    });
    try {
      const folder = vscode.workspace.getWorkspaceFolder(recording);
      const started = await vscode.debug.startDebugging(folder, { ...configurationOf(recording, process), ...more });
      return started ? await standing : undefined;
    } finally {
      waiting.forEach((subscription) => { subscription.dispose(); });
    }
  }

  dispose(): void {
    vscode.Disposable.from(...this.subscriptions).dispose();
  }
}

export function configurationOf(recording: vscode.Uri, process?: number): vscode.DebugConfiguration {
  const name = vscode.workspace.asRelativePath(recording);
  return {
    type: DEBUG_TYPE,
    request: "launch",
    name: process === undefined || process === 0 ? name : `${name}, process ${process}`,
    recording: recording.fsPath,
    ...(process === undefined ? {} : { process }),
  };
}

function isOf(session: vscode.DebugSession, recording: vscode.Uri, process: number): boolean {
  const configuration = session.configuration;
  return configuration["recording"] === recording.fsPath && (configuration["process"] ?? 0) === process;
}

export async function goTo(session: vscode.DebugSession, position: Destination): Promise<void> {
  await session.customRequest("gotoPosition", { position });
}

export async function timelineOf(
  session: vscode.DebugSession,
  part: { start?: number; count?: number; detail: number },
): Promise<Timeline> {
  return parseTimeline(await session.customRequest("timeline", part));
}

export async function processesOf(session: vscode.DebugSession): Promise<ProcessInSession[]> {
  const answer: unknown = await session.customRequest("processes", {});
  const processes = Array.isArray(answer) ? { processes: answer } : asObject(answer, "the processes");
  return objectsIn(processes, "processes").map((process) => ({
    number: numberIn(process, "number"),
    pid: numberIn(process, "pid"),
    command: stringsIn(process, "argv").join(" "),
  }));
}
