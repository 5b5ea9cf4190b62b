import js from "@eslint/js";
import vue from "eslint-plugin-vue";
import globals from "globals";

const ERRORS = [
  "array-callback-return", "arrow-body-style", "consistent-return", "default-case-last", "eqeqeq",
  "no-constructor-return", "no-else-return", "no-implicit-coercion", "no-implicit-globals", "no-lonely-if",
  "no-promise-executor-return", "no-self-compare", "no-template-curly-in-string", "no-throw-literal",
  "no-unmodified-loop-condition", "no-unreachable-loop", "no-unused-expressions", "no-useless-rename",
  "no-useless-return", "no-var", "object-shorthand", "prefer-const", "prefer-promise-reject-errors",
  "prefer-template",
];

export default [
  { ignores: ["dist"] },
  { linterOptions: { reportUnusedDisableDirectives: "error" } },
  js.configs.recommended,
  ...vue.configs["flat/essential"],
  {
    files: ["**/*.js", "**/*.vue"],
    languageOptions: { ecmaVersion: 2023, sourceType: "module", globals: globals.browser },
    rules: {
      ...Object.fromEntries(ERRORS.map((rule) => [rule, "error"])),
      curly: ["error", "multi-line"],
      "max-len": ["error", { code: 120, ignoreUrls: true, ignoreStrings: true, ignoreTemplateLiterals: false }],
      "no-empty": ["error", { allowEmptyCatch: false }],
      "no-shadow": ["error", { builtinGlobals: false }],
      "no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      "no-use-before-define": ["error", { functions: false, classes: false, variables: false }],
      "sort-imports": ["error", { ignoreCase: true, ignoreDeclarationSort: true }],
    },
  },
  // Vue's compiler leaves the element alone, as docs/page.md tells apps to have it.
  {
    files: ["**/*.vue"],
    rules: {
      "vue/no-deprecated-slot-attribute": "error",
      "vue/no-undef-components": ["error", { ignorePatterns: ["^avatar-player$"] }],
    },
  },
  { files: ["player/tick-worker.js"], languageOptions: { globals: globals.worker } },
  { files: ["bundler/*.js", "eslint.config.js", "checks/*.js"], languageOptions: { globals: globals.node } },
];
