import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { chapFromSecrets } from "../../src/csi/stage-secrets.js";
import { splitParameters } from "../../src/csi/volume-context.js";
import { parseStaticAttributes } from "../../src/storage/static-attributes.js";
import {
  asList,
  at,
  describeWithHelm,
  HELM_TIMEOUT_MS,
  helmProgram,
  type JsonMap,
  Rendered,
  textOf,
} from "../support/helm.js";

const run = promisify(execFile);
const root = join(__dirname, "..", "..");
const read = (path: string): string => readFileSync(join(root, path), "utf8");

describeWithHelm("deploy/kubernetes", () => {
  beforeAll(() => void helmProgram(), HELM_TIMEOUT_MS);

  it("is what the chart renders", async () => {
    await expect(run(join(root, "scripts", "render"), ["--check"])).resolves.toBeDefined();
  });

  it("is compared, so that a change of the chart alone is seen", async () => {
    const copy = mkdtempSync(join(tmpdir(), "hawser-render-"));
    try {
      for (const folder of ["charts", "deploy", "scripts"])
        cpSync(join(root, folder), join(copy, folder), { recursive: true });
      symlinkSync(join(root, ".cache"), join(copy, ".cache"));
      const values = join(copy, "charts", "hawser", "values.yaml");
      writeFileSync(values, readFileSync(values, "utf8").replace("clusterId: hawser", "clusterId: another"));
      const failure = await run(join(copy, "scripts", "render"), ["--check"]).then(
        () => "nothing",
        (error: unknown) => `${textOf((error as JsonMap)["stdout"])}${textOf((error as JsonMap)["stderr"])}`,
      );
      expect(failure).toContain("+            - --cluster-id=another");
      expect(failure).toContain("Run scripts/render and commit what it writes");
    } finally {
      rmSync(copy, { recursive: true, force: true });
    }
  });

  it.each(["hawser.yaml", "hawser-trial.yaml"])("%s has a namespace that admits its pods, and no hook", (file) => {
    const rendered = new Rendered(read(join("deploy", "kubernetes", file)));
    expect(rendered.at("Namespace/hawser", 'metadata.labels["pod-security.kubernetes.io/enforce"]')).toBe("privileged");
    expect(rendered.ofKind("Pod")).toEqual([]);
    expect(rendered.text).not.toContain("helm.sh/hook");
    expect(rendered.find("CSIDriver/csi.hawser.dev")).toBeDefined();
  });
});

it("has a kustomization whose files are there and whose image is theirs", () => {
  const folder = join("deploy", "kubernetes");
  const [kustomization] = new Rendered(read(join(folder, "kustomization.yaml"))).objects;
  const resources = asList(kustomization?.["resources"]).map(textOf);
  expect(resources).toEqual(["hawser.yaml"]);
  const text = resources.map((file) => read(join(folder, file))).join("");
  for (const image of asList(kustomization?.["images"])) {
    expect(text).toContain(`image: ${textOf(at(image, "name"))}:${textOf(at(image, "newTag"))}\n`);
  }
});

describe("deploy/examples", () => {
  const files = readdirSync(join(root, "deploy", "examples"));
  const examples = new Map(files.map((file) => [file, new Rendered(read(join("deploy", "examples", file)))]));
  const objects = [...examples.values()].flatMap((rendered) => rendered.objects);

  it("are there", () => {
    expect(files.sort()).toEqual([
      "pod.yaml",
      "raw-block.yaml",
      "rwx-block.yaml",
      "statefulset.yaml",
      "static-pv.yaml",
      "storageclass.yaml",
    ]);
    expect(
      objects.filter((object) => object["apiVersion"] === undefined || at(object, "metadata.name") === undefined),
    ).toEqual([]);
  });

  it("use the class of the examples, or none", () => {
    const claims = objects.flatMap((object) =>
      object["kind"] === "PersistentVolumeClaim"
        ? [object["spec"]]
        : ((at(object, "spec.volumeClaimTemplates") as readonly JsonMap[] | undefined) ?? []).map(
            (claim) => claim["spec"],
          ),
    );
    expect(claims.length).toBe(5);
    const [storageClass] = examples.get("storageclass.yaml")?.objects ?? [];
    const names = new Set(claims.map((claim) => at(claim, "storageClassName")));
    expect([...names].sort()).toEqual(["", at(storageClass, "metadata.name")]);
  });

  it("have parameters that the driver takes", () => {
    const parameters = examples.get("storageclass.yaml")?.at("StorageClass/hawser", "parameters") as Readonly<
      Record<string, string>
    >;
    // The provisioner keeps its own parameters to itself.
    const own = Object.fromEntries(
      Object.entries(parameters).filter(([name]) => !name.startsWith("csi.storage.k8s.io/")),
    );
    expect(splitParameters(own)).toMatchObject({
      backend: {},
      context: { headerDigest: "crc32c", dataDigest: "crc32c" },
    });
  });

  it("describe a LUN of an array that the driver takes, with CHAP in both directions", () => {
    const rendered = examples.get("static-pv.yaml");
    const attributes = rendered?.at("PersistentVolume/array-disk1", "spec.csi.volumeAttributes") as Readonly<
      Record<string, string>
    >;
    expect(parseStaticAttributes(attributes)).toMatchObject({
      portals: [
        { host: "192.0.2.10", port: 3260 },
        { host: "192.0.2.11", port: 3260 },
      ],
      targetName: "iqn.2001-05.com.example:disk1",
      lun: 0,
      deviceId: "naa.600140512345678901234567890abcde",
      isChapRequired: true,
    });
    const secret = rendered?.at("Secret/array-chap", "stringData") as Readonly<Record<string, string>>;
    expect(chapFromSecrets(secret)).toMatchObject({ user: "node", mutualUser: "array" });
  });
});
