// What the checker of types does not compare: a module beside its .d.ts exports what that declares, and the element
// sends every event that is declared. Members, options and details are the checker's, by `@implements`.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const MODULES = ["avatar-player", "interview", "tts"];
const path = (file) => fileURLToPath(new URL(`../${file}`, import.meta.url));
const files = MODULES.flatMap((name) => [path(`${name}.js`), path(`${name}.d.ts`)]);
const program = ts.createProgram(files, { allowJs: true, noLib: true, noResolve: true });
const { Alias, Value } = ts.SymbolFlags;

const symbols = (file) => {
  const checker = program.getTypeChecker();
  return checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(path(file))));
};
const values = (file) => symbols(file).flatMap(({ flags, name }) => (flags & (Value | Alias) ? [name] : []));

function compare(what, declared, found) {
  const problems = [
    ...declared.filter((name) => !found.includes(name)).map((name) => `${name} is declared and not there`),
    ...found.filter((name) => !declared.includes(name)).map((name) => `${name} is there and not declared`),
  ];
  if (declared.length === 0) problems.push("nothing is declared");
  for (const problem of problems) console.error(`${what}: ${problem}`);
  if (problems.length) process.exitCode = 1;
}

for (const name of MODULES) compare(`${name}.js exports`, values(`${name}.d.ts`), values(`${name}.js`));
const events = symbols("avatar-player.d.ts").find(({ name }) => name === "PlayerEvents");
const sent = [...readFileSync(path("avatar-player.js"), "utf8").matchAll(/\bemit\("(\w+)"/g)].map(([, type]) => type);
compare("events of avatar-player.js", [...(events?.members.keys() ?? [])], sent);
