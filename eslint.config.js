import tseslint from "typescript-eslint";

const ownedGlobals = [
  { object: "Date", property: "now", message: "Take a Clock (base/clock.ts)." },
  { object: "Math", property: "random", message: "Take a Random (base/random.ts)." },
  { object: "process", property: "env", message: "Only src/cli reads the environment." },
];

export default tseslint.config(
  { ignores: ["scripts/**", ".cache/**", "dist/**", "coverage/**", "node_modules/**", "**/*.cjs", "**/*.js"] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "max-lines": ["error", { max: 400 }],
      "max-lines-per-function": ["error", { max: 70, skipComments: true, skipBlankLines: true }],
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true, allowBoolean: true }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "@typescript-eslint/no-unnecessary-condition": ["error", { allowConstantLoopConditions: true }],
      "no-restricted-properties": ["error", ...ownedGlobals],
      "no-console": "error",
      eqeqeq: "error",
      "no-restricted-globals": [
        "error",
        ...["setTimeout", "setInterval"].map((name) => ({ name, message: "Take a Clock (base/clock.ts)." })),
      ],
    },
  },
  {
    files: ["src/base/system-clock.ts", "src/base/system-random.ts", "src/cli/**", "src/main.ts", "src/hawserctl.ts"],
    rules: { "no-restricted-properties": "off", "no-restricted-globals": "off", "no-console": "off" },
  },
  {
    files: ["test/**"],
    rules: {
      "max-lines-per-function": "off",
      "no-restricted-properties": "off",
      "no-restricted-globals": "off",
      "no-console": "off",
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/no-floating-promises": ["error", { allowForKnownSafeCalls: [] }],
      "@typescript-eslint/unbound-method": "off",
      // Jest's asymmetric matchers are typed any.
      "@typescript-eslint/no-unsafe-argument": "off",
      "@typescript-eslint/no-unsafe-assignment": "off",
    },
  },
);
