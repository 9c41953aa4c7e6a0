/** The Recordings view: the workspace's recordings with their processes, threads, exceptions and events. */
import * as vscode from "vscode";

import { CommandLineError, retrace, showError } from "./command_line";
import { RECORDINGS, findRecordings, pickRecording } from "./configurations";
import { type Destination, atEvent } from "./position";
import {
  type EventRange,
  type RecordedEvent,
  type RecordedProcess,
  type RecordedThread,
  parseEvents,
  parseRecording,
  subranges,
} from "./recording";
import { type Sessions, goTo, timelineOf } from "./sessions";
import type { TimelineException } from "./timeline/timeline";

/** As many events are listed at once, and as many ranges of events. */
const PAGE = 200;
const MOST_RANGES = 50;

/** Reads the trace anew only for what is unfolded. */
abstract class Node {
  abstract item(): vscode.TreeItem;

  children(): Promise<Node[]> {
    return Promise.resolve([]);
  }
}

const { Collapsed, None } = vscode.TreeItemCollapsibleState;

function itemOf(
  label: string,
  icon: string,
  state: vscode.TreeItemCollapsibleState,
  more: Partial<vscode.TreeItem> = {},
): vscode.TreeItem {
  return Object.assign(new vscode.TreeItem(label, state), { iconPath: new vscode.ThemeIcon(icon), ...more });
}

class RecordingNode extends Node {
  constructor(
    readonly recording: vscode.Uri,
    private readonly sessions: Sessions,
  ) {
    super();
  }

  override item(): vscode.TreeItem {
    const name = vscode.workspace.asRelativePath(this.recording);
    return itemOf(name, "history", Collapsed, { contextValue: "recording", tooltip: this.recording.fsPath });
  }

  override async children(): Promise<Node[]> {
    const { processes } = parseRecording(await retrace("info", "--json", this.recording.fsPath));
    return processes.map((process) => new ProcessNode({ recording: this.recording, process }, this.sessions));
  }
}

interface OfProcess {
  readonly recording: vscode.Uri;
  readonly process: RecordedProcess;
}

class ProcessNode extends Node {
  constructor(
    readonly of: OfProcess,
    private readonly sessions: Sessions,
  ) {
    super();
  }

  override item(): vscode.TreeItem {
    const { process } = this.of;
    const relation = process.forked ? "forked from" : "started by";
    const parent = process.parent === undefined ? [] : [`${relation} process ${process.parent}`];
    const pid = process.pid === undefined ? [] : [`pid ${process.pid}`];
    const description = [process.ending, ...parent, ...pid].join(", ");
    return itemOf(`Process ${process.index}: ${process.command}`, process.failed ? "error" : "server-process", Collapsed, {
      contextValue: "process",
      description,
      tooltip: `${process.command}\n${description}`,
    });
  }

  override children(): Promise<Node[]> {
    const { threads, events } = this.of.process;
    return Promise.resolve([
      new FolderNode("Threads", "layers", threads.length, () =>
        Promise.resolve(threads.map((thread) => new ThreadNode(this.of, thread))),
      ),
      new ExceptionsNode(this.of, this.sessions),
      new FolderNode("Events", "list-ordered", events, () => eventsIn(this.of, { start: 0, end: events })),
    ]);
  }
}

class FolderNode extends Node {
  constructor(
    private readonly label: string,
    private readonly icon: string,
    private readonly count: number,
    private readonly list: () => Promise<Node[]>,
  ) {
    super();
  }

  override item(): vscode.TreeItem {
    const state = this.count === 0 ? None : Collapsed;
    return itemOf(this.label, this.icon, state, { description: this.count.toLocaleString() });
  }

  override children(): Promise<Node[]> {
    return this.list();
  }
}

class ThreadNode extends Node {
  constructor(
    private readonly of: OfProcess,
    private readonly thread: RecordedThread,
  ) {
    super();
  }

  override item(): vscode.TreeItem {
    const { serial, madeAt, events } = this.thread;
    const made = madeAt === undefined ? "" : `, made by event ${madeAt.toLocaleString()}`;
    return itemOf(serial === 0 ? "Main thread" : `Thread ${serial}`, "layers", Collapsed, {
      description: `${events.toLocaleString()} events${made}`,
    });
  }

  override children(): Promise<Node[]> {
    return filtered(this.of, ["--thread", `${this.thread.serial}`], 0);
  }
}

/** What the boundary raised is in the trace; what the program itself raised only its replay can tell. */
class ExceptionsNode extends Node {
  constructor(
    private readonly of: OfProcess,
    private readonly sessions: Sessions,
  ) {
    super();
  }

  override item(): vscode.TreeItem {
    const { recording, process } = this.of;
    const known = this.sessions.of(recording, process.index) === undefined ? "at the boundary" : "";
    return itemOf("Exceptions", "warning", Collapsed, {
      description: `${process.raised.toLocaleString()} ${known}`.trimEnd(),
    });
  }

  override async children(): Promise<Node[]> {
    const { recording, process } = this.of;
    const session = this.sessions.of(recording, process.index);
    const inProgram = session === undefined ? [] : (await timelineOf(session, { detail: 1 })).exceptions;
    // The one that ended the program is what one looks for.
    const uncaughtFirst = [...inProgram].sort((a, b) => Number(b.uncaught) - Number(a.uncaught));
    return [
      ...uncaughtFirst.map((exception) => new ExceptionNode(this.of, exception)),
      ...(await filtered(this.of, ["--raised"], 0)),
    ];
  }
}

/** Something that one can go to. */
abstract class PlaceNode extends Node {
  constructor(readonly of: OfProcess) {
    super();
  }

  abstract destination(): Destination;

  protected placeItem(label: string, icon: string, description: string): vscode.TreeItem {
    return itemOf(label, icon, None, {
      description,
      tooltip: label,
      contextValue: "event",
      command: { command: "retrace.goToListedEvent", title: "Go to This Event", arguments: [this] },
    });
  }
}

class EventNode extends PlaceNode {
  constructor(
    of: OfProcess,
    private readonly event: RecordedEvent,
  ) {
    super(of);
  }

  override item(): vscode.TreeItem {
    const thread = this.event.thread === 0 ? "" : `, thread ${this.event.thread}`;
    const icon = this.event.raised ? "warning" : "circle-small-filled";
    return this.placeItem(this.event.text, icon, `event ${this.event.index}${thread}`);
  }

  override destination(): Destination {
    return atEvent(this.event.index);
  }
}

class ExceptionNode extends PlaceNode {
  constructor(
    of: OfProcess,
    private readonly exception: TimelineException,
  ) {
    super(of);
  }

  override item(): vscode.TreeItem {
    const { type, message, uncaught, position } = this.exception;
    const label = message === "" ? type : `${type}: ${message}`;
    return this.placeItem(label, uncaught ? "error" : "warning", `${uncaught ? "uncaught, " : ""}event ${position.event}`);
  }

  override destination(): Destination {
    return this.exception.position;
  }
}

class RangeNode extends Node {
  constructor(
    private readonly of: OfProcess,
    private readonly range: EventRange,
  ) {
    super();
  }

  override item(): vscode.TreeItem {
    const { start, end } = this.range;
    return itemOf(`${start.toLocaleString()} to ${(end - 1).toLocaleString()}`, "list-ordered", Collapsed);
  }

  override children(): Promise<Node[]> {
    return eventsIn(this.of, this.range);
  }
}

class MessageNode extends Node {
  constructor(private readonly message: string) {
    super();
  }

  override item(): vscode.TreeItem {
    return itemOf(this.message, "error", None, { tooltip: this.message });
  }
}

async function eventsIn(of: OfProcess, range: EventRange): Promise<Node[]> {
  if (range.end - range.start > PAGE) {
    return subranges(range, PAGE, MOST_RANGES).map((part) => new RangeNode(of, part));
  }
  const events = await listed(of, ["--from", `${range.start}`, "--to", `${range.end - 1}`]);
  return events.map((event) => new EventNode(of, event));
}

/** The events that the options let through: the first, and a node for the rest. */
async function filtered(of: OfProcess, options: readonly string[], from: number): Promise<Node[]> {
  const events = await listed(of, [...options, "--from", `${from}`, "--limit", `${PAGE + 1}`]);
  const next = events[PAGE];
  const nodes: Node[] = events.slice(0, PAGE).map((event) => new EventNode(of, event));
  if (next !== undefined) {
    nodes.push(new MoreNode(() => filtered(of, options, next.index)));
  }
  return nodes;
}

class MoreNode extends Node {
  constructor(private readonly list: () => Promise<Node[]>) {
    super();
  }

  override item(): vscode.TreeItem {
    return itemOf("More", "ellipsis", Collapsed);
  }

  override children(): Promise<Node[]> {
    return this.list();
  }
}

async function listed(of: OfProcess, options: readonly string[]): Promise<RecordedEvent[]> {
  const process = ["--process", `${of.process.index}`];
  return parseEvents(await retrace("events", "--json", ...process, ...options, of.recording.fsPath));
}

class RecordingsTree implements vscode.TreeDataProvider<Node> {
  private readonly changed = new vscode.EventEmitter<undefined>();
  readonly onDidChangeTreeData = this.changed.event;

  constructor(private readonly sessions: Sessions) {}

  refresh(): void {
    this.changed.fire(undefined);
  }

  getTreeItem(node: Node): vscode.TreeItem {
    return node.item();
  }

  async getChildren(node?: Node): Promise<Node[]> {
    if (node === undefined) {
      return (await findRecordings()).map((recording) => new RecordingNode(recording, this.sessions));
    }
    try {
      return await node.children();
    } catch (error) {
      if (error instanceof CommandLineError) {
        return [new MessageNode(error.message)];
      }
      throw error;
    }
  }
}

/** What "Debug Recording" was called on: a file of the Explorer, a node of the view, or nothing. */
async function debugRecording(sessions: Sessions, what: unknown): Promise<void> {
  if (what instanceof ProcessNode) {
    await sessions.start(what.of.recording, what.of.process.index);
    return;
  }
  const given = what instanceof RecordingNode ? what.recording : what instanceof vscode.Uri ? what : undefined;
  const recording = given ?? (await pickRecording());
  if (recording !== undefined) {
    await sessions.start(recording, 0);
  }
}

async function goToPlace(sessions: Sessions, place: PlaceNode): Promise<void> {
  const { recording, process } = place.of;
  const session = sessions.of(recording, process.index) ?? (await sessions.start(recording, process.index));
  if (session !== undefined) {
    await goTo(session, place.destination());
  }
}

export function registerRecordingsView(sessions: Sessions): vscode.Disposable {
  const tree = new RecordingsTree(sessions);
  const watcher = vscode.workspace.createFileSystemWatcher(RECORDINGS, false, true, false);
  const refresh = () => {
    tree.refresh();
  };
  const command = (name: string, run: (what: never) => Promise<void>) =>
    vscode.commands.registerCommand(`retrace.${name}`, (what: never) => run(what).catch(showError));
  return vscode.Disposable.from(
    watcher,
    watcher.onDidCreate(refresh),
    watcher.onDidDelete(refresh),
    vscode.workspace.onDidChangeConfiguration((change) => {
      if (change.affectsConfiguration("retrace.executable")) {
        refresh();
      }
    }),
    vscode.window.registerTreeDataProvider("retrace.recordings", tree),
    vscode.commands.registerCommand("retrace.refreshRecordings", refresh),
    command("debugRecording", (what) => debugRecording(sessions, what)),
    command("goToListedEvent", (place: PlaceNode) => goToPlace(sessions, place)),
  );
}
