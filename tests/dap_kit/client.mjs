// VS Code's own test kit for debug adapters, and what a session with it needs.
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** Longer than anything here takes: it ends a test that hangs. */
const PATIENCE = 60_000;

/** A client of a server of its own, which has launched the recording and stands at its crash. */
export async function openAtCrash({ packages, retrace, recording }) {
  const { DebugClient } = createRequire(pathToFileURL(join(packages, "package.json")))("@vscode/debugadapter-testsupport");
  const client = new DebugClient(retrace, "dap", "retrace");
  client.defaultTimeout = PATIENCE;
  await client.start();
  await Promise.all([
    client.configurationSequence(),
    client.launch({ recording }),
    client.waitForEvent("stopped"),
  ]);
  return client;
}
