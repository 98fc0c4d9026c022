import { readFileSync } from "node:fs";
import { relative } from "node:path";
import { trapOf, TRAPS } from "./trap-table.js";

/**
 * Reads jest's report (`--json`) and prints the table trap, test, result. The exit code is 1 unless every trap has a test
 * that ran and none that failed.
 */
interface JestReport {
  readonly testResults: readonly {
    readonly name: string;
    readonly assertionResults: readonly { readonly title: string; readonly status: string }[];
  }[];
}

const [, , path = ""] = process.argv;
const report = JSON.parse(readFileSync(path, "utf8")) as JestReport;
const results = report.testResults.flatMap(({ name, assertionResults }) =>
  assertionResults.flatMap(({ title, status }) => {
    const known = trapOf(title);
    return known === undefined ? [] : [{ ...known, status, file: relative(process.cwd(), name) }];
  }),
);

console.log("| trap | test | result |\n|---|---|---|");
let passed = 0;
for (const [index, [rule]] of TRAPS.entries()) {
  const own = results.filter(({ trap }) => trap === index + 1);
  if (own.length === 0) console.log(`| ${index + 1} | none: ${rule} | **not run** |`);
  for (const { title, status, file } of own) console.log(`| ${index + 1} | ${title} (${file}) | ${status} |`);
  if (own.length > 0 && own.every(({ status }) => status === "passed")) passed += 1;
}
console.log(`${results.length} tests\n${passed} of ${TRAPS.length} traps passed`);
process.exitCode = passed === TRAPS.length ? 0 : 1;
