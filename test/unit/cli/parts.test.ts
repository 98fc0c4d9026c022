import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AppError, CancelledError, TimeoutError } from "../../../src/base/errors.js";
import { exitCodeOf } from "../../../src/cli/exit-codes.js";
import { initiatorNameOf, readChap, requirePortals } from "../../../src/cli/options.js";
import { formatRecord, formatRows } from "../../../src/cli/output.js";
import { withProgress } from "../../../src/cli/progress.js";
import { VirtualTime } from "../../support/virtual-time.js";

describe("exitCodeOf", () => {
  it("tells the error families apart", () => {
    expect(exitCodeOf(new AppError("transport", "X", "x"))).toBe(10);
    expect(exitCodeOf(new AppError("login", "X", "x"))).toBe(11);
    expect(exitCodeOf(new AppError("dataplane", "X", "x"))).toBe(15);
    expect(exitCodeOf(new TimeoutError("transport", "X", "x"))).toBe(124);
    expect(exitCodeOf(new CancelledError("cli", "X", "x"))).toBe(130);
    expect(exitCodeOf(new Error("bug"))).toBe(1);
  });
});

describe("formatRows", () => {
  const columns = [
    { heading: "NAME", cell: (row: { name: string; size: number }) => row.name },
    { heading: "SIZE", cell: (row: { name: string; size: number }) => row.size },
  ];
  const rows = [
    { name: "a", size: 1 },
    { name: "longer", size: 22 },
  ];

  it("aligns a table", () => {
    expect(formatRows("table", rows, columns)).toBe("NAME    SIZE\na       1\nlonger  22\n");
  });

  it("gives the rows themselves as JSON", () => {
    expect(JSON.parse(formatRows("json", rows, columns))).toEqual(rows);
  });

  it("shows one record", () => {
    expect(formatRecord("table", { a: 1, long: "x" })).toBe("a     1\nlong  x\n");
  });
});

describe("withProgress", () => {
  async function run(isTerminal: boolean, durationMs: number): Promise<string> {
    const clock = new VirtualTime();
    let text = "";
    const output = { write: (piece: string) => (text += piece) };
    const work = withProgress("Login", { clock, output, isTerminal }, async (report) => {
      report("second portal");
      await new Promise<void>((resolve) => clock.setTimer(durationMs, resolve));
      return 7;
    });
    await clock.advance(durationMs + 1);
    expect(await work).toBe(7);
    expect(clock.pendingTimers).toBe(0);
    return text;
  }

  it("is silent below a second", async () => {
    expect(await run(true, 900)).toBe("");
  });

  it("names the work, its detail and the seconds", async () => {
    expect(await run(false, 1500)).toBe("Login: second portal (1 s)\n");
  });

  it("cleans the terminal line", async () => {
    expect(await run(true, 1500)).toMatch(/Login: second portal \(1 s\)\r\u001b\[K$/);
  });
});

describe("readChap", () => {
  const folder = mkdtempSync(join(tmpdir(), "hawser-chap-"));
  const file = (name: string, text: string, mode = 0o600): string => {
    writeFileSync(join(folder, name), text, { mode });
    return join(folder, name);
  };
  afterAll(() => rmSync(folder, { recursive: true }));

  it("reads the secret without the editor's newline", async () => {
    const chap = await readChap({ chapUser: "u", chapSecretFile: file("a", "twelve bytes!\n") });
    expect(chap?.secret.reveal().toString()).toBe("twelve bytes!");
    expect(JSON.stringify(chap)).not.toContain("twelve");
  });

  it.each([
    [{ chapUser: "u" }, "CHAP_INCOMPLETE"],
    [{ mutualUser: "u" }, "CHAP_INCOMPLETE"],
    [{ chapUser: "u", chapSecretFile: "/nonexistent/secret" }, "SECRET_FILE_UNREADABLE"],
  ])("refuses %j", async (options, code) => {
    await expect(readChap(options)).rejects.toMatchObject({ code });
  });

  it("refuses a file that everybody can read, and an empty one", async () => {
    await expect(readChap({ chapUser: "u", chapSecretFile: file("b", "x", 0o644) })).rejects.toMatchObject({
      code: "SECRET_FILE_READABLE",
    });
    await expect(readChap({ chapUser: "u", chapSecretFile: file("c", "\n") })).rejects.toMatchObject({
      code: "SECRET_FILE_EMPTY",
    });
  });
});

it("makes an initiator name from the host's name", () => {
  const digests = { headerDigest: "none", dataDigest: "none" } as const;
  expect(initiatorNameOf(digests, "Node_7.Example")).toBe("iqn.2026-11.dev.hawser:node-7.example");
  expect(initiatorNameOf({ ...digests, initiatorName: "iqn.2001-01.a:b" }, "x")).toBe("iqn.2001-01.a:b");
});

it("asks for a portal", () => {
  expect(() => requirePortals([])).toThrow(expect.objectContaining({ code: "PORTAL_MISSING" }));
});
