/** What VS Code gives to a page. */
import type { FromPage } from "../src/timeline/messages";
import type { Range } from "../src/timeline/range";

/** What outlives the page when the view is hidden. */
export interface PageState {
  readonly session: string;
  /** None: the whole execution. */
  readonly range: Range | undefined;
}

interface Api {
  postMessage(message: FromPage): void;
  getState(): PageState | undefined;
  setState(state: PageState): void;
}

declare function acquireVsCodeApi(): Api;

export const api = acquireVsCodeApi();
