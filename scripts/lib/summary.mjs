// summary.mjs FOLDER NAME...: adds up what scripts/test ran: NAME.json of jest for each NAME, and the *.check files.
// Prints what was skipped and why, then the closing line; exits 1 when anything failed or nothing ran.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const [folder, ...names] = process.argv.slice(2);
const files = readdirSync(folder);
let passed = 0;
let failed = 0;
const skipped = [];
const broken = [];

for (const file of files.filter((name) => name.endsWith(".check"))) {
  const isGood = readFileSync(join(folder, file), "utf8").trim() === "passed";
  if (isGood) passed += 1;
  else {
    failed += 1;
    broken.push(`check ${file.replace(".check", "")}`);
  }
}

for (const name of names) {
  if (!files.includes(`${name}.json`)) {
    failed += 1;
    broken.push(`the ${name} tests ended without a report`);
    continue;
  }
  const report = JSON.parse(readFileSync(join(folder, `${name}.json`), "utf8"));
  passed += report.numPassedTests;
  failed += report.numFailedTests + report.numRuntimeErrorTestSuites;
  for (const suite of report.testResults) {
    if (suite.status === "failed" && suite.assertionResults.length === 0) broken.push(`${suite.name} did not run`);
    for (const test of suite.assertionResults) {
      if (test.status === "pending" || test.status === "todo") skipped.push(test.fullName);
      if (test.status === "failed") broken.push(test.fullName);
    }
  }
}

if (skipped.length > 0) console.log(`\nSkipped:\n${skipped.map((name) => `  - ${name}`).join("\n")}`);
if (broken.length > 0) console.log(`\nFailed:\n${broken.map((name) => `  - ${name}`).join("\n")}`);
console.log("");
console.log(`${passed} passed, ${failed} failed, ${skipped.length} skipped`);
process.exit(failed > 0 || passed === 0 ? 1 : 0);
