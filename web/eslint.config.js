import js from "@eslint/js";
import vue from "eslint-plugin-vue";
import globals from "globals";

export default [
  { linterOptions: { reportUnusedDisableDirectives: "error" } },
  js.configs.recommended,
  ...vue.configs["flat/essential"],
  {
    files: ["**/*.js", "**/*.vue"],
    languageOptions: { ecmaVersion: 2023, sourceType: "module", globals: globals.browser },
    rules: {
      "array-callback-return": "error",
      "arrow-body-style": "error",
      "consistent-return": "error",
      curly: ["error", "multi-line"],
      "default-case-last": "error",
      eqeqeq: "error",
      "max-len": ["error", { code: 120, ignoreUrls: true, ignoreStrings: true, ignoreTemplateLiterals: false }],
      "no-constructor-return": "error",
      "no-else-return": "error",
      "no-empty": ["error", { allowEmptyCatch: false }],
      "no-implicit-coercion": "error",
      "no-implicit-globals": "error",
      "no-lonely-if": "error",
      "no-promise-executor-return": "error",
      "no-self-compare": "error",
      "no-shadow": ["error", { builtinGlobals: false }],
      "no-template-curly-in-string": "error",
      "no-throw-literal": "error",
      "no-unmodified-loop-condition": "error",
      "no-unreachable-loop": "error",
      "no-unused-expressions": "error",
      "no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      "no-use-before-define": ["error", { functions: false, classes: false, variables: false }],
      "no-useless-rename": "error",
      "no-useless-return": "error",
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": "error",
      "prefer-promise-reject-errors": "error",
      "prefer-template": "error",
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
  { files: ["eslint.config.js", "checks/*.js"], languageOptions: { globals: globals.node } },
];
