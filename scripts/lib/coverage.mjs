// Sums up a coverage-summary.json of jest for single folders.
// usage: coverage.mjs SUMMARY PERCENT FOLDER... : one line for lines and one for branches of each folder.
// Exit code 1 when one of them is below PERCENT, or a folder has no file that was measured.
import { readFileSync } from "node:fs";
import { relative, sep } from "node:path";

const [summaryPath, percentText, ...folders] = process.argv.slice(2);
const percent = Number(percentText);
const { total: _total, ...files } = JSON.parse(readFileSync(summaryPath, "utf8"));

let isEnough = true;
for (const folder of folders) {
  const inside = Object.entries(files).filter(([path]) =>
    relative(process.cwd(), path).split(sep).join("/").startsWith(`${folder}/`),
  );
  for (const kind of ["lines", "branches"]) {
    const covered = inside.reduce((sum, [, file]) => sum + file[kind].covered, 0);
    const total = inside.reduce((sum, [, file]) => sum + file[kind].total, 0);
    const reached = total === 0 ? 0 : (covered * 100) / total;
    const isReached = reached >= percent;
    isEnough &&= isReached;
    const verdict = isReached ? "" : `, below ${percent} %`;
    console.log(`${folder}: ${reached.toFixed(2)} % of ${kind} (${covered} of ${total})${verdict}`);
  }
}
process.exit(isEnough ? 0 : 1);
