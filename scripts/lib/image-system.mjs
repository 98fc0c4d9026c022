// Reduces a Debian system to what the image's programs need, and makes two builds of it equal:
// `node image-system.mjs ROOT`. Packages go with their files and their entry in dpkg's database, so that what the
// database says (and the SBOM and scanners read) stays true. Their maintainer scripts are not run: those serve systems
// that go on living, and some need the very programs that go.
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync, realpathSync, rmdirSync } from "node:fs";
import { chmodSync, chownSync, openSync, readSync, closeSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const root = process.argv[2];
if (root === undefined || !existsSync(join(root, "var/lib/dpkg/status"))) {
  console.error(`error: ${root ?? "no folder given"} has no dpkg database: give the root of a Debian system`);
  process.exit(1);
}

/** What is there for its own sake; what these depend on stays too. */
const wanted = [
  // The programs Hawser starts.
  ...["libnbd-bin", "fuse3", "e2fsprogs", "xfsprogs", "btrfs-progs", "util-linux", "mount", "kmod", "coreutils"],
  // What Node.js is linked with.
  ...["libc6", "libstdc++6", "libgcc-s1", "libatomic1"],
  // A shell with the usual tools, users and folders, and the record of what is installed.
  ...["dash", "grep", "sed", "base-files", "base-passwd", "dpkg"],
];

/** Dependencies that serve no program of ours: package -> what it asks for. */
const notNeeded = {
  // Only xfs_scrub_all is written in Python.
  xfsprogs: ["python3"],
  // Makes a group for users who are not root.
  fuse3: ["adduser"],
  // Questions at installation time.
  "*": ["debconf", "debconf-2.0", "cdebconf"],
};

/** Generated, or of no use without a person or a package manager. */
const uselessPaths = [
  ...["usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian", "usr/share/bash-completion"],
  ...["usr/share/zsh", "usr/share/bug", "usr/share/doc-base", "usr/share/menu", "usr/share/pixmaps"],
  ...["usr/share/initramfs-tools", "usr/share/python3", "usr/lib/python3", "usr/lib/systemd/system"],
  ...["lib/systemd/system", "etc/apt", "etc/cron.d", "etc/cron.daily", "etc/init.d", "etc/python3"],
  ...["var/lib/apt", "var/lib/systemd", "var/lib/ucf", "var/lib/python", "var/lib/pam", "var/cache", "var/log"],
  ...["var/lib/dpkg/status-old", "var/lib/dpkg/available-old", "var/lib/dpkg/diversions-old"],
  ...["var/lib/dpkg/statoverride-old", "var/lib/dpkg/lock", "var/lib/dpkg/lock-frontend", "var/lib/dpkg/triggers"],
  ...["var/backups", "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/.pwd.lock", "etc/subuid-"],
  ...["etc/subgid-", "etc/ssl/certs", "root/.npm", "root/.cache", "root/.bashrc", "usr/share/debconf"],
  // Node.js without its package managers, headers and papers but the licence.
  ...["usr/local/lib/node_modules", "usr/local/bin/npm", "usr/local/bin/npx", "usr/local/bin/corepack"],
  ...["usr/local/bin/yarn", "usr/local/bin/yarnpkg", "usr/local/bin/docker-entrypoint.sh", "usr/local/include"],
  ...["usr/local/share/doc", "usr/local/share/man", "usr/local/man", "usr/local/CHANGELOG.md", "usr/local/README.md"],
];

const at = (path) => join(root, path);

function readDatabase() {
  return readFileSync(at("var/lib/dpkg/status"), "utf8")
    .split(/\n\n+/)
    .filter((stanza) => stanza.trim() !== "")
    .map((stanza) => {
      const field = (name) => new RegExp(`^${name}: (.*)$`, "m").exec(stanza)?.[1] ?? "";
      const names = (text) =>
        text
          .split(/[,|]/)
          .map((part) => part.trim().replace(/[ :(].*$/, ""))
          .filter((name) => name !== "");
      return {
        stanza,
        name: field("Package"),
        architecture: field("Architecture"),
        provides: names(field("Provides")),
        depends: names(`${field("Pre-Depends")},${field("Depends")}`),
      };
    });
}

function closure(packages) {
  const kept = new Set();
  const visit = (name) => {
    for (const one of packages.filter(({ name: own, provides }) => own === name || provides.includes(name))) {
      if (kept.has(one)) continue;
      kept.add(one);
      const cut = [...(notNeeded[one.name] ?? []), ...notNeeded["*"]];
      one.depends.filter((dependency) => !cut.includes(dependency)).forEach(visit);
    }
  };
  wanted.forEach(visit);
  return kept;
}

const infoFolder = at("var/lib/dpkg/info");

/** Files of dpkg about a package: `NAME.*`, or `NAME:ARCH.*` where several architectures may be installed. */
function infoFiles({ name, architecture }) {
  return readdirSync(infoFolder).filter((file) => {
    const owner = file.slice(0, file.lastIndexOf("."));
    return owner === name || owner === `${name}:${architecture}`;
  });
}

/** Paths of a package as they are on disk: /bin and the like are links into /usr. */
function ownPaths(one) {
  const list = infoFiles(one).find((file) => file.endsWith(".list"));
  if (list === undefined) return [];
  return readFileSync(join(infoFolder, list), "utf8")
    .split("\n")
    .filter((path) => path !== "" && path !== "/.")
    .map(resolve);
}

function resolve(path) {
  try {
    return join(realpathSync(at(dirname(path))), path.slice(path.lastIndexOf("/") + 1));
  } catch {
    return at(path);
  }
}

function statOf(path) {
  return lstatSync(path, { throwIfNoEntry: false });
}

function removeIfEmpty(path) {
  if (statOf(path)?.isDirectory() && readdirSync(path).length === 0) rmdirSync(path);
}

function removePackages(removed, kept) {
  const shared = new Set([...kept].flatMap(ownPaths));
  const folders = new Set();
  for (const one of removed) {
    for (const path of ownPaths(one)) {
      // /bin, /lib and the like are links that belong to no package alone.
      if (shared.has(path) || dirname(path) === root) continue;
      if (statOf(path)?.isDirectory()) folders.add(path);
      else rmSync(path, { force: true });
    }
    for (const file of infoFiles(one)) rmSync(join(infoFolder, file));
  }
  [...folders].sort((a, b) => b.length - a.length).forEach(removeIfEmpty);
  const stanzas = [...kept].map(({ stanza }) => stanza.trim()).sort();
  writeFileSync(at("var/lib/dpkg/status"), `${stanzas.join("\n\n")}\n\n`);
}

/** Every file and folder below a folder, deepest first; /proc and the like belong to the build. */
function* walk(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (/^(proc|sys|dev|build|run|tmp)$/.test(path.slice(root.length).replace(/^\//, ""))) continue;
    if (entry.isDirectory()) yield* walk(path);
    yield path;
  }
}

/** Interpreter of a script, or undefined. */
function interpreter(path) {
  const start = Buffer.alloc(128);
  const file = openSync(path, "r");
  try {
    readSync(file, start, 0, start.length, 0);
  } finally {
    closeSync(file);
  }
  return /^#! *(\/\S+)(?: (\S+))?/.exec(start.toString("latin1"))?.slice(1, 3);
}

function canRun([program, argument]) {
  if (program !== "/usr/bin/env") return existsSync(at(program));
  return ["usr/local/bin", "usr/bin", "bin", "usr/sbin", "sbin"].some((folder) =>
    existsSync(at(`${folder}/${argument}`)),
  );
}

/** Scripts whose interpreter went, and links to what went. */
function removeBroken() {
  for (const path of walk(root)) {
    const stat = statOf(path);
    if (stat?.isSymbolicLink() && /\/(alternatives|s?bin|rc[0-9S]\.d)\//.test(path)) {
      const target = readlinkSync(path);
      if (!existsSync(target.startsWith("/") ? at(target) : join(dirname(path), target))) rmSync(path);
    } else if (stat?.isFile() && (stat.mode & 0o111) !== 0 && /\/s?bin\//.test(path)) {
      const script = interpreter(path);
      if (script !== undefined && !canRun(script)) rmSync(path);
    } else if (stat?.isDirectory() && path.endsWith("__pycache__")) rmSync(path, { recursive: true });
  }
}

/** Papers of packages but their copyright, which has to travel with the programs. */
function removePapers() {
  for (const path of walk(at("usr/share/doc"))) {
    const stat = statOf(path);
    if (stat?.isDirectory()) removeIfEmpty(path);
    else if (!path.endsWith("/copyright")) rmSync(path);
  }
}

/** Nobody but root is in the container: no program needs a set-user-id bit, and only /tmp is for all to write. */
function normaliseModes() {
  for (const path of walk(root)) {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined || statOf(path)?.isSymbolicLink()) continue;
    const mode = stat.mode & 0o1777 & ~0o002;
    if (stat.uid !== 0 || stat.gid !== 0) chownSync(path, 0, 0);
    if (mode !== (stat.mode & 0o7777)) chmodSync(path, path === at("var/tmp") ? 0o1777 : mode);
  }
}

const packages = readDatabase();
const kept = closure(packages);
const missing = wanted.filter((name) => ![...kept].some((one) => one.name === name) && name !== "libatomic1");
if (missing.length > 0) {
  console.error(`error: packages that the image needs are not installed: ${missing.join(", ")}; install them first`);
  process.exit(1);
}
removePackages(
  packages.filter((one) => !kept.has(one)),
  kept,
);
for (const path of uselessPaths) rmSync(at(path), { recursive: true, force: true });
// What Python compiled at installation is in no package's list.
for (const entry of readdirSync(at("usr/lib"))) {
  if (/^python3/.test(entry) && !existsSync(at("usr/bin/python3"))) rmSync(at(`usr/lib/${entry}`), { recursive: true });
}
for (const entry of readdirSync(at("opt")))
  if (entry.startsWith("yarn")) rmSync(at(`opt/${entry}`), { recursive: true });
removeBroken();
removePapers();
// The day a password was last changed is the day of the build.
if (existsSync(at("etc/shadow"))) {
  const shadow = readFileSync(at("etc/shadow"), "utf8").replace(/^([^:\n]*:[^:\n]*):[0-9]+:/gm, "$1:1:");
  writeFileSync(at("etc/shadow"), shadow, { mode: 0o600 });
}
writeFileSync(at("etc/machine-id"), "");
normaliseModes();
console.log(`kept ${kept.size} of ${packages.length} Debian packages`);
