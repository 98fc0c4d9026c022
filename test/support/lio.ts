import { createHash } from "node:crypto";

/** One target portal group: `tpgt_N`, counted from 1. Each shows all LUNs of the target. */
export interface LioPortalGroup {
  /** `address:port` */
  readonly portals: readonly string[];
  /** LUN 0 belongs to this ALUA target port group here; default LIO's own, `default_tg_pt_gp`. */
  readonly accessGroup?: {
    readonly name: string;
    /** TARGET PORT GROUP of SPC-5, 1 to 65535. */
    readonly id: number;
    /** How its state may change: 1 implicitly, 2 explicitly (by us), 3 both. */
    readonly accessType: 1 | 2 | 3;
  };
}

/** One LIO target in a User-Mode Linux guest. */
export interface LioTarget {
  readonly iqn: string;
  /** Port on 127.0.0.1; more portals by `portals`. */
  readonly port?: number;
  /** `address:port` of every portal; default the loopback address with `port`. */
  readonly portals?: readonly string[];
  /** Instead of `port` and `portals`: several portal groups. */
  readonly portalGroups?: readonly LioPortalGroup[];
  /** Size of each LUN's backing file; LUN n is the n-th entry. Default one of 64 MiB. */
  readonly lunSizesBytes?: readonly number[];
  readonly blockBytes?: 512 | 4096;
  readonly errorRecoveryLevel?: 0 | 1 | 2;
  readonly maxConnections?: number;
  /** For example `CRC32C,None`. */
  readonly headerDigest?: string;
  readonly dataDigest?: string;
  /** Other negotiated values by their names in `param/`, for example `{ InitialR2T: "No" }`. */
  readonly parameters?: Readonly<Record<string, string>>;
  /** An explicit ACL with CHAP; without it every initiator is let in without authentication. */
  readonly acl?: {
    readonly initiator: string;
    readonly user: string;
    readonly password: string;
    readonly mutualUser?: string;
    readonly mutualPassword?: string;
  };
  /**
   * Initiators with an ACL of their own and no authentication, instead of `acl`: one that LIO makes by itself ends with
   * its session, and takes the registrations of the session with it.
   */
  readonly initiators?: readonly string[];
}

/**
 * Loads LIO and mounts its configuration tree; once per guest, before `lioTarget`. `modulePath`: the iscsi_target_mod
 * to load instead of the kernel's own, see lio-repair.ts.
 */
export function lioStart(modulePath?: string): string {
  return `modprobe configfs
mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
modprobe target_core_mod; modprobe target_core_file
# LIO keeps registrations in files below this folder, fails PERSISTENT RESERVE OUT without it, and takes it only now.
mkdir -p /run/target/pr /run/target/alua; echo /run/target > /sys/kernel/config/target/dbroot
${modulePath === undefined ? "modprobe iscsi_target_mod" : `insmod '${modulePath}'`}
LIO=/sys/kernel/config/target
`;
}

const DEFAULT_LUN_SIZES_BYTES: readonly number[] = [64 * 1024 * 1024];

/** A serial in the form targetcli gives; LIO makes the NAA of its hexadecimal digits, and shows no identity without. */
function serialOf(name: string): string {
  return createHash("sha256").update(name).digest("hex").slice(0, 32);
}

/** What the files of a target in configfs and in /dev/shm are called by; LUN n adds `-n`. */
export function lioBackstoreName(iqn: string): string {
  return iqn.replaceAll(/[^a-z0-9]/g, "-");
}

function backstoreScript(name: string, sizeBytes: number, index: number, target: LioTarget): string {
  const image = `/dev/shm/${name}-${index}.img`;
  return `truncate -s ${sizeBytes} ${image}
mkdir -p $LIO/core/fileio_0/${name}-${index}
echo fd_dev_name=${image},fd_dev_size=${sizeBytes} > $LIO/core/fileio_0/${name}-${index}/control
echo 1 > $LIO/core/fileio_0/${name}-${index}/enable
echo ${serialOf(`${name}-${index}`)} > $LIO/core/fileio_0/${name}-${index}/wwn/vpd_unit_serial
${target.blockBytes === undefined ? "" : `echo ${target.blockBytes} > $LIO/core/fileio_0/${name}-${index}/attrib/block_size`}
`;
}

function lunScript(name: string, index: number): string {
  return `mkdir -p $TPG/lun/lun_${index}; ln -s $LIO/core/fileio_0/${name}-${index} $TPG/lun/lun_${index}/backing
`;
}

/** LIO takes nothing for a group before it has its number. */
function accessGroupScript(name: string, { accessGroup }: LioPortalGroup): string {
  if (accessGroup === undefined) return "";
  const folder = `$LIO/core/fileio_0/${name}-0/alua/${accessGroup.name}`;
  return `mkdir -p ${folder}; echo ${accessGroup.id} > ${folder}/tg_pt_gp_id
echo ${accessGroup.accessType} > ${folder}/alua_access_type
echo ${accessGroup.name} > $TPG/lun/lun_0/alua_tg_pt_gp
`;
}

function mappingsScript(target: LioTarget): string {
  const luns = (target.lunSizesBytes ?? [0]).map(
    (_, index) => `mkdir -p $ACL/lun_${index}; ln -s $TPG/lun/lun_${index} $ACL/lun_${index}/mapped`,
  );
  return luns.join("\n");
}

function accessScript(target: LioTarget): string {
  const { acl, initiators } = target;
  if (initiators !== undefined) {
    const acls = initiators.map((initiator) => `ACL=$TPG/acls/${initiator}; mkdir -p $ACL\n${mappingsScript(target)}`);
    return `echo 0 > $TPG/attrib/authentication; echo 0 > $TPG/attrib/generate_node_acls
${acls.join("\n")}
`;
  }
  if (acl === undefined) {
    return `echo 0 > $TPG/attrib/authentication; echo 1 > $TPG/attrib/generate_node_acls
echo 0 > $TPG/attrib/demo_mode_write_protect
`;
  }
  const mutual =
    acl.mutualUser === undefined
      ? ""
      : `printf %s '${acl.mutualUser}' > $ACL/auth/userid_mutual; printf %s '${acl.mutualPassword ?? ""}' > $ACL/auth/password_mutual`;
  return `echo 1 > $TPG/attrib/authentication; echo 0 > $TPG/attrib/generate_node_acls
ACL=$TPG/acls/${acl.initiator}; mkdir -p $ACL
printf %s '${acl.user}' > $ACL/auth/userid; printf %s '${acl.password}' > $ACL/auth/password
${mutual}
${mappingsScript(target)}
`;
}

function portalGroupScript(name: string, group: LioPortalGroup, index: number, target: LioTarget): string {
  const sizes = target.lunSizesBytes ?? DEFAULT_LUN_SIZES_BYTES;
  const parameters = Object.entries({
    MaxConnections: String(target.maxConnections ?? 1),
    HeaderDigest: target.headerDigest ?? "CRC32C,None",
    DataDigest: target.dataDigest ?? "CRC32C,None",
    ...target.parameters,
  });
  return `TPG=$LIO/iscsi/${target.iqn}/tpgt_${index + 1}; mkdir -p $TPG
${group.portals.map((portal) => `mkdir -p "$TPG/np/${portal}"`).join("\n")}
${sizes.map((_, lun) => lunScript(name, lun)).join("")}${accessGroupScript(name, group)}
${accessScript(target)}
echo ${target.errorRecoveryLevel ?? 0} > $TPG/attrib/default_erl
${parameters.map(([key, value]) => `echo '${value}' > $TPG/param/${key}`).join("\n")}
echo 1 > $TPG/enable
`;
}

/**
 * Shell lines that set up one LIO target with fileio LUNs in the guest's memory; needs `lioStart` before. Leaves
 * `$TPG` at its (last) portal group. `attrib/default_erl` is what the kernel negotiates, not `param/ErrorRecoveryLevel`.
 */
export function lioTarget(target: LioTarget): string {
  const name = lioBackstoreName(target.iqn);
  const sizes = target.lunSizesBytes ?? DEFAULT_LUN_SIZES_BYTES;
  const groups = target.portalGroups ?? [{ portals: target.portals ?? [`127.0.0.1:${target.port ?? 3260}`] }];
  return `${sizes.map((sizeBytes, index) => backstoreScript(name, sizeBytes, index, target)).join("")}
${groups.map((group, index) => portalGroupScript(name, group, index, target)).join("")}
`;
}
