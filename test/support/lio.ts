import { createHash } from "node:crypto";

/** One LIO target in a User-Mode Linux guest. */
export interface LioTarget {
  readonly iqn: string;
  /** Port on 127.0.0.1; more portals by `portals`. */
  readonly port?: number;
  /** `address:port` of every portal; default the loopback address with `port`. */
  readonly portals?: readonly string[];
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
}

/**
 * Loads LIO and mounts its configuration tree; once per guest, before `lioTarget`. `modulePath`: the iscsi_target_mod
 * to load instead of the kernel's own, see lio-repair.ts.
 */
export function lioStart(modulePath?: string): string {
  return `modprobe configfs
mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
modprobe target_core_mod; modprobe target_core_file
${modulePath === undefined ? "modprobe iscsi_target_mod" : `insmod '${modulePath}'`}
LIO=/sys/kernel/config/target
`;
}

/** A serial in the form targetcli gives; LIO makes the NAA of its hexadecimal digits, and shows no identity without. */
function serialOf(name: string): string {
  return createHash("sha256").update(name).digest("hex").slice(0, 32);
}

function lunScript(name: string, sizeBytes: number, index: number, target: LioTarget): string {
  const image = `/dev/shm/${name}-${index}.img`;
  return `truncate -s ${sizeBytes} ${image}
mkdir -p $LIO/core/fileio_0/${name}-${index}
echo fd_dev_name=${image},fd_dev_size=${sizeBytes} > $LIO/core/fileio_0/${name}-${index}/control
echo 1 > $LIO/core/fileio_0/${name}-${index}/enable
echo ${serialOf(`${name}-${index}`)} > $LIO/core/fileio_0/${name}-${index}/wwn/vpd_unit_serial
${target.blockBytes === undefined ? "" : `echo ${target.blockBytes} > $LIO/core/fileio_0/${name}-${index}/attrib/block_size`}
mkdir -p $TPG/lun/lun_${index}; ln -s $LIO/core/fileio_0/${name}-${index} $TPG/lun/lun_${index}/backing
`;
}

function accessScript(target: LioTarget): string {
  const { acl } = target;
  if (acl === undefined) {
    return `echo 0 > $TPG/attrib/authentication; echo 1 > $TPG/attrib/generate_node_acls
echo 0 > $TPG/attrib/demo_mode_write_protect
`;
  }
  const luns = (target.lunSizesBytes ?? [0]).map(
    (_, index) => `mkdir -p $ACL/lun_${index}; ln -s $TPG/lun/lun_${index} $ACL/lun_${index}/mapped`,
  );
  const mutual =
    acl.mutualUser === undefined
      ? ""
      : `printf %s '${acl.mutualUser}' > $ACL/auth/userid_mutual; printf %s '${acl.mutualPassword ?? ""}' > $ACL/auth/password_mutual`;
  return `echo 1 > $TPG/attrib/authentication; echo 0 > $TPG/attrib/generate_node_acls
ACL=$TPG/acls/${acl.initiator}; mkdir -p $ACL
printf %s '${acl.user}' > $ACL/auth/userid; printf %s '${acl.password}' > $ACL/auth/password
${mutual}
${luns.join("\n")}
`;
}

/**
 * Shell lines that set up one LIO target with fileio LUNs in the guest's memory; needs `lioStart` before. Leaves
 * `$TPG` at its portal group. `attrib/default_erl` is what the kernel negotiates, not `param/ErrorRecoveryLevel`.
 */
export function lioTarget(target: LioTarget): string {
  const name = target.iqn.replaceAll(/[^a-z0-9]/g, "-");
  const sizes = target.lunSizesBytes ?? [64 * 1024 * 1024];
  const portals = target.portals ?? [`127.0.0.1:${target.port ?? 3260}`];
  const parameters = Object.entries({
    MaxConnections: String(target.maxConnections ?? 1),
    HeaderDigest: target.headerDigest ?? "CRC32C,None",
    DataDigest: target.dataDigest ?? "CRC32C,None",
    ...target.parameters,
  });
  return `TPG=$LIO/iscsi/${target.iqn}/tpgt_1; mkdir -p $TPG
${portals.map((portal) => `mkdir -p "$TPG/np/${portal}"`).join("\n")}
${sizes.map((sizeBytes, index) => lunScript(name, sizeBytes, index, target)).join("")}
${accessScript(target)}
echo ${target.errorRecoveryLevel ?? 0} > $TPG/attrib/default_erl
${parameters.map(([key, value]) => `echo '${value}' > $TPG/param/${key}`).join("\n")}
echo 1 > $TPG/enable
`;
}
