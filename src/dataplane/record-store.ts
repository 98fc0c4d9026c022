import { open, readdir, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import { errorMessage } from "../base/errors.js";
import { MAX_VOLUME_RECORD_BYTES } from "../base/limits.js";
import type { Logger } from "../base/logger.js";
import {
  makePrivateDirectory,
  removeFileDurably,
  syncDirectory,
  TEMPORARY_PREFIX,
  writeFileDurably,
} from "../host/durable-file.js";
import { DataplaneError } from "./errors.js";
import { recordFileName, volumeRecordSchema, type VolumeRecord } from "./volume-record.js";

/** A file among the records that cannot be used. */
export interface DamagedRecord {
  readonly fileName: string;
  readonly reason: string;
  /** Written by a newer version: left where it is, and its volume is not touched. */
  readonly isNewer: boolean;
  /** Where it is now. */
  readonly path: string;
}

export interface LoadedRecords {
  readonly records: readonly VolumeRecord[];
  readonly damaged: readonly DamagedRecord[];
}

/** Where volume records live. Failures are DataplaneErrors with code STATE_FAILED. */
export interface RecordStore {
  /** Reads every record. What cannot be used is put aside and reported, never deleted. */
  load(): Promise<LoadedRecords>;
  /** The record is on stable storage when the promise resolves. */
  save(record: VolumeRecord): Promise<void>;
  /** No error when there is none. */
  remove(volumeHandle: string): Promise<void>;
}

const DAMAGED_SUFFIX = ".damaged";

/**
 * One JSON file per volume in a directory of its own (0700, files 0600), replaced by write, sync, rename, sync.
 * Calls for one volume must take turns.
 */
export class FileRecordStore implements RecordStore {
  readonly #directory: string;
  readonly #logger: Logger;

  constructor(options: { readonly directory: string }, dependencies: { readonly logger: Logger }) {
    this.#directory = options.directory;
    this.#logger = dependencies.logger;
  }

  async load(): Promise<LoadedRecords> {
    const records: VolumeRecord[] = [];
    const damaged: DamagedRecord[] = [];
    try {
      await makePrivateDirectory(this.#directory);
      for (const fileName of (await readdir(this.#directory)).sort()) {
        if (fileName.startsWith(TEMPORARY_PREFIX)) {
          await removeFileDurably(join(this.#directory, fileName));
        } else if (fileName.includes(".json" + DAMAGED_SUFFIX)) {
          damaged.push(this.#earlierDamage(fileName));
        } else if (fileName.endsWith(".json")) {
          const read = await this.#read(fileName);
          if ("record" in read) records.push(read.record);
          else
            damaged.push(
              read.isNewer
                ? { ...read, fileName, path: this.#path(fileName) }
                : await this.#putAside(fileName, read.reason),
            );
        }
      }
    } catch (error) {
      throw this.#failure("read the volume records", error);
    }
    for (const entry of damaged) this.#logger.error("a volume record cannot be used", { ...entry });
    return { records, damaged };
  }

  async save(record: VolumeRecord): Promise<void> {
    try {
      const content = `${JSON.stringify(volumeRecordSchema.parse(record), null, 2)}\n`;
      await writeFileDurably(this.#path(recordFileName(record.volumeHandle)), content);
    } catch (error) {
      throw this.#failure(`write the record of volume ${record.volumeHandle}`, error);
    }
  }

  async remove(volumeHandle: string): Promise<void> {
    try {
      await removeFileDurably(this.#path(recordFileName(volumeHandle)));
    } catch (error) {
      throw this.#failure(`remove the record of volume ${volumeHandle}`, error);
    }
  }

  async #read(fileName: string): Promise<{ record: VolumeRecord } | { reason: string; isNewer: boolean }> {
    const content = await readBounded(this.#path(fileName));
    if (content === undefined) {
      return { reason: `no file of at most ${MAX_VOLUME_RECORD_BYTES} bytes`, isNewer: false };
    }
    let value: unknown;
    try {
      value = JSON.parse(content);
    } catch {
      return { reason: "not JSON: cut short or overwritten", isNewer: false };
    }
    const version: unknown = typeof value === "object" && value !== null && "version" in value ? value.version : 0;
    if (typeof version === "number" && version > 1) {
      return { reason: `written by a newer version (format ${version}, known: 1)`, isNewer: true };
    }
    const parsed = volumeRecordSchema.safeParse(value);
    if (!parsed.success) {
      const fields = parsed.error.issues.map((issue) => issue.path.join(".")).join(", ");
      return { reason: `fields missing or wrong: ${fields}`, isNewer: false };
    }
    if (recordFileName(parsed.data.volumeHandle) !== fileName) {
      return { reason: `the record of volume ${parsed.data.volumeHandle} under another volume's name`, isNewer: false };
    }
    return { record: parsed.data };
  }

  /** Renames the file within the directory, to a name that is free. */
  async #putAside(fileName: string, reason: string): Promise<DamagedRecord> {
    for (let attempt = 0; ; attempt += 1) {
      const aside = `${fileName}${DAMAGED_SUFFIX}${attempt === 0 ? "" : `-${attempt}`}`;
      if (await exists(this.#path(aside))) continue;
      await rename(this.#path(fileName), this.#path(aside));
      await syncDirectory(this.#directory);
      return { fileName, reason, isNewer: false, path: this.#path(aside) };
    }
  }

  #earlierDamage(fileName: string): DamagedRecord {
    const original = fileName.slice(0, fileName.lastIndexOf(DAMAGED_SUFFIX));
    return { fileName: original, reason: "put aside earlier", isNewer: false, path: this.#path(fileName) };
  }

  #path(fileName: string): string {
    return join(this.#directory, fileName);
  }

  #failure(what: string, cause: unknown): DataplaneError {
    return new DataplaneError(
      "STATE_FAILED",
      `cannot ${what} in ${this.#directory}: ${errorMessage(cause)}; the directory must be writable and have room`,
      { cause, retry: "same-path", details: { directory: this.#directory } },
    );
  }
}

/** Undefined when it is no ordinary file or too large: nothing of it is taken into memory then. */
async function readBounded(path: string): Promise<string | undefined> {
  const handle = await open(path, "r");
  try {
    const info = await handle.stat();
    return info.isFile() && info.size <= MAX_VOLUME_RECORD_BYTES ? await handle.readFile("utf8") : undefined;
  } finally {
    await handle.close();
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
