// Bundles what VS Code loads: the extension into dist/extension.js, the timeline's page into dist/timeline.js.
//   node build.mjs [--production | --tests]
import { copyFileSync, rmSync } from "node:fs";
import { build } from "esbuild";

const production = process.argv.includes("--production");
const shared = { bundle: true, logLevel: "warning", minify: production, sourcemap: !production, target: "es2022" };
const node = { ...shared, platform: "node", format: "cjs" };

if (process.argv.includes("--tests")) {
  rmSync("dist-test", { recursive: true, force: true });
  await build({
    ...node,
    entryPoints: ["test/*.test.ts"],
    outdir: "dist-test",
    outExtension: { ".js": ".cjs" },
  });
} else {
  rmSync("dist", { recursive: true, force: true });
  // The package holds the licence of the repository.
  copyFileSync("../../LICENSE", "LICENSE");
  await Promise.all([
    build({ ...node, entryPoints: ["src/extension.ts"], outfile: "dist/extension.js", external: ["vscode"] }),
    build({ ...shared, entryPoints: ["webview/timeline.ts"], outfile: "dist/timeline.js", format: "iife" }),
  ]);
}
