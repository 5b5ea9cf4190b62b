// What the checker of types does not compare: a module beside its .d.ts exports what that declares, and the element
// sends every event that is declared. Members, options and details are the checker's, by `@implements`.

import { readFileSync } from "node:fs";
import ts from "typescript";

/** @param {string} file */
function parsed(file) {
  const text = readFileSync(new URL(`../${file}`, import.meta.url), "utf8");
  return ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
}

/** @param {ts.Node} node @returns {ts.Node[]} */
const within = (node) => [node, ...node.getChildren().flatMap(within)];

/** @param {ts.Node} node */
const nameOf = (node) => /** @type {{ name?: ts.Node }} */ (node).name?.getText() ?? "";

/** Names of values that a module exports: types are a declaration's own. @param {string} file */
function exported(file) {
  const names = [];
  for (const node of parsed(file).statements) {
    if (ts.isExportAssignment(node)) names.push("default");
    if (ts.isExportDeclaration(node) && node.exportClause && ts.isNamedExports(node.exportClause)) {
      names.push(...node.exportClause.elements.map(nameOf));
    }
    const modifiers = ts.canHaveModifiers(node) ? (ts.getModifiers(node) ?? []) : [];
    const exports = modifiers.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword);
    if (!exports || ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node)) continue;
    if (ts.isVariableStatement(node)) names.push(...node.declarationList.declarations.map(nameOf));
    else names.push(nameOf(node));
  }
  return names;
}

function declaredEvents() {
  const events = within(parsed("avatar-player.d.ts")).find(
    (node) => ts.isInterfaceDeclaration(node) && nameOf(node) === "PlayerEvents",
  );
  return events && ts.isInterfaceDeclaration(events) ? events.members.map(nameOf) : [];
}

function sentEvents() {
  const calls = within(parsed("avatar-player.js")).filter(ts.isCallExpression);
  const sends = calls.filter(
    ({ expression }) => ts.isPropertyAccessExpression(expression) && nameOf(expression) === "emit",
  );
  return sends.flatMap(({ arguments: [type] }) => (ts.isStringLiteral(type) ? [type.text] : []));
}

/** @param {string} what @param {string[]} declared @param {string[]} found */
function compare(what, declared, found) {
  const [left, right] = [new Set(declared), new Set(found)];
  const problems = [
    ...[...left].filter((name) => !right.has(name)).map((name) => `${what}: ${name} is declared and not there`),
    ...[...right].filter((name) => !left.has(name)).map((name) => `${what}: ${name} is there and not declared`),
  ];
  if (left.size === 0) problems.push(`${what}: nothing is declared`);
  for (const problem of problems) console.error(problem);
  if (problems.length) process.exitCode = 1;
}

for (const name of ["avatar-player", "tts"]) {
  compare(`${name}.js exports`, exported(`${name}.d.ts`), exported(`${name}.js`));
}
compare("events of avatar-player.js", declaredEvents(), sentEvents());
