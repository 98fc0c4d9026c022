/**
 * The layer rule: a folder of src may import itself and folders of lower rank, never a sibling of its own rank.
 * base → wire, scsi, host → login → transport → session → discovery, block → multipath → nbd → initiator, target
 *   → dataplane, storage → csi → cli → main
 */
const ranks = [
  ["base"],
  ["wire", "scsi", "host"],
  ["login"],
  ["transport"],
  ["session"],
  ["discovery", "block"],
  ["multipath"],
  ["nbd"],
  ["initiator", "target"],
  ["dataplane", "storage"],
  ["csi"],
  ["cli"],
];

const layerRules = ranks.flatMap((siblings, rank) =>
  siblings.map((layer) => {
    const allowed = [layer, ...ranks.slice(0, rank).flat(), ...(layer === "cli" ? ["config"] : [])];
    return {
      name: `layer-${layer}`,
      severity: "error",
      from: { path: `^src/${layer}/` },
      to: { path: "^src/", pathNot: `^src/(${allowed.join("|")})/` },
    };
  }),
);

/** Layers that must not see more than their contract, beyond the plain order. */
const narrowRules = [
  { name: "config-only-base", from: { path: "^src/config/" }, to: { path: "^src/", pathNot: "^src/(config|base)/" } },
  {
    name: "multipath-sees-devices-only",
    from: { path: "^src/multipath/" },
    to: { path: "^src/", pathNot: "^src/(multipath|base|block/device|scsi/alua)" },
  },
  {
    name: "target-shares-little",
    from: { path: "^src/target/" },
    to: {
      path: "^src/",
      pathNot: "^src/(target|base|wire|scsi|transport|block)/|^src/login/(negotiate|keys|parameters|chap-algorithms)",
    },
  },
  {
    name: "csi-reaches-storage-through-clients",
    from: { path: "^src/csi/" },
    to: { path: "^src/(wire|login|transport|session|discovery|block|multipath|nbd|initiator|target)/" },
  },
].map((rule) => ({ severity: "error", ...rule }));

/** Packages and node modules with a single owner. */
const ownerRules = [
  ["koffi", "^src/host/ffi"],
  ["@grpc/", "^src/(csi|dataplane|storage|cli)/"],
  ["pino", "^src/cli/"],
  ["commander", "^src/cli/"],
  ["@node-rs/crc32", "^src/wire/crc32c"],
  ["@kubernetes/client-node", "^src/csi/k8s-adapter"],
].map(([name, owner]) => ({
  name: `owner-of-${name.replace(/\W/g, "-")}`,
  severity: "error",
  from: { path: "^src/", pathNot: owner },
  to: { path: `node_modules/${name}` },
}));

const coreModuleRules = [
  ["child_process", "^src/(host/exec|cli/)"],
  ["(net|tls)", "^src/(transport|cli)/"],
  ["(http|https|http2)", "^src/cli/health-server"],
].map(([name, owner]) => ({
  name: `owner-of-node-${name.replace(/\W/g, "-")}`,
  severity: "error",
  from: { path: "^src/", pathNot: owner },
  to: { dependencyTypes: ["core"], path: `^(node:)?${name}$` },
}));

module.exports = {
  forbidden: [
    {
      name: "no-circular",
      severity: "error",
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
    { name: "src-never-imports-test", severity: "error", from: { path: "^src/" }, to: { path: "^test/" } },
    ...layerRules,
    ...narrowRules,
    ...ownerRules,
    ...coreModuleRules,
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: { extensions: [".ts", ".js"], conditionNames: ["import", "require", "node", "default"] },
  },
};
