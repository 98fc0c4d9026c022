import {
  asList,
  at,
  containersOf,
  describeWithHelm,
  HELM_TIMEOUT_MS,
  helmProgram,
  type JsonMap,
  podsOf,
  render,
  type Rendered,
  textOf,
} from "../support/helm.js";

const everything: JsonMap = {
  "storage.enabled": true,
  "storageCapacity.enabled": true,
  "networkPolicy.enabled": true,
  "openshift.enabled": true,
  "sidecars.snapshotter.enabled": true,
  "sidecars.healthMonitor.enabled": true,
  "extraCaCerts.configMap": "own",
  storageClasses: [{ name: "block" }],
};

const settings: Readonly<Record<string, JsonMap>> = {
  "as installed": {},
  fuse: { "dataplane.device": "fuse" },
  auto: { "dataplane.device": "auto" },
  "built-in registration and probes": {
    "node.registrar.mode": "builtin",
    "node.livenessProbe.mode": "builtin",
    "controller.livenessProbe.mode": "builtin",
  },
  "without events": { "events.enabled": false },
  "trial storage in a claim": { "storage.enabled": true },
  "trial storage in a folder": { "storage.enabled": true, "storage.hostPath": "/srv/volumes" },
  everything,
};

/** Folders of the host that each workload may have, and no other. */
const HOST_FOLDERS: Readonly<Record<string, readonly string[]>> = {
  "DaemonSet/hawser-node": [
    "/dev",
    "/run/hawser",
    "/var/lib/hawser",
    "/var/lib/kubelet",
    "/var/lib/kubelet/plugins/csi.hawser.dev",
    "/var/lib/kubelet/plugins_registry",
  ],
  "DaemonSet/hawser-dataplane": ["/dev", "/lib/modules", "/run/hawser", "/var/lib/hawser"],
  "Deployment/hawser-controller": ["/srv/volumes"],
};

const PRIVILEGED = ["DaemonSet/hawser-dataplane hawser", "DaemonSet/hawser-node hawser"];

interface Place {
  readonly name: string;
  readonly container: JsonMap;
  readonly pod: JsonMap;
}

function containers(rendered: Rendered): readonly Place[] {
  return podsOf(rendered).flatMap((pod) =>
    containersOf(pod).map((container) => ({
      name: `${pod.owner} ${textOf(container["name"])}`,
      container,
      pod: pod.spec,
    })),
  );
}

/** The names of the containers that do not have a property. */
function without(rendered: Rendered, has: (place: Place) => boolean): readonly string[] {
  return containers(rendered)
    .filter((place) => !has(place))
    .map(({ name }) => name);
}

describeWithHelm("security of what is installed", () => {
  const rendered = new Map<string, Rendered>();
  const of = (title: string): Rendered => {
    const known = rendered.get(title);
    if (known === undefined) throw new Error(`${title} was not rendered`);
    return known;
  };

  beforeAll(async () => {
    helmProgram();
    for (const [title, values] of Object.entries(settings)) rendered.set(title, await render({ values }));
  }, HELM_TIMEOUT_MS);

  describe.each(Object.keys(settings))("%s", (title) => {
    it("shares no process table and no memory with the host, and its network for the dataplane alone", () => {
      const pods = podsOf(of(title));
      expect(pods.length).toBeGreaterThanOrEqual(3);
      expect(pods.filter(({ spec }) => spec["hostPID"] === true || spec["hostIPC"] === true)).toEqual([]);
      const inHostNetwork = pods.filter(({ spec }) => spec["hostNetwork"] === true).map(({ owner }) => owner);
      expect(inHostNetwork).toEqual(["DaemonSet/hawser-dataplane"]);
    });

    it("sees only the folders of the host that it needs", () => {
      for (const { owner, spec } of podsOf(of(title))) {
        const folders = asList(spec["volumes"]).map((volume) => at(volume, "hostPath.path"));
        const strange = folders.filter((path) => path !== undefined && !HOST_FOLDERS[owner]?.includes(textOf(path)));
        expect({ owner, strange }).toEqual({ owner, strange: [] });
      }
    });

    it("mounts every volume it names, and names every one it mounts", () => {
      for (const pod of podsOf(of(title))) {
        const named = asList(pod.spec["volumes"]).map((volume) => textOf(at(volume, "name")));
        const mounted = containersOf(pod).flatMap((item) =>
          asList(item["volumeMounts"]).map((mount) => textOf(at(mount, "name"))),
        );
        expect({ owner: pod.owner, volumes: [...new Set(mounted)].sort() }).toEqual({
          owner: pod.owner,
          volumes: named.sort(),
        });
      }
    });

    it("has a read-only root everywhere", () => {
      expect(
        without(of(title), ({ container }) => at(container, "securityContext.readOnlyRootFilesystem") === true),
      ).toEqual([]);
    });

    it("is privileged in two containers, which keep only named capabilities", () => {
      const privileged = containers(of(title)).filter(
        ({ container }) => at(container, "securityContext.privileged") === true,
      );
      expect(privileged.map(({ name }) => name).sort()).toEqual(PRIVILEGED);
      for (const { container } of privileged) {
        expect(at(container, "command{--bounding-set}")).toMatch(
          /^-all(,\+(sys_admin|sys_resource|dac_read_search|ipc_lock))+$/,
        );
        expect(asList(container["command"])).toEqual(expect.arrayContaining(["--inh-caps=-all", "--no-new-privs"]));
      }
    });

    it("drops every capability elsewhere, and gains none but the one that loads a module", () => {
      const others = containers(of(title)).filter(({ name }) => !PRIVILEGED.includes(name));
      for (const { name, container } of others) {
        const context = at(container, "securityContext");
        const added = name.endsWith(" load-nbd") ? ["SYS_MODULE"] : undefined;
        expect({ name, drop: at(context, "capabilities.drop"), add: at(context, "capabilities.add") }).toEqual({
          name,
          drop: ["ALL"],
          add: added,
        });
        expect({ name, gains: at(context, "allowPrivilegeEscalation") }).toEqual({ name, gains: false });
      }
    });

    it("has the runtime's seccomp profile in every pod", () => {
      const pods = podsOf(of(title));
      expect(pods.map(({ spec }) => at(spec, "securityContext.seccompProfile.type"))).toEqual(
        pods.map(() => "RuntimeDefault"),
      );
    });

    it("has the token of an account only where it is used", () => {
      const tokens = podsOf(of(title)).filter(({ spec }) => spec["automountServiceAccountToken"] !== false);
      const expected = [
        "Deployment/hawser-controller",
        ...(title === "without events" ? [] : ["DaemonSet/hawser-node"]),
      ];
      expect(tokens.map(({ owner }) => owner).sort()).toEqual(expected.sort());
    });

    it("asks for processor and memory everywhere", () => {
      const asks = (place: Place): boolean =>
        ["cpu", "memory"].every((name) => at(place.container, `resources.requests.${name}`) !== undefined);
      expect(without(of(title), asks)).toEqual([]);
    });

    it("names the version of every image", () => {
      const isPinned = ({ container }: Place): boolean =>
        /^[^:@]+(:\d+)?\/.+(:(?!latest)[^:/]+|@sha256:.+)$/.test(textOf(container["image"]));
      expect(without(of(title), isPinned)).toEqual([]);
    });

    it("has no secret in arguments or environment", () => {
      const text = containers(of(title))
        .map(({ container }) => JSON.stringify([container["args"], container["env"] ?? null]))
        .join("\n");
      expect(text).not.toMatch(/secretKeyRef|password|--[a-z-]*secret/i);
    });
  });

  it("runs the controller as nobody, except over a folder of the host", () => {
    const user = (title: string): unknown =>
      of(title).at("Deployment/hawser-controller", "spec.template.spec.securityContext");
    expect(user("as installed")).toMatchObject({ runAsNonRoot: true, runAsUser: 65532, fsGroup: 65532 });
    expect(user("trial storage in a claim")).toMatchObject({ runAsNonRoot: true, runAsUser: 65532 });
    expect(user("trial storage in a folder")).toMatchObject({ runAsNonRoot: false, runAsUser: 0 });
    expect(user("everything")).not.toHaveProperty("runAsUser");
  });

  it("propagates mounts from the node plugin, and from nobody else", () => {
    const propagating = containers(of("everything")).filter(({ container }) =>
      asList(container["volumeMounts"]).some((mount) => at(mount, "mountPropagation") !== undefined),
    );
    expect(propagating.map(({ name }) => name)).toEqual(["DaemonSet/hawser-node hawser"]);
    expect(
      of("everything").at(
        "DaemonSet/hawser-node",
        "spec.template.spec.containers[name=hawser].volumeMounts[name=kubelet].mountPropagation",
      ),
    ).toBe("Bidirectional");
  });

  it("never kills the dataplane for being busy", () => {
    for (const title of Object.keys(settings)) {
      const container = of(title).at("DaemonSet/hawser-dataplane", "spec.template.spec.containers[name=hawser]");
      expect(at(container, "livenessProbe")).toBeUndefined();
      expect(at(container, "startupProbe")).toBeUndefined();
    }
  });
});
