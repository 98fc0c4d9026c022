import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * LIO since Linux 6.4, and in 6.1 with its later fixes, gives each connection a counter of its commands and frees it
 * with the connection. A command that survives its connection, as every one does that TASK REASSIGN moves, still
 * refers to it: the kernel panics (`percpu_ref_put`) when such a command is freed. So no connection recovery can be
 * tested against that kernel as it is. `repairedLioModule` makes a copy of iscsi_target_mod.ko in which the counter is
 * not freed: some hundred bytes are lost with each connection, and all else is as it was.
 */
const FREED_TOO_EARLY = "target_free_cmd_counter";

const MODULES = "/usr/lib/uml/modules";
const MODULE_PATH = "kernel/drivers/target/iscsi/iscsi_target_mod.ko";

/** ELF-64, little endian; only what a relocatable file needs. */
const SECTION_HEADER_BYTES = 64;
const SYMBOL_BYTES = 24;
const RELOCATION_BYTES = 24;
const SECTION_SYMBOL = 3;
const TYPE_SYMBOLS = 2;
const TYPE_RELOCATIONS = 4;
const R_X86_64_64 = 1;
const RETURN = 0xc3;

interface Section {
  readonly type: number;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
  readonly info: number;
}

function sectionsOf(file: Buffer): Section[] {
  const at = Number(file.readBigUInt64LE(0x28));
  return Array.from({ length: file.readUInt16LE(0x3c) }, (_, index) => {
    const start = at + index * SECTION_HEADER_BYTES;
    return {
      type: file.readUInt32LE(start + 4),
      offset: Number(file.readBigUInt64LE(start + 24)),
      size: Number(file.readBigUInt64LE(start + 32)),
      link: file.readUInt32LE(start + 40),
      info: file.readUInt32LE(start + 44),
    };
  });
}

function symbolName(file: Buffer, names: Section, symbolAt: number): string {
  const start = names.offset + file.readUInt32LE(symbolAt);
  return file.toString("latin1", start, file.indexOf(0, start));
}

/**
 * Redirects every address of the function `name` in the code of a relocatable x86-64 file to a return instruction of
 * the same section, so that calling it does nothing. Changes `file`; returns how many there were.
 */
export function silenceCalls(file: Buffer, name: string): number {
  const sections = sectionsOf(file);
  const symbols = sections.find((section) => section.type === TYPE_SYMBOLS);
  const names = symbols === undefined ? undefined : sections[symbols.link];
  if (symbols === undefined || names === undefined) throw new Error("the module has no symbols");
  const isSection = (symbolAt: number, section: number): boolean =>
    (file.readUInt8(symbolAt + 4) & 0xf) === SECTION_SYMBOL && file.readUInt16LE(symbolAt + 6) === section;
  const symbolAt = (index: number): number => symbols.offset + index * SYMBOL_BYTES;
  let count = 0;
  for (const relocations of sections.filter((section) => section.type === TYPE_RELOCATIONS)) {
    const code = sections[relocations.info];
    const owner = Array.from({ length: symbols.size / SYMBOL_BYTES }, (_, index) => index).find((index) =>
      isSection(symbolAt(index), relocations.info),
    );
    const end = relocations.offset + relocations.size;
    for (let at = relocations.offset; at < end; at += RELOCATION_BYTES) {
      const type = file.readUInt32LE(at + 8);
      const symbol = file.readUInt32LE(at + 12);
      if (type !== R_X86_64_64 || symbolName(file, names, symbolAt(symbol)) !== name) continue;
      const returnAt = code === undefined ? -1 : file.indexOf(RETURN, code.offset) - code.offset;
      if (owner === undefined || code === undefined || returnAt < 0 || returnAt >= code.size) {
        throw new Error("there is no return instruction to redirect the call to");
      }
      file.writeUInt32LE(owner, at + 12);
      file.writeBigInt64LE(BigInt(returnAt), at + 16);
      count += 1;
    }
  }
  return count;
}

export interface RepairedModule {
  /** To be loaded with insmod after target_core_mod and before anything asks for iscsi_target_mod. */
  readonly path: string;
  remove(): Promise<void>;
}

/** The guest kernel's iscsi_target_mod without the fault; the unchanged module when this kernel has it not. */
export async function repairedLioModule(): Promise<RepairedModule> {
  const [release] = (await readdir(MODULES)).sort().reverse();
  const file = await readFile(join(MODULES, release ?? "", MODULE_PATH));
  silenceCalls(file, FREED_TOO_EARLY);
  const folder = await mkdtemp(join(tmpdir(), "hawser-lio-"));
  const path = join(folder, "iscsi_target_mod.ko");
  await writeFile(path, file);
  return { path, remove: () => rm(folder, { recursive: true, force: true }) };
}
