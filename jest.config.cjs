/**
 * Projects: `unit` runs anywhere in parallel; `system` (files named *.system.test.ts) drives real targets,
 * kernels and tools, one file at a time. scripts/test runs both. A third, `apiserver` (*.apiserver.test.ts), needs a
 * kube-apiserver, which only scripts/e2e builds: its --dry-run runs them. `manual` (*.manual.ts) measures what only a
 * machine with nothing else to do shows.
 */
const shared = {
  testEnvironment: "node",
  transform: {
    "^.+\\.ts$": [
      "@swc/jest",
      { jsc: { target: "es2022", parser: { syntax: "typescript" } }, module: { type: "commonjs" } },
    ],
  },
  moduleNameMapper: { "^(\\.{1,2}/.*)\\.js$": "$1" },
  // Built programs and images: nothing in them is ours, and their package.json files are no modules of this project.
  modulePathIgnorePatterns: ["<rootDir>/.cache/"],
  moduleFileExtensions: ["ts", "js", "cjs", "json", "node"],
};

module.exports = {
  projects: [
    {
      ...shared,
      displayName: "unit",
      testMatch: ["<rootDir>/test/**/*.test.ts"],
      testPathIgnorePatterns: ["/node_modules/", "\\.(system|apiserver)\\.test\\.ts$"],
    },
    { ...shared, displayName: "system", testMatch: ["<rootDir>/test/**/*.system.test.ts"] },
    { ...shared, displayName: "manual", testMatch: ["<rootDir>/test/**/*.manual.ts"] },
    { ...shared, displayName: "apiserver", testMatch: ["<rootDir>/test/**/*.apiserver.test.ts"] },
  ],
  testTimeout: 30000,
};
