// A session from the crash back to a breakpoint:
//   node session.mjs '{"packages": …, "retrace": …, "recording": …, "program": …, "lines": …}'
// The last words on stdout say what is being done.
import assert from "node:assert/strict";

import { openAtCrash } from "./client.mjs";

const given = JSON.parse(process.argv[2]);
const { program: path, lines } = given;
const threadId = 1;

console.log("launch");
const client = await openAtCrash(given);

async function frames() {
  return (await client.stackTraceRequest({ threadId })).body.stackFrames;
}

async function locals() {
  const [{ id: frameId }] = await frames();
  const { scopes } = (await client.scopesRequest({ frameId })).body;
  const { variablesReference } = scopes.find((scope) => scope.name === "Locals");
  const { variables } = (await client.variablesRequest({ variablesReference })).body;
  return Object.fromEntries(variables.map(({ name, value }) => [name, value]));
}

/** A movement, and the stop that it leads to. */
async function move(reason, line, request) {
  console.log(`${reason} at line ${line}`);
  await Promise.all([client.assertStoppedLocation(reason, { path, line }), request()]);
}

console.log("the crash");
assert.deepEqual((await frames()).map(({ name }) => name), ["divide", "middle", "main", "<module>"]);
assert.deepEqual(await locals(), { p: "2450", q: "0", text: "'dividing'" });
const { body: exception } = await client.exceptionInfoRequest({ threadId });
assert.equal(exception.exceptionId, "ZeroDivisionError");
assert.equal(exception.breakMode, "unhandled");

await move("step", lines.text, () => client.stepBackRequest({ threadId }));
assert.deepEqual(await locals(), { p: "2450", q: "0" });

console.log("a breakpoint");
const { body: set } = await client.setBreakpointsRequest({ source: { path }, breakpoints: [{ line: lines.add }] });
assert.deepEqual(set.breakpoints.map(({ verified, line }) => ({ verified, line })), [{ verified: true, line: lines.add }]);
await move("breakpoint", lines.add, () => client.reverseContinueRequest({ threadId }));
assert.deepEqual(await locals(), { n: "51", total: "2450", i: "50" });

await move("step", lines.loop, () => client.nextRequest({ threadId }));
assert.deepEqual(await locals(), { n: "51", total: "2550", i: "50" });

console.log("terminate");
await Promise.all([client.waitForEvent("terminated"), client.terminateRequest()]);
await client.stop();
