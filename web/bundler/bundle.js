// Makes ../dist of the plain modules: what the service gives browsers in their place, in fewer and smaller files. Names
// with a hash change with their content, so they are kept forever. Each lies there compressed, too.

import { build } from "esbuild";
import { createHash } from "node:crypto";
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const WEB = join(import.meta.dirname, "..");
process.chdir(WEB);
const DIST = "dist";
const FOLDERS = [".", "page", "player"]; // of what is served, as deployments/ingress/page.py has it
const KINDS = [".html", ".js", ".css", ".svg"];
const TOOLS = ["eslint.config.js"]; // which no browser asks for
const LINKS = /[ ]*<link rel="stylesheet" href="([^"]+)">\n/g;

/** Stands for the modules that were bundled: the service takes no bundle of others. */
async function sourcesDigest() {
  const found = [];
  for (const folder of FOLDERS) {
    for (const name of await readdir(folder)) {
      if (KINDS.includes(extname(name)) && !TOOLS.includes(name)) found.push(folder === "." ? name : `${folder}/${name}`);
    }
  }
  const hash = createHash("sha256");
  for (const path of found.sort()) hash.update(`${path}\0`).update(await readFile(path));
  return hash.digest("hex");
}

await rm(DIST, { recursive: true, force: true });
await mkdir(DIST);
const shared = { absWorkingDir: WEB, bundle: true, minify: true, format: "esm", target: "es2023", outdir: DIST, metafile: true };

// The page: one script, one style sheet.
const page = await readFile("index.html", "utf8");
const sheets = [...page.matchAll(LINKS)].map(([, href]) => href);
const built = await build({ ...shared, entryPoints: ["app.js"], entryNames: "[name]-[hash]" });
const styles = await build({
  ...shared,
  stdin: { contents: sheets.map((href) => `@import "./${href}";`).join("\n"), loader: "css", resolveDir: WEB },
  entryNames: "style-[hash]",
  assetNames: "[name]-[hash]",
  loader: { ".svg": "file" },
});
/** @param {import("esbuild").BuildResult} result @param {string} kind */
const made = (result, kind) => basename(Object.keys(result.metafile.outputs).find((path) => path.endsWith(kind)));
const script = made(built, ".js");
const sheet = made(styles, ".css");
let first = true;
const bundled = page
  .replace(LINKS, () => {
    const link = first ? `    <link rel="stylesheet" href="${sheet}">\n` : "";
    first = false;
    return link;
  })
  .replace('src="app.js"', `src="${script}"`);
if (!bundled.includes(sheet) || !bundled.includes(script)) throw new Error("index.html names its files otherwise");
await writeFile(`${DIST}/index.html`, bundled);

// For other pages: under the names of the modules, with what both need in one file.
await build({ ...shared, entryPoints: ["avatar-player.js", "tts.js"], splitting: true, chunkNames: "[name]-[hash]" });
await cp("player/tick-worker.js", `${DIST}/tick-worker.js`); // beside the bundles, which ask for it

for (const name of await readdir(DIST)) {
  const bytes = await readFile(`${DIST}/${name}`);
  await writeFile(`${DIST}/${name}.gz`, gzipSync(bytes, { level: 9 }));
  const quality = { [constants.BROTLI_PARAM_QUALITY]: 11 };
  await writeFile(`${DIST}/${name}.br`, brotliCompressSync(bytes, { params: quality }));
}
await writeFile(`${DIST}/sources.sha256`, await sourcesDigest());
