import {
  findMount,
  findMounts,
  findMountsBelow,
  findMountsOfDevice,
  parseMountInfo,
} from "../../../src/host/mountinfo.js";

/** Lines as proc(5) describes them; the second is its own example. */
const table = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw,errors=remount-ro
36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
40 22 43:0 / /var/lib/kubelet/plugins/a\\040b\\134c rw,noexec - ext4 /dev/nbd0 rw
41 40 43:1 / /var/lib/kubelet/plugins/a\\040b\\134c rw shared:3 master:2 - xfs /dev/nbd1 rw,attr2
42 22 0:44 /sub /data rw - btrfs /dev/loop3 rw,space_cache=v2,subvol=/sub
43 42 0:45 / /data/inner rw - tmpfs none rw
44 22 0:6 /nbd0 /data/raw rw - devtmpfs udev rw
`;

describe("parseMountInfo", () => {
  const entries = parseMountInfo(table);

  it("reads every field", () => {
    expect(entries).toHaveLength(7);
    expect(entries[1]).toEqual({
      id: 36,
      parentId: 35,
      device: { major: 98, minor: 0 },
      root: "/mnt1",
      mountPoint: "/mnt2",
      options: ["rw", "noatime"],
      propagation: ["master:1"],
      fsType: "ext3",
      source: "/dev/root",
      superOptions: ["rw", "errors=continue"],
    });
    expect(entries[2]?.propagation).toEqual([]);
    expect(entries[3]?.propagation).toEqual(["shared:3", "master:2"]);
  });

  it("decodes octal escapes", () => {
    expect(entries[2]?.mountPoint).toBe("/var/lib/kubelet/plugins/a b\\c");
  });

  it("finds the topmost of stacked mounts, whatever the order of lines", () => {
    const path = "/var/lib/kubelet/plugins/a b\\c";
    expect(findMount(entries, path)?.id).toBe(41);
    expect(findMount([...entries].reverse(), path)?.id).toBe(41);
    expect(findMounts(entries, path).map(({ id }) => id)).toEqual([40, 41]);
    expect(findMount(entries, "/var/lib/kubelet/plugins/a")).toBeUndefined();
  });

  it("finds by device and below a folder, deepest first", () => {
    expect(findMountsOfDevice(entries, { major: 43, minor: 1 }).map(({ id }) => id)).toEqual([41]);
    expect(findMountsBelow(entries, "/data").map(({ id }) => id)).toEqual([44, 43]);
    expect(findMountsBelow(entries, "/dat")).toEqual([]);
  });

  it.each(["36 35 98:0 /mnt1 /mnt2 rw", "x 35 98:0 / /m rw - ext4 /dev/a rw", "36 35 98 / /m rw - ext4 /dev/a rw"])(
    "stops at a line it cannot read: %s",
    (line) => {
      expect(() => parseMountInfo(line)).toThrow(expect.objectContaining({ code: "HOST_MOUNTINFO_INVALID" }));
    },
  );

  it("takes a source with a dash between blanks for what it is", () => {
    const [entry] = parseMountInfo("36 35 0:50 / /m rw - fuse.x a\\040-\\040b rw");
    expect(entry).toMatchObject({ fsType: "fuse.x", source: "a - b" });
  });
});
