import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeNeeding } from "../support/needs.js";

const root = join(__dirname, "..", "..");

describeNeeding([join(root, "dist", "index.js")], "the package as a library", () => {
  let folder: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "hawser-library-"));
    mkdirSync(join(folder, "node_modules"));
    symlinkSync(root, join(folder, "node_modules", "hawser"));
  });

  afterAll(() => rmSync(folder, { recursive: true }));

  it("runs the program of docs/library.md, which prints what the page says", () => {
    const page = readFileSync(join(root, "docs", "library.md"), "utf8");
    const program = /```js\n([\s\S]*?)```/.exec(page)?.[1] ?? "";
    const printed = /It prints `([^`]+)`/.exec(page)?.[1] ?? "";
    expect(program).toContain("connectVolume");
    writeFileSync(join(folder, "program.mjs"), program);
    const output = execFileSync("node", [join(folder, "program.mjs")], { encoding: "utf8", timeout: 30_000 });
    expect(output.trim()).toBe(printed);
  });
});
