import { readFile } from "node:fs/promises";
import type { Cluster, KubeObject } from "../scenarios/cluster.js";
import { PLANTED_LABEL, type PlantedSecret } from "../scenarios/scenario.js";
import { CanaryHunt, ProcessSampler } from "../../support/canary.js";

/** Folders of the node where the driver and the kubelet leave files: state, sockets, the logs of all containers. */
const SEARCHED_FOLDERS = ["/var/log/pods", "/var/lib/hawser", "/run/hawser"];
/** Two looks at every process in a tenth of a second would cost a small machine more than the scenarios themselves. */
const SAMPLE_INTERVAL_MS = 100;
const FOLDER_MARK = "\n=== file ";

export interface HuntResult {
  readonly found: readonly string[];
  readonly places: number;
  readonly bytes: number;
  readonly processes: number;
}

/**
 * Looks for the planted secrets in everything that the driver writes or passes on. A pod's log goes with the pod, so
 * look again after every scenario.
 */
export class SecretHunt {
  readonly #cluster: Cluster;
  readonly #secrets: PlantedSecret[] = [];
  readonly #found = new Set<string>();
  #sampler: ProcessSampler | undefined;
  #places = 0;
  #bytes = 0;
  #processes = 0;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** From now on the hunt looks for this one too, in processes as well. */
  plant(secret: PlantedSecret): void {
    this.#secrets.push(secret);
    this.#endSampler();
    const hunt = this.#hunt();
    this.#sampler = new ProcessSampler(() => [this.#cluster.description.sandboxPid], hunt, SAMPLE_INTERVAL_MS);
    this.#samplerHunt = hunt;
  }
  #samplerHunt: CanaryHunt | undefined;

  /** Looks at files, objects and the audit log as they are now. Does nothing while nothing is planted. */
  async sweep(): Promise<void> {
    if (this.#secrets.length === 0) return;
    const hunt = this.#hunt();
    await this.#lookAtFiles(hunt);
    await this.#lookAtObjects(hunt);
    hunt.look("the API server's audit log", await readFile(this.#cluster.description.auditLog, "latin1"));
    this.#collect(hunt);
  }

  /** Ends the hunt. */
  end(): HuntResult {
    this.#endSampler();
    return { found: [...this.#found], places: this.#places, bytes: this.#bytes, processes: this.#processes };
  }

  #hunt(): CanaryHunt {
    return new CanaryHunt(Object.fromEntries(this.#secrets.map(({ name, text }) => [name, text])));
  }

  #endSampler(): void {
    if (this.#sampler === undefined || this.#samplerHunt === undefined) return;
    this.#sampler.stop();
    this.#processes += this.#sampler.count;
    this.#collect(this.#samplerHunt);
    this.#sampler = undefined;
  }

  #collect(hunt: CanaryHunt): void {
    for (const place of hunt.found) this.#found.add(place);
    this.#places += hunt.searchedPlaces;
    this.#bytes += hunt.searchedBytes;
  }

  async #lookAtFiles(hunt: CanaryHunt): Promise<void> {
    const script = `find ${SEARCHED_FOLDERS.join(" ")} -type f 2>/dev/null | while read -r f; do echo; echo "${FOLDER_MARK.trim()} $f"; cat "$f"; done; true`;
    const text = await this.#cluster.host(["sh", "-c", script]);
    for (const part of text.split(FOLDER_MARK)) hunt.look(part.slice(0, part.indexOf("\n")), part);
  }

  async #lookAtObjects(hunt: CanaryHunt): Promise<void> {
    const types = (await this.#cluster.kubectl(["api-resources", "--verbs=list", "-o", "name"])).trim().split("\n");
    // A planted secret is in its Secret, and nowhere else.
    const searched = types.filter((type) => type !== "secrets");
    for (const type of searched) {
      hunt.look(`objects of ${type}`, await this.#cluster.kubectl(["get", type, "-A", "-o", "json"]));
    }
    const text = await this.#cluster.kubectl(["get", "secrets", "-A", "-o", "json"]);
    const { items } = JSON.parse(text) as { readonly items: readonly KubeObject[] };
    const isPlanted = ({ metadata }: KubeObject): boolean => metadata.labels?.[PLANTED_LABEL] === "true";
    hunt.look("other Secrets", JSON.stringify(items.filter((item) => !isPlanted(item))));
    const planted = items.filter(isPlanted);
    if (planted.length === 0) return;
    // A hunt that does not find them where they are proves nothing by finding them nowhere else.
    const check = this.#hunt();
    check.look("planted Secrets", JSON.stringify(planted));
    if (check.found.length === 0) throw new Error("the hunt for secrets does not even find the Secrets themselves");
  }
}
