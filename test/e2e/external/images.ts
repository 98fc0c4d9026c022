import { join } from "node:path";
import { busyboxImage, importImages, WORKLOAD_REFERENCE, writeLocalImage } from "../cluster/images.js";
import { CONTAINERD_SOCKET, PATHS } from "../cluster/layout.js";
import { progress, run } from "../cluster/process.js";
import { ensureClusterPrograms } from "../cluster/programs.js";
import type { SuitePrograms } from "./programs.js";

const REPOSITORY = "registry.k8s.io/e2e-test-images";

/**
 * Makes the images that storage tests start, by the names the suite asks for, and imports them into the cluster: no
 * registry is needed. Storage tests want a shell and the usual programs of nginx, GNU's programs of glibc-dns-testing,
 * and of agnhost its own program, a shell and nsenter.
 */
export async function importSuiteImages(programs: SuitePrograms): Promise<void> {
  const wanted = (await run(programs.e2e, ["--list-images"])).split("\n").map((line) => line.trim());
  const named = (name: string): string[] =>
    wanted.filter((reference) => reference.startsWith(`${REPOSITORY}/${name}:`));
  const busybox = await busyboxImage(["busybox", "nginx"].flatMap(named));
  const agnhost = {
    ...busybox,
    references: named("agnhost"),
    files: { ...busybox.files, [programs.agnhost]: "/agnhost" },
    entrypoint: ["/agnhost"],
    command: ["pause"],
  };
  const archives = [...(await writeLocalImage(busybox)), ...(await writeLocalImage(agnhost))];
  const cluster = await ensureClusterPrograms();
  await importImages(cluster, archives);
  const ctr = [join(cluster.containerd, "ctr"), "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io"];
  // The scenarios' image is a Debian, too.
  const debian = named("glibc-dns-testing");
  await run(PATHS.enter, [...ctr, "images", "tag", "--force", WORKLOAD_REFERENCE, ...debian]);
  progress(`${archives.length + debian.length} images of the suite are in the cluster`);
}
