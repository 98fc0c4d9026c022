import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  createFileDurably,
  makePrivateDirectory,
  removeFileDurably,
  TEMPORARY_PREFIX,
  writeFileDurably,
} from "../../../src/host/durable-file.js";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "hawser-durable-"));
});
afterEach(() => rm(folder, { recursive: true }));

describe("durable files", () => {
  it("are replaced whole, with the mode asked for and not that of the old file", async () => {
    const path = join(folder, "file");
    await writeFile(path, "old");
    await chmod(path, 0o666);
    await writeFileDurably(path, "new");
    expect(await readFile(path, "utf8")).toBe("new");
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    await writeFileDurably(path, Buffer.from("newer"), 0o640);
    expect((await stat(path)).mode & 0o777).toBe(0o640);
    expect(await readdir(folder)).toEqual(["file"]);
  });

  it("are created by one of many, and all the others see that one's content", async () => {
    const path = join(folder, "key");
    const winners = await Promise.all(
      Array.from({ length: 20 }, (_, index) => createFileDurably(path, `content ${index}`)),
    );
    expect(winners.filter(Boolean)).toHaveLength(1);
    expect(await readFile(path, "utf8")).toBe(`content ${winners.indexOf(true)}`);
    expect(await readdir(folder)).toEqual(["key"]);
  });

  it("are removed without an error when they are not there", async () => {
    const path = join(folder, "file");
    await writeFileDurably(path, "x");
    await removeFileDurably(path);
    await removeFileDurably(path);
    expect(await readdir(folder)).toEqual([]);
  });

  it("take names as long as the file system does, and leave the old file when writing fails", async () => {
    const path = join(folder, "n".repeat(255));
    await writeFileDurably(path, "x");
    expect(await readdir(folder)).toEqual(["n".repeat(255)]);
    await expect(writeFileDurably(join(folder, "none", "file"), "x")).rejects.toMatchObject({ code: "ENOENT" });
    expect(TEMPORARY_PREFIX.startsWith(".")).toBe(true);
  });

  it("lie in directories only their owner enters", async () => {
    await makePrivateDirectory(join(folder, "a", "b"));
    expect((await stat(join(folder, "a", "b"))).mode & 0o777).toBe(0o700);
  });
});
