/** Where breakpoints were hit in each session. The adapter lists the hits of lines and functions, not those of data. */
import * as vscode from "vscode";

import { asObject } from "./json";
import { DEBUG_TYPE } from "./sessions";
import { type Present, parsePresent } from "./timeline/timeline";

const HIT = new Set(["breakpoint", "function breakpoint", "data breakpoint"]);

interface AdapterEvent {
  readonly event?: string;
  readonly body?: unknown;
}

export class BreakpointHits implements vscode.DebugAdapterTrackerFactory, vscode.Disposable {
  private readonly bySession = new Map<string, Present[]>();
  private readonly subscriptions = vscode.Disposable.from(
    vscode.debug.registerDebugAdapterTrackerFactory(DEBUG_TYPE, this),
    vscode.debug.onDidTerminateDebugSession((session) => this.bySession.delete(session.id)),
  );

  createDebugAdapterTracker(session: vscode.DebugSession): vscode.DebugAdapterTracker {
    const hits: Present[] = [];
    this.bySession.set(session.id, hits);
    let reason: unknown;
    return {
      onDidSendMessage: ({ event, body }: AdapterEvent) => {
        if (event === "stopped") {
          reason = asObject(body, "what stopped")["reason"];
        } else if (event === "positionChanged" && typeof reason === "string" && HIT.has(reason)) {
          hits.push(parsePresent(body));
        }
      },
    };
  }

  of(session: vscode.DebugSession): readonly Present[] {
    return this.bySession.get(session.id) ?? [];
  }

  dispose(): void {
    this.subscriptions.dispose();
  }
}
