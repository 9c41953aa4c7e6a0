// A client that is killed while it waits: prints when it is about to, and goes on once it has read a line.
//   node vanish.mjs '{"packages": …, "retrace": …, "recording": …}'
import { once } from "node:events";

import { openAtCrash } from "./client.mjs";

const client = await openAtCrash(JSON.parse(process.argv[2]));
console.log("at the crash");
await once(process.stdin, "data");
void client.reverseContinueRequest({ threadId: 1 });
process.kill(process.pid, "SIGKILL");
