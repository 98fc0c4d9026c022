import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ExitCode } from "../../src/cli/exit-codes.js";

const root = join(__dirname, "..", "..");
const read = (path: string): string => readFileSync(join(root, path), "utf8");
const filesBelow = (folder: string, ending: string): string[] =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(ending))
    .map((path) => join(folder, path));

/** Literals that look like error codes and are none: names of text keys, of CSI, of capabilities, of the environment. */
const otherNames = [
  /^CHAP_[ACINR]$/,
  /^SRP_(GROUP|HM|[ABMNU])$/,
  /^KRB_AP_(REQ|REP)$/,
  /^HAWSER_[A-Z_]+$/,
  /^(HTTPS_PROXY|NO_PROXY|KUBERNETES_SERVICE_(HOST|PORT))$/,
  /^(SYS_ADMIN|SYS_RESOURCE|IPC_LOCK|DAC_READ_SEARCH)$/,
  /^(SINGLE|MULTI)_NODE_[A-Z_]+$/,
  /^(CONTROLLER_SERVICE|CREATE_DELETE_VOLUME|EXPAND_VOLUME|STAGE_UNSTAGE_VOLUME|PUBLISH_(READONLY|UNPUBLISH_VOLUME))$/,
  /^(LIST_VOLUMES|LIST_VOLUMES_PUBLISHED_NODES|GET_(CAPACITY|VOLUME|VOLUME_STATS|VOLUME_HEALTH))$/,
];

/** Every code that a source text can raise: by its shape, and one-word codes by where they stand. */
function codesIn(source: string): string[] {
  const shaped = [...source.matchAll(/"([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)"/g)].map((match) => match[1] ?? "");
  const oneWord = [...source.matchAll(/Error\(\s*(?:"[a-z]+",\s*)?"([A-Z]{3,})"/g)].map((match) => match[1] ?? "");
  // `HOST_${errno ?? "…"}`: the second half of a code.
  const halves = new Set([...source.matchAll(/`HOST_\$\{[^}]*"([A-Z_]+)"\}`/g)].map((match) => match[1] ?? ""));
  return [...shaped, ...oneWord]
    .filter((code) => !otherNames.some((name) => name.test(code)))
    .map((code) => (halves.has(code) ? `HOST_${code}` : code));
}

const STATUS_MAP = "src/csi/status-map.ts";
const sources = filesBelow("src", ".ts").map((path) => ({ path, text: read(path) }));
const raised = new Set(sources.filter(({ path }) => path !== STATUS_MAP).flatMap(({ text }) => codesIn(text)));
const page = read("docs/troubleshooting.md");
const named = new Set([...page.matchAll(/`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)`/g)].map((match) => match[1] ?? ""));
/** The codes that have a row of their own, or are in the text about system calls. */
const explained = new Set(
  page
    .slice(page.indexOf("## Error codes"))
    .split("\n")
    .flatMap((line) => {
      const place = line.startsWith("|")
        ? (line.split("|")[1] ?? "")
        : line.startsWith("Failed system calls")
          ? line
          : "";
      return [...place.matchAll(/`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)`/g)].map((match) => match[1] ?? "");
    }),
);

describe("docs/troubleshooting.md", () => {
  it("explains every error code", () => {
    expect(raised.size).toBeGreaterThan(200);
    expect([...raised].filter((code) => !explained.has(code)).sort()).toEqual([]);
  });

  it("names no code that does not exist", () => {
    const known = (code: string): boolean => raised.has(code) || otherNames.some((name) => name.test(code));
    expect([...named].filter((code) => !known(code)).sort()).toEqual([]);
  });

  it("explains every code once", () => {
    const rows: readonly string[] = page.slice(page.indexOf("## Error codes")).match(/^\| `[A-Z0-9_]+`/gm) ?? [];
    expect(rows.filter((row, index) => rows.indexOf(row) !== index)).toEqual([]);
  });

  it("lists every exit code", () => {
    const table = page.slice(page.indexOf("## Exit codes"), page.indexOf("## First look"));
    const listed = [...table.matchAll(/^\| (\d+) \|/gm)].map((match) => Number(match[1]));
    expect(listed).toEqual(Object.values(ExitCode));
  });
});

it("maps only codes that exist to gRPC statuses", () => {
  const text = read(STATUS_MAP);
  const table = text.slice(text.indexOf("const byCode"), text.indexOf("};", text.indexOf("const byCode")));
  const keys = [...table.matchAll(/^ {2}([A-Z][A-Z0-9_]+):/gm)].map((match) => match[1] ?? "");
  expect(keys.length).toBeGreaterThan(30);
  expect(keys.filter((key) => !raised.has(key))).toEqual([]);
});

it("sees the shapes in which codes are raised", () => {
  const source = [
    'new AppError("cli", "ABC_DEF", "x")',
    'new StorageError(\n  isFull ? "GHI_JKL" : "MNO_PQR",',
    '| "STU_VWX"',
    'new CancelledError("cli", "YZA", "x")',
    'new HostError(`HOST_${errorCode(error) ?? "BCD_EFG"}`, "x")',
    'keys.get("CHAP_A")',
  ].join("\n");
  expect(codesIn(source).sort()).toEqual(["ABC_DEF", "GHI_JKL", "HOST_BCD_EFG", "MNO_PQR", "STU_VWX", "YZA"]);
});

it("links to headings that exist", () => {
  const pages = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", ...filesBelow("docs", ".md")];
  const anchorsOf = (text: string): string[] =>
    [...text.matchAll(/^#+ (.+)$/gm)].map((match) =>
      (match[1] ?? "")
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, "")
        .replaceAll(" ", "-"),
    );
  const broken = pages.flatMap((path) =>
    [...read(path).matchAll(/\]\(([^)#:]*)#([^)]+)\)/g)]
      .filter(([, file = "", anchor = ""]) => {
        const target = file === "" ? path : join(path, "..", file);
        return !anchorsOf(read(target)).includes(anchor);
      })
      .map((match) => `${path}: ${match[0]}`),
  );
  expect(broken).toEqual([]);
});
