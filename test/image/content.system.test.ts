import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { describeNeeding } from "../support/needs.js";
import { type BuiltImage, builtImage, IMAGE_BUILD_TIMEOUT_MS, IMAGE_NEEDS } from "./built-image.js";
import { runContainer } from "./container.js";

interface Component {
  readonly name: string;
  readonly version: string;
  readonly purl: string;
  readonly licenses?: readonly object[];
}

/** Each program with arguments that make it do no more than name itself, and what it then says. */
const programs: readonly (readonly [command: string, says: RegExp])[] = [
  ["node --version", /^v24\./],
  ["nbdfuse --version", /^nbdfuse 1\./],
  ["fusermount3 --version", /fusermount3 version/],
  ["mkfs.ext4 -V", /mke2fs 1\./],
  ["e2fsck -V", /e2fsck 1\./],
  ["resize2fs", /resize2fs 1\./],
  ["mkfs.xfs -V", /mkfs.xfs version/],
  ["xfs_repair -V", /xfs_repair version/],
  ["xfs_growfs -V", /xfs_growfs version/],
  ["mkfs.btrfs --version", /mkfs.btrfs, part of btrfs-progs/],
  ["btrfs --version", /btrfs-progs/],
  ["blkid --version", /blkid from util-linux/],
  ["losetup --version", /losetup from util-linux/],
  ["setpriv --version", /setpriv from util-linux/],
  ["blockdev --version", /blockdev from util-linux/],
  ["mount --version", /mount from util-linux/],
  ["umount --version", /umount from util-linux/],
  ["modprobe --version", /kmod version/],
  ["dd --version", /dd \(coreutils\)/],
];

function* entriesBelow(folder: string): Generator<string> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    yield path;
    if (entry.isDirectory()) yield* entriesBelow(path);
  }
}

describeNeeding(IMAGE_NEEDS, "the image", () => {
  let image: BuiltImage;
  let paths: readonly string[];

  beforeAll(() => {
    image = builtImage();
    paths = [...entriesBelow(image.rootfs)].map((path) => `/${relative(image.rootfs, path)}`);
  }, IMAGE_BUILD_TIMEOUT_MS);

  const inside = (script: string): ReturnType<typeof runContainer> =>
    runContainer(image.rootfs, { args: ["sh", "-c", script], capabilities: [] });
  const text = (path: string): string => readFileSync(join(image.rootfs, path), "utf8");

  it("has both commands as its way in, and every program they start", async () => {
    const commands = ["hawser --help", "hawserctl --help", ...programs.map(([command]) => command)];
    const { output } = await inside(commands.map((command) => `echo "@ ${command}"; ${command} 2>&1`).join("\n"));
    const answers = new Map(
      output
        .split(/^@ /m)
        .slice(1)
        .map((part) => [part.slice(0, part.indexOf("\n")), part.slice(part.indexOf("\n") + 1)] as const),
    );
    expect(answers.get("hawser --help")).toContain("Usage: hawser [options] [command]");
    expect(answers.get("hawserctl --help")).toContain("Usage: hawserctl [options] [command]");
    for (const [command, says] of programs)
      expect([command, answers.get(command)]).toEqual([command, expect.stringMatching(says)]);
    expect(image.config.config).toMatchObject({ Entrypoint: ["hawser"], Cmd: ["--help"], User: "0:0" });
    expect(image.config.config.Labels).toMatchObject({
      "org.opencontainers.image.title": "hawser",
      "org.opencontainers.image.licenses": "Apache-2.0",
      "org.opencontainers.image.version": (JSON.parse(text("opt/hawser/package.json")) as { version: string }).version,
      "org.opencontainers.image.revision": expect.stringMatching(/^[0-9a-f]{40}/),
    });
  }, 60_000);

  it("loads its native modules, and runs without any capability on a read-only root", async () => {
    const modules = `import("@node-rs/crc32").then((m) => console.log(m.crc32c("123456789").toString(16)));
      import("koffi").then((m) => console.log(typeof m.default.load))`;
    const { output } = await inside(
      `id -u; grep CapEff /proc/self/status; touch /opt/hawser/x 2>&1; node --input-type=module -e '${modules}'`,
    );
    const lines = output.trim().split("\n");
    expect(lines.slice(0, 2)).toEqual(["0", "CapEff:\t0000000000000000"]);
    expect(lines[2]).toContain("Read-only file system");
    // The check value of CRC32C.
    expect(lines.slice(3).sort()).toEqual(["e3069283", "function"]);
  }, 60_000);

  it("has nothing that gives more rights, and nothing everybody may change", () => {
    const files = paths.map((path) => ({ path, stat: lstatSync(join(image.rootfs, path)) }));
    const modes = files.filter(({ stat }) => !stat.isSymbolicLink());
    expect(modes.filter(({ stat }) => (stat.mode & 0o6000) !== 0).map(({ path }) => path)).toEqual([]);
    expect(modes.filter(({ stat }) => (stat.mode & 0o1002) === 0o002).map(({ path }) => path)).toEqual([]);
    expect(files.filter(({ stat }) => stat.uid !== 0 || stat.gid !== 0).map(({ path }) => path)).toEqual([]);
    expect(files.filter(({ stat }) => stat.isBlockDevice() || stat.isCharacterDevice())).toEqual([]);
  });

  it("has no package manager, compiler, interpreter or paper that never runs", () => {
    const tools = /\/(npm|npx|yarn|corepack|apt|apt-get|python3?|perl|gcc|cc|make|passwd|chsh|newgrp)$/;
    expect(paths.filter((path) => path.includes("bin/") && tools.test(path))).toEqual([]);
    expect(paths.filter((path) => path.startsWith("/opt/") && /\.(map|ts|bare|cc|h)$/.test(path))).toEqual([]);
    expect(paths.filter((path) => /^\/(usr\/share\/(man|locale)|var\/(cache|log|lib\/apt))\//.test(path))).toEqual([]);
    const native = paths.filter((path) => path.endsWith(".node"));
    expect(native).toHaveLength(2);
    expect(native.filter((path) => !path.includes("linux") || path.includes("musl"))).toEqual([]);
  });

  it("lists all that is in it: each Debian package, Node.js, each npm package with its licence", () => {
    const sbom = JSON.parse(text("usr/share/hawser/sbom.cdx.json")) as { components: readonly Component[] };
    const listed = new Set(sbom.components.map(({ name, version }) => `${name} ${version}`));
    const debian = text("var/lib/dpkg/status")
      .split("\n\n")
      .filter((stanza) => stanza.trim() !== "")
      .map((stanza) => `${/^Package: (.*)$/m.exec(stanza)?.[1] ?? ""} ${/^Version: (.*)$/m.exec(stanza)?.[1] ?? ""}`);
    expect(debian.length).toBeGreaterThan(40);
    expect(debian.filter((one) => !listed.has(one))).toEqual([]);

    const manifests = paths.filter((path) => /\/node_modules\/(@[^/]+\/)?[^/@]+\/package\.json$/.test(path));
    const npm = manifests.map((path) => JSON.parse(text(path)) as { name: string; version: string });
    expect(npm.length).toBeGreaterThan(50);
    const npmListed = new Map(
      sbom.components.filter(({ purl }) => purl.startsWith("pkg:npm/")).map((one) => [one.purl, one]),
    );
    const absent = npm.filter(({ name, version }) => !npmListed.has(`pkg:npm/${name.replace("@", "%40")}@${version}`));
    expect(absent).toEqual([]);
    expect(
      [...npmListed.values()].filter(({ licenses = [] }) => licenses.length === 0).map(({ purl }) => purl),
    ).toEqual([]);
    expect([...listed].filter((one) => one.startsWith("node 24."))).toHaveLength(1);
    // No program without a package: what dpkg has a list of is also there.
    const unlisted = debian.filter(
      (one) => !paths.some((path) => path.startsWith(`/var/lib/dpkg/info/${one.split(" ")[0] ?? ""}`)),
    );
    expect(unlisted).toEqual([]);
  });
});
