import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import {
  asList,
  containersOf,
  describeWithHelm,
  HELM_TIMEOUT_MS,
  helmProgram,
  type JsonMap,
  podsOf,
  render,
  textOf,
} from "../support/helm.js";

const run = promisify(execFile);
const root = join(__dirname, "..", "..");

const settings: readonly JsonMap[] = [
  {},
  { "storage.enabled": true, "storageCapacity.enabled": true, "dataplane.device": "fuse" },
  {
    "node.registrar.mode": "builtin",
    "node.livenessProbe.mode": "builtin",
    "controller.livenessProbe.mode": "builtin",
    "sidecars.snapshotter.enabled": true,
    "sidecars.healthMonitor.enabled": true,
  },
];

/** Flags of sidecars, from the sources of the versions in values.yaml. */
const COMMON = ["--csi-address", "--v", "--timeout", "--leader-election", "--leader-election-namespace"];
const API = ["--kube-api-qps", "--kube-api-burst", "--http-endpoint"];
const SIDECAR_FLAGS: Readonly<Record<string, readonly string[]>> = {
  provisioner: [
    ...COMMON,
    ...API,
    "--worker-threads",
    "--default-fstype",
    "--extra-create-metadata",
    "--snapshot-orphan-sweep-interval",
    "--enable-capacity",
    "--capacity-ownerref-level",
    "--capacity-poll-interval",
  ],
  attacher: [...COMMON, ...API, "--worker-threads"],
  resizer: [...COMMON, ...API, "--workers", "--handle-volume-inuse-error"],
  snapshotter: [...COMMON, ...API, "--worker-threads", "--extra-create-metadata"],
  "health-monitor": [...COMMON, "--http-endpoint", "--worker-threads"],
  registrar: ["--csi-address", "--v", "--timeout", "--kubelet-registration-path", "--plugin-registration-path"],
  "liveness-probe": ["--csi-address", "--v", "--http-endpoint", "--probe-timeout"],
};

interface Call {
  readonly container: string;
  readonly args: readonly string[];
}

const COMMANDS = ["node", "controller", "dataplane"];

/** The flags of each command, asked of the sources in one process: starting one takes longer than the question. */
async function flagsOfCommands(): Promise<Readonly<Record<string, readonly string[]>>> {
  const program = [
    'import { createRuntime } from "./src/cli/runtime.ts";',
    ...COMMANDS.map((name) => `import { ${name}Command } from "./src/cli/commands/${name}.ts";`),
    "const runtime = createRuntime(process.cwd(), { endsWithOutput: true });",
    `const commands = { ${COMMANDS.map((name) => `${name}: ${name}Command(runtime)`).join(", ")} };`,
    "const flags = Object.entries(commands).map(([name, { options }]) => [name, options.map(({ long }) => long)]);",
    "process.stdout.write(JSON.stringify(Object.fromEntries(flags)));",
    "process.exit(0);",
  ].join("\n");
  const args = ["--import", "tsx", "--input-type=module", "--eval", program];
  const { stdout } = await run(process.execPath, args, { cwd: root });
  return JSON.parse(stdout) as Readonly<Record<string, readonly string[]>>;
}

const flagsIn = (args: readonly string[]): readonly string[] =>
  args.filter((arg) => arg.startsWith("--")).map((arg) => arg.replace(/=.*/s, ""));

describeWithHelm("arguments", () => {
  const calls: Call[] = [];
  let known: Readonly<Record<string, readonly string[]>> = {};

  beforeAll(async () => {
    helmProgram();
    known = await flagsOfCommands();
    for (const values of settings) {
      for (const pod of podsOf(await render({ values }))) {
        for (const container of containersOf(pod)) {
          calls.push({ container: textOf(container["name"]), args: asList(container["args"]).map(textOf) });
        }
      }
    }
  }, HELM_TIMEOUT_MS);

  it.each(COMMANDS)("hawser %s has every flag that the chart gives it", (command) => {
    const given = calls.filter(({ container, args }) => container === "hawser" && args[0] === command);
    expect(given.length).toBe(settings.length);
    const strange = given.flatMap(({ args }) => flagsIn(args)).filter((flag) => !known[command]?.includes(flag));
    expect([...new Set(strange)]).toEqual([]);
  });

  it.each(Object.entries(SIDECAR_FLAGS))("%s has every flag that the chart gives it", (name, known) => {
    const given = calls.filter(({ container }) => container === name);
    expect(given.length).toBeGreaterThan(0);
    const flags = [...new Set(given.flatMap(({ args }) => flagsIn(args)))];
    expect(flags.filter((flag) => !known.includes(flag))).toEqual([]);
    // And every flag of the table is used, so that the table stays true.
    const elsewhere = new Set(["--http-endpoint", "--leader-election", "--leader-election-namespace"]);
    expect(known.filter((flag) => !flags.includes(flag) && !elsewhere.has(flag))).toEqual([]);
  });

  it("gives no flag twice, except portals", () => {
    for (const { container, args } of calls) {
      const flags = flagsIn(args).filter((flag) => flag !== "--portal" && flag !== "--advertise");
      expect({ container, flags: [...flags] }).toEqual({ container, flags: [...new Set(flags)] });
    }
  });
});
