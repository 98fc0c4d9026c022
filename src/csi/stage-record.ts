import { createHash } from "node:crypto";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { errorCode, errorMessage } from "../base/errors.js";
import { MAX_STAGE_RECORD_BYTES } from "../base/limits.js";
import { makePrivateDirectory, removeFileDurably, TEMPORARY_PREFIX, writeFileDurably } from "../host/durable-file.js";
import { CsiError } from "./errors.js";

const recordSchema = z.object({
  version: z.literal(1),
  volumeHandle: z.string().min(1),
  stagingPath: z.string().min(1),
  kind: z.enum(["mount", "block"]),
  fsType: z.string(),
  /** The device as it was when it was mounted: a mount of the same numbers but another generation is not ours. */
  deviceMajor: z.int().min(0),
  deviceMinor: z.int().min(0),
  generation: z.int().min(0),
  /** A file system is being made: until this is false again the volume was never mounted. */
  isFormatting: z.boolean(),
});

/** What the node service remembers of a staged volume. Immutable. */
export type StageRecord = Readonly<z.infer<typeof recordSchema>>;

/**
 * The node service's own memory, one file per volume below DIR/staged, so that the process may be killed at any time.
 * It only adds to what the mount table and the dataplane say: which generation of a device a mount belongs to, and
 * whether a file system was being made.
 */
export class StageRecords {
  readonly #directory: string;

  constructor(options: { readonly stateDirectory: string }) {
    this.#directory = join(options.stateDirectory, "staged");
  }

  /** Undefined when the volume was not staged, or its record cannot be understood (then nothing is known of it). */
  async get(volumeHandle: string): Promise<StageRecord | undefined> {
    const record = await this.#read(this.#path(volumeHandle));
    return record?.volumeHandle === volumeHandle ? record : undefined;
  }

  async put(record: StageRecord): Promise<void> {
    try {
      await makePrivateDirectory(this.#directory);
      await writeFileDurably(this.#path(record.volumeHandle), `${JSON.stringify(record)}\n`);
    } catch (error) {
      throw this.#failure("written", error);
    }
  }

  /** No error when there is none. */
  async remove(volumeHandle: string): Promise<void> {
    try {
      await removeFileDurably(this.#path(volumeHandle));
    } catch (error) {
      throw this.#failure("removed", error);
    }
  }

  /** Every record that can be understood. */
  async list(): Promise<readonly StageRecord[]> {
    let names: readonly string[];
    try {
      names = await readdir(this.#directory);
    } catch (error) {
      if (errorCode(error) === "ENOENT") return [];
      throw this.#failure("listed", error);
    }
    const paths = names.filter((name) => !name.startsWith(TEMPORARY_PREFIX)).map((name) => join(this.#directory, name));
    const records = await Promise.all(paths.map((path) => this.#read(path)));
    return records.filter((record) => record !== undefined);
  }

  /** Handles may hold any character and be longer than a file name. */
  #path(volumeHandle: string): string {
    return join(this.#directory, `${createHash("sha256").update(volumeHandle).digest("hex").slice(0, 40)}.json`);
  }

  async #read(path: string): Promise<StageRecord | undefined> {
    let text: string;
    try {
      if ((await stat(path)).size > MAX_STAGE_RECORD_BYTES) return undefined;
      text = await readFile(path, "utf8");
    } catch (error) {
      if (errorCode(error) === "ENOENT") return undefined;
      throw this.#failure("read", error);
    }
    try {
      return recordSchema.safeParse(JSON.parse(text)).data;
    } catch {
      return undefined;
    }
  }

  #failure(verb: string, error: unknown): CsiError {
    return new CsiError("CSI_INTERNAL", `the records in ${this.#directory} cannot be ${verb}: ${errorMessage(error)}`, {
      cause: error,
    });
  }
}
