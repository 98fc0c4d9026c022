import { existsSync, mkdirSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { CLI_NEEDS, CliProcess, runCli, type CliResult } from "../support/cli-process.js";
import { HawserHost, HOST_NEEDS } from "../support/hawser-processes.js";
import { FakeKubelet } from "../support/kubelet.js";
import { describeNeeding } from "../support/needs.js";

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

interface Health {
  readonly status: number;
  readonly body: string;
}

async function ask(port: number, path: string): Promise<Health> {
  const answer = await fetch(`http://127.0.0.1:${port}${path}`);
  return { status: answer.status, body: await answer.text() };
}

/** Asks again until the status is this one: a process takes a moment. */
async function untilStatus(port: number, path: string, status: number): Promise<Health> {
  const deadlineMs = Date.now() + 20_000;
  for (;;) {
    const answer = await ask(port, path).catch(() => undefined);
    if (answer?.status === status) return answer;
    if (Date.now() > deadlineMs) throw new Error(`${path} does not become ${status}: ${JSON.stringify(answer)}`);
    await delay(50);
  }
}

/** What the processes offer a kubelet beside CSI. */
describeNeeding([...HOST_NEEDS, ...CLI_NEEDS], "in a pod", () => {
  let host: HawserHost;
  let ports: { readonly controller: number; readonly node: number; readonly dataplane: number };
  let registry: string;

  beforeAll(async () => {
    ports = { controller: await freePort(), node: await freePort(), dataplane: await freePort() };
    host = await HawserHost.start({
      controllerArgs: ["--backend", "static", "--health", `127.0.0.1:${ports.controller}`],
      dataplaneArgs: ["--health", `127.0.0.1:${ports.dataplane}`],
      nodeArgs: (directory) => {
        registry = join(directory, "registry");
        mkdirSync(registry);
        return [
          ...["--health", `127.0.0.1:${ports.node}`, "--kubelet-registration", registry],
          ...["--kubelet-endpoint", join(directory, "node.sock")],
        ];
      },
    });
  }, 60_000);
  afterAll(() => host.remove(), 60_000);

  it("every process says that it is alive and ready", async () => {
    for (const port of Object.values(ports)) {
      expect(await untilStatus(port, "/readyz", 200)).toMatchObject({ body: expect.stringContaining("ok") as string });
      expect((await ask(port, "/healthz")).status).toBe(200);
    }
  }, 60_000);

  it("the node is alive, not ready, and registered while the dataplane is late", async () => {
    await host.dataplane.kill();
    const ready = await untilStatus(ports.node, "/readyz", 500);
    expect(ready.body).toContain("Probe says not ready");
    expect((await ask(ports.node, "/healthz")).status).toBe(200);
    // What a kubelet does: it finds the socket, asks who is there, and calls NodeGetInfo at the endpoint.
    const kubelet = new FakeKubelet(join(registry, "csi.hawser.dev-reg.sock"));
    expect(await kubelet.getInfo()).toMatchObject({ name: "csi.hawser.dev", endpoint: host.socketPath("node") });
    expect((await host.call("node", "NodeGetInfo", {}, 1_000)).nodeId).not.toBe("");
    await kubelet.notify(true);
    kubelet.close();
    await host.dataplane.start();
    await untilStatus(ports.node, "/readyz", 200);
    await untilStatus(ports.dataplane, "/readyz", 200);
  }, 60_000);

  it("the node ends with an error when the kubelet refuses it, and registers again when it is started anew", async () => {
    const path = join(registry, "csi.hawser.dev-reg.sock");
    const kubelet = new FakeKubelet(path);
    await kubelet.notify(false, "the name is taken");
    kubelet.close();
    expect(await host.node.ended()).toBe(16);
    expect(host.node.log).toContain("the kubelet refuses the driver: the name is taken");
    expect(existsSync(path)).toBe(false);
    await host.node.start();
    await untilStatus(ports.node, "/readyz", 200);
    expect(existsSync(path)).toBe(true);
  }, 60_000);

  it("refuses half a registration, a folder no kubelet has, and an address it cannot have", async () => {
    const node = ["node", "--endpoint", `unix://${join(host.directory, "n.sock")}`, "--state-dir", host.stateDirectory];
    const half = await runCli("hawser", ...node, "--kubelet-registration", registry);
    expect(half).toMatchObject({ exitCode: 3, err: expect.stringContaining("REGISTRATION_INCOMPLETE") as string });
    const missing = ["--kubelet-registration", join(registry, "no"), "--kubelet-endpoint", "/csi.sock"];
    const nowhere = await runCli("hawser", ...node, ...missing);
    expect(nowhere).toMatchObject({ exitCode: 16, err: expect.stringContaining("plugins_registry") as string });
    const taken = await runCli("hawser", ...node, "--health", `127.0.0.1:${ports.node}`);
    expect(taken).toMatchObject({ exitCode: 3, err: expect.stringContaining("HEALTH_LISTEN_FAILED") as string });
    const wrong = await new CliProcess("hawser", [...node, "--health", "9808"]).end();
    expect(wrong).toMatchObject({ exitCode: 2, err: expect.stringContaining("[::]:9808") as string });
  }, 60_000);

  it("says at its start what is missing, and ends when nothing works without it", async () => {
    const folders = ["--state-dir", join(host.directory, "s2"), "--runtime-dir", join(host.directory, "r2")];
    const dataplane = ["dataplane", "--socket", join(host.directory, "d2.sock"), ...folders, "--backend", "fuse"];
    const cut = (capabilities: string, ...args: readonly string[]): Promise<CliResult> =>
      new CliProcess("hawser", args, ["setpriv", `--bounding-set=-all${capabilities}`, "--inh-caps=-all"]).end();
    const bare = await cut("", ...dataplane);
    expect(bare).toMatchObject({
      exitCode: 14,
      err: expect.stringContaining("CAP_SYS_ADMIN is missing and is not") as string,
    });
    const unprotected = await cut(",+sys_admin", ...dataplane, "--require-protections");
    expect(unprotected.exitCode).toBe(14);
    expect(unprotected.err).toContain(
      "CAP_SYS_RESOURCE is missing and is not in the bounding set either; add SYS_RESOURCE",
    );
    const node = ["node", "--endpoint", `unix://${join(host.directory, "n2.sock")}`, ...folders.slice(0, 2)];
    // The folder lies on a mount that a container without Bidirectional propagation has.
    const isolated = ["unshare", "--mount", "--propagation", "private"];
    const shut = await new CliProcess("hawser", [...node, "--kubelet-dir", host.directory], isolated).end();
    expect(shut).toMatchObject({
      exitCode: 14,
      err: expect.stringContaining("mountPropagation: Bidirectional") as string,
    });
  }, 60_000);

  it("accepts a kubelet's folder from which mounts reach the host", async () => {
    const node = [
      "node",
      "--endpoint",
      `unix://${join(host.directory, "n3.sock")}`,
      "--state-dir",
      host.stateDirectory,
    ];
    const open = new CliProcess(
      "hawser",
      [...node, "--kubelet-dir", host.directory],
      ["unshare", "--mount", "--propagation", "shared"],
    );
    await open.says(/serving CSI/);
    expect((await open.interrupt("SIGTERM")).exitCode).toBe(0);
  }, 60_000);
});
