import { execFile } from "node:child_process";
import { createServer as createHttpServer } from "node:http";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { apiServerProgram, KubeApiServer } from "../support/kube-apiserver.js";
import { describeNeeding } from "../support/needs.js";

const TOKEN = "canary-token-of-the-node-plugin";
const program = apiServerProgram();
const built = (path: string): string => pathToFileURL(join(process.cwd(), "dist", path)).href;

interface KubernetesEvent {
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly series?: { readonly count: number };
  readonly [field: string]: unknown;
}

describeNeeding(["etcd", program], "Kubernetes events at a real API server", () => {
  let server: KubeApiServer;
  const helpers: Server[] = [];
  const sockets = new Set<Socket>();

  beforeAll(async () => {
    server = await KubeApiServer.start(program, TOKEN);
    await server.call("POST", "/api/v1/namespaces", { metadata: { name: "apps" } });
  }, 120_000);
  afterAll(() => server.stop());
  // Also after a failure: whatever stays open keeps the whole run from ending.
  afterEach(async () => {
    const closed = helpers.splice(0).map((helper) => new Promise((resolve) => helper.close(resolve)));
    for (const socket of sockets) socket.destroy();
    await Promise.all(closed);
  });

  /** Serves a port until the test ends. Returns the port. */
  async function listen(helper: Server): Promise<number> {
    helpers.push(helper);
    helper.on("connection", (socket: Socket) => {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
    });
    await new Promise<void>((resolve) => helper.listen(0, "127.0.0.1", resolve));
    return (helper.address() as AddressInfo).port;
  }

  /** The program's own code in a process of its own, since Jest cannot load the client. */
  async function report(
    calls: string,
    options: object = {},
  ): Promise<{ readonly stdout: string; readonly all: string }> {
    const adapter = {
      ...{ server: server.url, caFile: server.caFile, tokenFile: server.tokenFile },
      ...{ reportingController: "csi.hawser.dev", reportingInstance: "worker-1", ...options },
    };
    const script = `
      import { KubernetesEvents } from ${JSON.stringify(built("csi/k8s-adapter.js"))};
      import { EventRecorder } from ${JSON.stringify(built("csi/events-recorder.js"))};
      import { SystemClock } from ${JSON.stringify(built("base/system-clock.js"))};
      import { SystemRandom } from ${JSON.stringify(built("base/system-random.js"))};
      import { createPinoLogger } from ${JSON.stringify(built("cli/pino-logger.js"))};
      const clock = new SystemClock();
      const api = new KubernetesEvents(${JSON.stringify(adapter)}, { clock });
      const logger = createPinoLogger({ name: "test", level: "trace" });
      const recorder = new EventRecorder({}, { api, clock, random: new SystemRandom(), logger });
      const pod = { kind: "Pod", namespace: "apps", name: "web-0", uid: "0b9c7a52-7c0b-4d5f-8a1e-6f1f6c1d2e3f" };
      const event = { regarding: pod, type: "Warning", reason: "VolumeUnreachable", action: "Connect", note: "no path" };
      const record = { ...event, name: "web-0." + Date.now().toString(16), namespace: "apps", timeMs: Date.now() };
      ${calls}`;
    const args = ["--input-type=module", "--eval", script];
    const { stdout, stderr } = await promisify(execFile)(process.execPath, args, { timeout: 60_000 });
    return { stdout, all: stdout + stderr };
  }

  const eventsIn = async (namespace: string): Promise<readonly KubernetesEvent[]> =>
    (
      (await server.call("GET", `/apis/events.k8s.io/v1/namespaces/${namespace}/events`)) as {
        items: KubernetesEvent[];
      }
    ).items;

  const allow = async (): Promise<void> => {
    const role = "/apis/rbac.authorization.k8s.io/v1";
    await server.call("POST", `${role}/clusterroles`, {
      metadata: { name: "events" },
      rules: [{ apiGroups: ["events.k8s.io"], resources: ["events"], verbs: ["create", "patch"] }],
    });
    await server.call("POST", `${role}/clusterrolebindings`, {
      metadata: { name: "events" },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "events" },
      subjects: [{ kind: "User", name: "node-plugin", apiGroup: "rbac.authorization.k8s.io" }],
    });
  };

  it("says what the account may not do, without its token", async () => {
    const { all } = await report(`recorder.report(event); await recorder.idle(); await recorder.close();`);
    expect(all).toContain("403 Forbidden");
    expect(all).not.toContain(TOKEN);
    expect(await eventsIn("apps")).toEqual([]);
  });

  it("makes an event and counts on, with no more than create and patch", async () => {
    await allow();
    await report(`
      recorder.report(event);
      await recorder.idle();
      for (let count = 0; count < 3; count += 1) recorder.report(event);
      await recorder.idle();
      recorder.report({ ...event, regarding: { kind: "Node", namespace: "", name: "worker-1", uid: "worker-1" } });
      const note = "\\u00e4".repeat(2_000);
      recorder.report({ ...event, reason: "VolumeFailed", note });
      recorder.report({ ...event, reason: "VolumeFailed", note });
      await recorder.idle();
      await recorder.close();`);
    const [counted, long] = await eventsIn("apps");
    expect(counted).toMatchObject({
      ...{ type: "Warning", reason: "VolumeUnreachable", action: "Connect", note: "no path" },
      ...{ reportingController: "csi.hawser.dev", reportingInstance: "worker-1", series: { count: 4 } },
      regarding: { apiVersion: "v1", kind: "Pod", namespace: "apps", name: "web-0" },
    });
    expect(long).toMatchObject({ reason: "VolumeFailed", series: { count: 2 } });
    expect(long?.["note"]).toMatch(/^ä{510}…$/);
    const ofNode = (await eventsIn("default")).filter((event) => event["reportingController"] === "csi.hawser.dev");
    expect(ofNode).toMatchObject([{ regarding: { kind: "Node", name: "worker-1", uid: "worker-1" } }]);
  });

  it("takes an event that exists for its own, and one that is gone for gone", async () => {
    const { stdout } = await report(`
      const tell = (outcome) => console.log(outcome.kind);
      tell(await api.create(record));
      tell(await api.create(record));
      tell(await api.setSeries({ ...record, name: "gone" }, { count: 2, lastTimeMs: Date.now() }));
      tell(await api.create({ ...record, namespace: "none", regarding: { ...pod, namespace: "none" } }));`);
    expect(stdout.trim().split("\n")).toEqual(["done", "done", "gone", "gone"]);
  });

  it("tries again later when the server is away, does not answer, or is not the right one", async () => {
    const port = await listen(createServer());
    const outcome = `const { kind, reason } = await api.create(record); console.log(kind, reason);`;
    const away = await report(outcome, { server: "https://127.0.0.1:1" });
    expect(away.stdout).toContain("retry the API server cannot be reached");
    const slow = await report(outcome, { server: `https://127.0.0.1:${port}`, timeoutMs: 500 });
    expect(slow.stdout).toContain("retry the API server did not answer within 500 ms");
    const stranger = await report(outcome, { caFile: "/etc/ssl/certs/ca-certificates.crt" });
    expect(stranger.stdout).toContain("retry the API server cannot be reached");
    const wrongToken = await report(outcome, { tokenFile: server.caFile });
    expect(wrongToken.stdout).toMatch(/^retry /);
  });

  it("goes through a proxy", async () => {
    const asked: string[] = [];
    const proxy = createHttpServer();
    proxy.on("connect", (request, socket) => {
      asked.push(request.url ?? "");
      const [host = "", port = ""] = (request.url ?? "").split(":");
      const upstream = connect(Number(port), host, () => {
        socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
        upstream.pipe(socket).pipe(upstream);
      });
      upstream.on("error", () => socket.destroy());
      socket.on("error", () => upstream.destroy());
    });
    const port = await listen(proxy);
    const { stdout } = await report(`console.log((await api.create(record)).kind);`, {
      proxyUrl: `http://127.0.0.1:${port}`,
    });
    expect(stdout.trim()).toBe("done");
    expect(asked).toEqual([server.url.replace("https://", "")]);
  });
});
