// What an app's users load for `import "@museserve/avatar-player"`: bundled and minified as Vite does it, compressed by
// gzip. Fails above the budget.

import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "vite";

const BUDGET_BYTES = 30_000;

const entry = fileURLToPath(new URL("../avatar-player.js", import.meta.url));
// A library would keep its white space, for the app's bundler to remove: this is built as an app is.
const rollupOptions = { input: entry, preserveEntrySignatures: "exports-only" };
const options = { configFile: false, logLevel: "warn", build: { write: false, modulePreload: false, rollupOptions } };
const { output } = await build(options);
const sizes = output.map(({ code, source }) => gzipSync(code ?? source, { level: 9 }).length);
const bytes = sizes.reduce((sum, size) => sum + size, 0);
console.log(`avatar-player: ${bytes} of ${BUDGET_BYTES} bytes, minified and compressed`);
if (bytes > BUDGET_BYTES || bytes < BUDGET_BYTES / 10) {
  console.error(`what it loads (${output.map(({ fileName }) => fileName).join(", ")}) is not within the budget`);
  process.exitCode = 1;
}
