import { accessSync, constants, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type CommandOutcome,
  commandsOf,
  DocumentedCommand,
  documentationPages,
  flagsOf,
  readPage,
} from "../support/documented-commands.js";
import { describeNeeding } from "../support/needs.js";

/** The documentation's port, and what takes its place here: open targets, one with CHAP, one to start and stop. */
const DOCUMENTED_PORTAL = "127.0.0.1:3260";
const OPEN_PORTAL = "127.0.0.1:13500";
const CHAP_PORTAL = "127.0.0.1:13501";
const SPARE_PORTAL = "127.0.0.1:13502";
const START_TIMEOUT_MS = 30_000;

const HAWSER = ["dataplane", "node", "controller", "target", "all-in-one"];
const HAWSERCTL = ["discover", "luns", "nbd-serve", "volumes", "sessions", "connections", "paths", "bench", "selftest"];
/** Flags of other programs and of our scripts. */
const CLUSTER_FLAGS = [
  "--namespace",
  "--install",
  "--set",
  "--selector",
  "--field-selector",
  "--v",
  "--extra-create-metadata",
  "--volume-name-prefix",
  // kubectl and Kubernetes' e2e.test
  "--validate",
  "--kubeconfig",
  "--storage",
  "--ginkgo",
];
const OTHER_FLAGS = new Set([
  "--selectProjects",
  "--runInBand",
  "--testPathPatterns",
  "--list",
  "--help",
  ...CLUSTER_FLAGS,
]);

const TARGET = `node dist/main.js target --store memory --portal ${DOCUMENTED_PORTAL} --volume disk1=1Gi`;
const LUNS = `node dist/hawserctl.js luns --portal ${DOCUMENTED_PORTAL} --target iqn.2026-11.dev.hawser:disk1`;
const CHAP = "--chap-user node1 --chap-secret-file /root/chap-secret";
const MUTUAL = "--mutual-user array1 --mutual-secret-file /root/mutual-secret";
const DATAPLANE = "--dataplane /run/hawser/dataplane.sock";

let directory = "";

/** The command with this test's ports and files in place of the documented ones. */
function here(command: string, portal = OPEN_PORTAL): string {
  return command
    .replaceAll(DOCUMENTED_PORTAL, portal)
    .replaceAll("/run/hawser/", `${directory}/`)
    .replaceAll("/root/", `${directory}/`);
}

async function succeeding(command: string): Promise<CommandOutcome> {
  const outcome = await new DocumentedCommand(command).outcome();
  expect({ command, ...outcome }).toMatchObject({ exitCode: 0 });
  return outcome;
}

type Runner = (command: string) => Promise<void>;

const startsAndStops: Runner = async (command) => {
  const started = new DocumentedCommand(here(command, SPARE_PORTAL));
  try {
    await started.printed(/^listening on /m, START_TIMEOUT_MS);
  } finally {
    expect((await started.interrupt()).exitCode).toBe(0);
  }
};

const prints =
  (pattern: RegExp, options: { readonly portal?: string; readonly more?: string } = {}): Runner =>
  async (command) => {
    const more = options.more === undefined ? "" : ` ${options.more}`;
    expect((await succeeding(here(command, options.portal) + more)).stdout).toMatch(pattern);
  };

/** For commands about a volume that a dataplane without any does not have: it must be the dataplane that says so. */
const asksForVolume: Runner = async (command) => {
  const { exitCode, stderr } = await new DocumentedCommand(here(command)).outcome();
  expect({ exitCode, stderr }).toEqual({ exitCode: 15, stderr: expect.stringContaining("[VOLUME_NOT_FOUND]") });
};

const showsHelp: Runner = async (command) => {
  expect((await succeeding(command)).stdout).toMatch(/^Usage: /);
};

/** Scripts that run for minutes or install packages: they are there, and their help works. */
const isScript: Runner = async (command) => {
  const [script = "", ...flags] = command.split(" ");
  accessSync(join(process.cwd(), script), constants.X_OK);
  const { stdout } = await succeeding(`${script} --help`);
  for (const flag of flags) expect(stdout).toContain(flag);
};

/** A run of tests inside a test would run this one again: that it selects some is enough. */
const selectsTests: Runner = async (command) => {
  const { stdout } = await succeeding(`${command} --listTests`);
  expect(stdout.split("\n").filter((line) => /\.(?:test|manual)\.ts$/.test(line)).length).toBeGreaterThan(0);
};

const isPackageScript: Runner = (command) => {
  const { scripts } = JSON.parse(readFileSync("package.json", "utf8")) as { scripts: Record<string, string> };
  expect(Object.keys(scripts)).toContain(command.replace("npm run ", ""));
  return Promise.resolve();
};

/** What needs a cluster is run by the end-to-end tests: here, the files and values it names are there. */
const isForCluster: Runner = (command) => {
  for (const [path] of command.matchAll(/\b(charts|deploy)\/\S+/g)) accessSync(join(process.cwd(), path));
  const values = readPage("docs/values.md");
  for (const [, name = ""] of command.matchAll(/--set ([A-Za-z.]+)/g)) expect(values).toContain(`\`${name}\``);
  return Promise.resolve();
};

/** The commands of docs/install.md. */
const INSTALL = "helm upgrade --install hawser charts/hawser --namespace hawser";
const clusterCommands = [
  "kubectl create namespace hawser",
  "kubectl label namespace hawser pod-security.kubernetes.io/enforce=privileged",
  INSTALL,
  `${INSTALL} --set storage.enabled=true --set storageClasses[0].name=hawser`,
  "helm test hawser --namespace hawser",
  "kubectl apply -f deploy/kubernetes/hawser.yaml",
  "kubectl --namespace hawser delete pod --selector app.kubernetes.io/component=dataplane --field-selector spec.nodeName=worker-1",
  "helm uninstall hawser --namespace hawser",
];

/** How each command of the documentation is run here. A new one needs an entry. */
const runners: Readonly<Record<string, Runner>> = {
  "scripts/quickstart": isScript,
  "scripts/test": isScript,
  "scripts/bench --write": isScript,
  "scripts/image": isScript,
  "scripts/image --check": isScript,
  ...Object.fromEntries(clusterCommands.map((command) => [command, isForCluster])),
  "npx jest --selectProjects system --runInBand test/helm": selectsTests,
  "npx jest --selectProjects manual --runInBand": selectsTests,
  [TARGET]: startsAndStops,
  [`node dist/hawserctl.js discover --portal ${DOCUMENTED_PORTAL}`]: prints(/iqn\.2026-11\.dev\.hawser:disk1 .*13500/),
  [`node dist/hawserctl.js bench --portal ${DOCUMENTED_PORTAL} --target iqn.2026-11.dev.hawser:disk1 --rw randread --bs 4k`]:
    prints(/operations\s+[1-9]/i, { more: "--runtime 1" }),
  [LUNS]: prints(/1 GiB .*HAWSER.*naa\.3/),
  [`${LUNS} ${CHAP}`]: prints(/naa\.3/, { portal: CHAP_PORTAL }),
  [`${LUNS} ${CHAP} ${MUTUAL}`]: prints(/naa\.3/, { portal: CHAP_PORTAL }),
  [`node dist/hawserctl.js volumes ${DATAPLANE}`]: prints(/VOLUME +STATE +DEVICE/),
  [`node dist/hawserctl.js sessions ${DATAPLANE}`]: prints(/VOLUME +PORTAL +TARGET/),
  [`node dist/hawserctl.js sessions ${DATAPLANE} -o json`]: prints(/^\[\s*\]\s*$/),
  [`node dist/hawserctl.js connections ${DATAPLANE}`]: prints(/VOLUME +CID +PORTAL +LOCAL/),
  [`node dist/hawserctl.js paths pvc-1 ${DATAPLANE}`]: asksForVolume,
  ...Object.fromEntries(HAWSER.map((name) => [`node dist/main.js ${name} --help`, showsHelp])),
  "npm run build": isPackageScript,
  "npx jest test/unit/session": selectsTests,
  "npx jest --selectProjects system --runInBand --testPathPatterns volume-life": selectsTests,
  "npx jest --selectProjects system --runInBand --testPathPatterns test/kernel/nbd": selectsTests,
};

const documented = documentationPages().flatMap((page) =>
  commandsOf(readPage(page)).map((command) => ({ page, command })),
);

describe("the table of documented commands", () => {
  it("knows every command of the documentation", () => {
    expect(documented.length).toBeGreaterThan(15);
    expect(documented.filter(({ command }) => !(command in runners))).toEqual([]);
  });

  it("has no entry for a command that is documented no more", () => {
    const commands = new Set(documented.map(({ command }) => command));
    expect(Object.keys(runners).filter((command) => !commands.has(command))).toEqual([]);
  });

  it("finds commands in fenced blocks alone", () => {
    const page = "a `b`\n\n```\n# why\nnode x \\\n  --y &\n\n$ z\n```\n\n```json\n{}\n```\n";
    expect(commandsOf(page)).toEqual(["node x --y", "z"]);
  });
});

describeNeeding([join(process.cwd(), "dist", "main.js")], "documented commands, run", () => {
  const running: DocumentedCommand[] = [];

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "hawser-docs-"));
    writeFileSync(join(directory, "chap-secret"), "one-way-secret-1\n", { mode: 0o600 });
    writeFileSync(join(directory, "mutual-secret"), "other-way-secret\n", { mode: 0o600 });
    const folders = `--state-dir ${directory}/state --runtime-dir ${directory}/run --node-name docs`;
    const dataplane = new DocumentedCommand(
      `node dist/main.js dataplane --socket ${directory}/dataplane.sock ${folders}`,
    );
    const open = new DocumentedCommand(here(TARGET));
    const withChap = new DocumentedCommand(here(`${TARGET} ${CHAP} ${MUTUAL}`, CHAP_PORTAL));
    running.push(dataplane, open, withChap);
    await dataplane.printed(/dataplane is ready/, START_TIMEOUT_MS);
    for (const target of [open, withChap]) await target.printed(/^listening on /m, START_TIMEOUT_MS);
  }, 2 * START_TIMEOUT_MS);

  afterAll(async () => {
    await Promise.all(running.map((command) => command.interrupt()));
    rmSync(directory, { recursive: true, force: true });
  }, START_TIMEOUT_MS);

  const commands = [...new Set(documented.map(({ command }) => command))];
  it.each(commands)(
    "%s",
    async (command) => {
      const run = runners[command];
      if (run === undefined) throw new Error("no entry in the table says how to run it");
      await run(command);
    },
    60_000,
  );

  it("refuses the wrong secret, so that the commands with CHAP prove something", async () => {
    const command = here(`${LUNS} --chap-user node1 --chap-secret-file /root/mutual-secret`, CHAP_PORTAL);
    const { exitCode, stderr } = await new DocumentedCommand(command).outcome();
    expect(exitCode).toBe(11);
    expect(stderr).toContain("[LOGIN_AUTHENTICATION_FAILED]");
  });

  it("names only flags that exist", async () => {
    const helps = await Promise.all([
      ...HAWSER.map((name) => succeeding(`node dist/main.js ${name} --help`)),
      ...[...HAWSERCTL, "paths set-path"].map((name) => succeeding(`node dist/hawserctl.js ${name} --help`)),
      ...["quickstart", "test", "bench", "image", "e2e", "traps", "coverage", "paths"].map((name) =>
        succeeding(`scripts/${name} --help`),
      ),
      succeeding("npm run --silent sim -- --help"),
    ]);
    const known = new Set(helps.flatMap(({ stdout }) => stdout.match(/--[a-z][a-z-]*/g) ?? []));
    const strange = documentationPages().flatMap((page) =>
      flagsOf(readPage(page))
        .filter((flag) => !known.has(flag) && !OTHER_FLAGS.has(flag))
        .map((flag) => `${page}: ${flag}`),
    );
    expect(strange).toEqual([]);
  }, 120_000);
});
