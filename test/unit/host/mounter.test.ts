import type { RunCommand } from "../../../src/host/exec.js";
import { HostError } from "../../../src/host/errors.js";
import { joinOptions, LinuxMounter } from "../../../src/host/mounter.js";

const line = (id: number, parent: number, mountPoint: string, options = "rw", superOptions = "rw"): string =>
  `${id} ${parent} 0:99 / ${mountPoint} ${options} - tmpfs none ${superOptions}\n`;

/** A mounter whose umount removes the last line of the table, unless told to fail. */
function fakeMounter(lines: string[], umount?: () => Promise<never>): { mounter: LinuxMounter; calls: string[] } {
  const calls: string[] = [];
  const run: RunCommand = async (file, args) => {
    calls.push([file, ...args].join(" "));
    if (umount !== undefined) return umount();
    lines.pop();
    return { stdout: "", stdoutBytes: Buffer.alloc(0), stderr: "", exitCode: 0 };
  };
  return { mounter: new LinuxMounter({ run, readMountInfo: () => Promise.resolve(lines.join("")) }), calls };
}

describe("LinuxMounter", () => {
  it("unmounts until nothing is stacked any more", async () => {
    const { mounter, calls } = fakeMounter([line(1, 0, "/"), line(2, 1, "/m"), line(3, 2, "/m")]);
    await mounter.unmount("/m/");
    expect(calls).toEqual(["umount --no-canonicalize -- /m", "umount --no-canonicalize -- /m"]);
    await mounter.unmount("/m");
    expect(calls).toHaveLength(2);
  });

  it("does not believe an umount that changed nothing", async () => {
    const { mounter } = fakeMounter([line(1, 0, "/m")], () => Promise.resolve({} as never));
    await expect(mounter.unmount("/m")).rejects.toMatchObject({ code: "HOST_UNMOUNT_FAILED" });
  });

  it("tells busy from broken", async () => {
    const failing = (stderr: string) => (): Promise<never> =>
      Promise.reject(new HostError("HOST_COMMAND_FAILED", stderr, { details: { stderr } }));
    const busy = fakeMounter([line(1, 0, "/m")], failing("umount: /m: target is busy."));
    await expect(busy.mounter.unmount("/m")).rejects.toMatchObject({ code: "HOST_MOUNT_BUSY" });
    const broken = fakeMounter([line(1, 0, "/m")], failing("umount: /m: must be superuser to unmount."));
    await expect(broken.mounter.unmount("/m")).rejects.toMatchObject({ code: "HOST_UNMOUNT_FAILED" });
  });

  it("detaches lazily only when asked", async () => {
    const { mounter, calls } = fakeMounter([line(1, 0, "/m")]);
    await mounter.unmount("/m", { isLazy: true });
    expect(calls).toEqual(["umount --no-canonicalize --lazy -- /m"]);
  });

  it("reports a file system that turned read-only, and one that is read-only on purpose as healthy", async () => {
    const health = async (options: string, superOptions: string): Promise<string> => {
      const { mounter } = fakeMounter([line(1, 0, "/", options, superOptions)]);
      return (await mounter.health("/")).kind;
    };
    expect(await health("rw", "rw")).toBe("healthy");
    expect(await health("rw", "ro")).toBe("read-only");
    expect(await health("rw", "rw,emergency_ro")).toBe("read-only");
    expect(await health("ro", "ro")).toBe("healthy");
  });

  it("reports a mount whose folder or device is gone as stale", async () => {
    const gone = fakeMounter([line(1, 0, "/no/such/folder")]);
    expect(await gone.mounter.health("/no/such/folder")).toMatchObject({ kind: "stale", reason: "it answers ENOENT" });
    const device = "1 0 4095:77 / / rw - ext4 /dev/nbd77 rw\n";
    expect(await fakeMounter([device]).mounter.health("/")).toMatchObject({
      kind: "stale",
      reason: "its device /dev/nbd77 is gone",
    });
  });

  it.each(["relative", "/a/../b", "/a//b", ""])("refuses the path %j", async (path) => {
    const { mounter, calls } = fakeMounter([]);
    await expect(mounter.unmount(path)).rejects.toMatchObject({ code: "HOST_PATH_INVALID" });
    expect(calls).toEqual([]);
  });

  it("refuses options that would smuggle others in", async () => {
    const { mounter, calls } = fakeMounter([]);
    const request = { source: "/", target: "/nowhere", options: ["noexec,suid"] };
    await expect(mounter.bindMount(request)).rejects.toMatchObject({ code: "HOST_MOUNT_OPTION_INVALID" });
    expect(calls).toEqual([]);
  });

  it.each(["context", "fscontext", "defcontext", "rootcontext"])(
    "passes a quoted %s on as it is, and to no bind mount",
    async (key) => {
      const option = `${key}="system_u:object_r:container_file_t:s0:c10,c20"`;
      expect(joinOptions([option, "noexec"])).toBe(`${option},noexec`);
      const { mounter, calls } = fakeMounter([]);
      const request = { source: "/", target: "/nowhere", options: [option, "noexec"] };
      // The table never shows the mount, so it fails in the end; what mount(8) was given is what counts.
      await expect(mounter.bindMount(request)).rejects.toMatchObject({ code: "HOST_MOUNT_FAILED" });
      expect(calls).toEqual(["mount --bind -- / /nowhere", "mount -o remount,bind,noexec -- /nowhere"]);
    },
  );

  it.each([
    'context="a:b:c10,c20',
    'context=a"b',
    'context="a"b"',
    'context="a",suid',
    'context=""',
    'errors="remount-ro,suid"',
    'context="a b"',
    "context=a:c10,c20",
  ])("refuses %s", async (option) => {
    const { mounter, calls } = fakeMounter([]);
    const request = { source: "/", target: "/nowhere", options: [option] };
    await expect(mounter.bindMount(request)).rejects.toMatchObject({ code: "HOST_MOUNT_OPTION_INVALID" });
    expect(calls).toEqual([]);
  });
});
