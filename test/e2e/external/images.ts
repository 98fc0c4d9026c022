import { busyboxImage, importImages, writeLocalImage } from "../cluster/images.js";
import { progress, run } from "../cluster/process.js";
import { ensureClusterPrograms } from "../cluster/programs.js";
import type { SuitePrograms } from "./programs.js";

const REPOSITORY = "registry.k8s.io/e2e-test-images";

/**
 * Makes the images that storage tests start, by the names the suite asks for, and imports them into the cluster: no
 * registry is needed. agnhost gets busybox beside it for its shell and for nsenter.
 */
export async function importSuiteImages(programs: SuitePrograms): Promise<void> {
  const wanted = (await run(programs.e2e, ["--list-images"])).split("\n").map((line) => line.trim());
  const named = (name: string): string[] =>
    wanted.filter((reference) => reference.startsWith(`${REPOSITORY}/${name}:`));
  // The storage tests start the other two for their shell alone.
  const busybox = await busyboxImage(["busybox", "glibc-dns-testing", "nginx"].flatMap(named));
  const agnhost = {
    ...busybox,
    references: named("agnhost"),
    files: { ...busybox.files, [programs.agnhost]: "/agnhost" },
    entrypoint: ["/agnhost"],
    command: ["pause"],
  };
  const archives = [...(await writeLocalImage(busybox)), ...(await writeLocalImage(agnhost))];
  await importImages(await ensureClusterPrograms(), archives);
  progress(`imported ${archives.length} images of the suite`);
}
