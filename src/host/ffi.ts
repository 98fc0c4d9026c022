import { closeSync } from "node:fs";
import { constants, platform } from "node:os";
import type * as koffiModule from "koffi";
import type { KoffiFunc } from "koffi";
import { errorMessage } from "../base/errors.js";
import { HostError } from "./errors.js";

/**
 * The few system calls Node.js does not offer, through koffi. Nothing else imports koffi, and it is loaded at the
 * first call only: the library works without it where these calls are not needed.
 * Calls that may block on the disk or the network run on a thread of the pool; the others return at once.
 */

type Koffi = typeof koffiModule;
type Call<Arguments extends unknown[]> = KoffiFunc<(...values: Arguments) => number | bigint>;

interface Libc {
  readonly koffi: Koffi;
  readonly socketpair: Call<[number, number, number, Int32Array]>;
  readonly socket: Call<[number, number, number]>;
  readonly bind: Call<[number, Uint8Array, number]>;
  readonly setsockopt: Call<[number, number, number, Uint8Array, number]>;
  readonly send: Call<[number, Uint8Array, number, number]>;
  readonly recv: Call<[number, Uint8Array, number, number]>;
  readonly fallocate: Call<[number, number, number, number]>;
  readonly lseek: Call<[number, number, number]>;
  readonly flock: Call<[number, number]>;
  readonly ioctl: Call<[number, number, number]>;
  readonly ioctlBuffer: Call<[number, number, Uint8Array]>;
  readonly prctl: Call<[number, number, number, number, number]>;
  readonly mlock2: Call<[number, number, number]>;
  readonly umount2: Call<[string, number]>;
  readonly fcntl: Call<[number, number, number]>;
  readonly execve: Call<[string, readonly (string | null)[], readonly (string | null)[]]>;
}

let loading: Promise<Libc> | undefined;

async function loadLibc(): Promise<Libc> {
  if (platform() !== "linux") {
    throw new HostError("HOST_NOT_LINUX", `block devices need Linux; this is ${platform()}`);
  }
  const koffi = await import("koffi").catch((error: unknown) => {
    throw new HostError(
      "HOST_FFI_UNAVAILABLE",
      `koffi, the library that makes system calls, does not load here: ${errorMessage(error)}; ` +
        "reinstall Hawser with optional dependencies",
      { cause: error },
    );
  });
  const libc = koffi.load(null);
  const declare = <Arguments extends unknown[]>(definition: string): Call<Arguments> =>
    libc.func(definition) as Call<Arguments>;
  return {
    koffi,
    socketpair: declare("int socketpair(int, int, int, int *)"),
    socket: declare("int socket(int, int, int)"),
    bind: declare("int bind(int, const uint8_t *, uint32_t)"),
    setsockopt: declare("int setsockopt(int, int, int, const uint8_t *, uint32_t)"),
    send: declare("long send(int, const uint8_t *, size_t, int)"),
    recv: declare("long recv(int, uint8_t *, size_t, int)"),
    fallocate: declare("int fallocate(int, int, int64_t, int64_t)"),
    lseek: declare("int64_t lseek(int, int64_t, int)"),
    flock: declare("int flock(int, int)"),
    ioctl: declare("int ioctl(int, unsigned long, long)"),
    ioctlBuffer: declare("int ioctl(int, unsigned long, uint8_t *)"),
    prctl: declare("int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)"),
    mlock2: declare("int mlock2(uintptr_t, size_t, int)"),
    umount2: declare("int umount2(const char *, int)"),
    fcntl: declare("int fcntl(int, int, long)"),
    execve: declare("int execve(const char *, const char **, const char **)"),
  };
}

/** The declared calls; a failed load is tried again at the next call. */
async function libc(): Promise<Libc> {
  loading ??= loadLibc();
  try {
    return await loading;
  } catch (error) {
    loading = undefined;
    throw error;
  }
}

/** Second names of values that have another one on Linux. */
const errnoAliases: readonly string[] = ["EWOULDBLOCK", "ENOTSUP", "EDEADLOCK"];

const errnoNames = new Map(
  Object.entries(constants.errno)
    .filter(([name]) => !errnoAliases.includes(name))
    .map(([name, value]) => [value, name]),
);

/** The name of an errno value (`EBUSY` for 16), or its number when the platform has no name for it. */
export function errnoName(value: number): string {
  return errnoNames.get(value) ?? String(value);
}

function systemCallError(call: string, errno: number): HostError {
  const name = errnoName(errno);
  return new HostError(`HOST_${name}`, `${call} failed with ${name}`, { details: { errno: name, call } });
}

/** A call that returns at once, on this thread. */
function callNow<Arguments extends unknown[]>(
  { koffi }: Libc,
  name: string,
  call: Call<Arguments>,
  ...values: Arguments
): number {
  const result = Number(call(...values));
  if (result < 0) throw systemCallError(name, koffi.errno());
  return result;
}

/** A call that may block, on a thread of the pool. Buffers among the arguments are borrowed until it settles. */
function callInPool<Arguments extends unknown[]>(
  { koffi }: Libc,
  name: string,
  call: Call<Arguments>,
  ...values: Arguments
): Promise<number> {
  return new Promise((resolve, reject) => {
    call.async(...values, (error: unknown, result: number | bigint) => {
      if (error !== null && error !== undefined) reject(new HostError("HOST_FFI_FAILED", errorMessage(error)));
      else if (Number(result) < 0) reject(systemCallError(name, koffi.errno()));
      else resolve(Number(result));
    });
  });
}

const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const AF_NETLINK = 16;
const SOCK_STREAM = 1;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_GENERIC = 16;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const MSG_DONTWAIT = 0x40;

/** Two connected stream sockets, both closed at exec. The caller owns both. */
export async function socketPair(): Promise<[number, number]> {
  const calls = await libc();
  const pair = new Int32Array(2);
  callNow(calls, "socketpair", calls.socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
  return [pair[0] ?? -1, pair[1] ?? -1];
}

/** Closes a descriptor this module opened. */
export function closeFd(fd: number): void {
  closeSync(fd);
}

const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
const FALLOC_FL_ZERO_RANGE = 16;

async function fallocate(mode: number, fd: number, offsetBytes: number, lengthBytes: number): Promise<void> {
  const calls = await libc();
  await callInPool(calls, "fallocate", calls.fallocate, fd, mode, offsetBytes, lengthBytes);
}

/** Releases a range of a file or block device; it reads as zeroes. HOST_EOPNOTSUPP where that cannot be done. */
export function punchHole(fd: number, offsetBytes: number, lengthBytes: number): Promise<void> {
  return fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, fd, offsetBytes, lengthBytes);
}

/** Makes a range read as zeroes and keeps it allocated. HOST_EOPNOTSUPP where that cannot be done. */
export function zeroRange(fd: number, offsetBytes: number, lengthBytes: number): Promise<void> {
  return fallocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, fd, offsetBytes, lengthBytes);
}

/** Reserves space for a range without changing the file's size. HOST_ENOSPC when there is none. */
export function allocate(fd: number, offsetBytes: number, lengthBytes: number): Promise<void> {
  return fallocate(FALLOC_FL_KEEP_SIZE, fd, offsetBytes, lengthBytes);
}

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

async function seek(fd: number, offsetBytes: number, whence: number): Promise<number | undefined> {
  const calls = await libc();
  try {
    return await callInPool(calls, "lseek", calls.lseek, fd, offsetBytes, whence);
  } catch (error) {
    // ENXIO: the offset is at or beyond the end of the file, or no data follows it.
    if (error instanceof HostError && error.code === "HOST_ENXIO") return undefined;
    throw error;
  }
}

/**
 * The first offset at or after `offsetBytes` that holds data; undefined when none follows. Moves the descriptor's
 * file position, which positional reads and writes do not use.
 */
export function seekData(fd: number, offsetBytes: number): Promise<number | undefined> {
  return seek(fd, offsetBytes, SEEK_DATA);
}

/** The first offset at or after `offsetBytes` in a hole (the end of the file counts); undefined beyond the end. */
export function seekHole(fd: number, offsetBytes: number): Promise<number | undefined> {
  return seek(fd, offsetBytes, SEEK_HOLE);
}

const LOCK_EX = 2;
const LOCK_NB = 4;

/**
 * Locks an open file against every other descriptor that asks for the lock, in this process or another (flock(2));
 * it ends when the descriptor is closed. HOST_EAGAIN when somebody else holds it.
 */
export async function lockExclusive(fd: number): Promise<void> {
  const calls = await libc();
  callNow(calls, "flock", calls.flock, fd, LOCK_EX | LOCK_NB);
}

/** A bound generic netlink socket; the caller closes it with `closeFd`. */
export async function openNetlinkGeneric(): Promise<number> {
  const calls = await libc();
  const fd = callNow(calls, "socket(netlink)", calls.socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
  try {
    const address = Buffer.alloc(12);
    address.writeUInt16LE(AF_NETLINK, 0);
    callNow(calls, "bind(netlink)", calls.bind, fd, address, address.length);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** Adds the socket to a multicast group of its family. */
export async function joinNetlinkGroup(fd: number, group: number): Promise<void> {
  const calls = await libc();
  const value = Buffer.alloc(4);
  value.writeUInt32LE(group, 0);
  callNow(calls, "setsockopt(netlink)", calls.setsockopt, fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, value, value.length);
}

/**
 * Sends one netlink message. The kernel handles it inside the call, which for nbd may take as long as freezing a
 * device's queue, so it runs in the pool.
 */
export async function netlinkSend(fd: number, message: Buffer): Promise<void> {
  const calls = await libc();
  await callInPool(calls, "send(netlink)", calls.send, fd, message, message.length, 0);
}

/** One datagram if one is waiting, else undefined; never blocks. The result is the caller's. */
export async function netlinkReceive(fd: number): Promise<Buffer | undefined> {
  const calls = await libc();
  const bytes = Buffer.alloc(65_536);
  try {
    const lengthBytes = callNow(calls, "recv(netlink)", calls.recv, fd, bytes, bytes.length, MSG_DONTWAIT);
    return bytes.subarray(0, lengthBytes);
  } catch (error) {
    if (error instanceof HostError && error.code === "HOST_EAGAIN") return undefined;
    throw error;
  }
}

/** An ioctl whose argument is a number. Returns the call's result. */
export async function ioctl(fd: number, request: number, argument: number): Promise<number> {
  const calls = await libc();
  return callInPool(calls, `ioctl 0x${request.toString(16)}`, calls.ioctl, fd, request, argument);
}

/** An ioctl whose argument is a structure; `argument` is borrowed, and may be filled, until it settles. */
export async function ioctlBuffer(fd: number, request: number, argument: Buffer): Promise<number> {
  const calls = await libc();
  return callInPool(calls, `ioctl 0x${request.toString(16)}`, calls.ioctlBuffer, fd, request, argument);
}

const SOL_SOCKET = 1;
const SO_BINDTODEVICE = 25;

/** IFNAMSIZ without its NUL: the kernel cuts longer names, and might find another interface by what is left. */
const MAX_INTERFACE_NAME_BYTES = 15;

/**
 * A TCP socket, not connected, that sends and receives through one interface whatever the routes say (SO_BINDTODEVICE,
 * socket(7)). The caller owns it and closes it with `closeFd`. HOST_ENODEV when there is no such interface; HOST_EPERM when
 * it is not allowed; HOST_EAFNOSUPPORT when the system has no IPv6.
 */
export async function openBoundSocket(family: "ipv4" | "ipv6", interfaceName: string): Promise<number> {
  const name = Buffer.from(`${interfaceName}\0`);
  // An empty name would unbind.
  if (name.length < 2 || name.length > MAX_INTERFACE_NAME_BYTES + 1 || interfaceName.includes("\0")) {
    throw bindingError(interfaceName, "ENODEV");
  }
  const calls = await libc();
  const domain = family === "ipv4" ? AF_INET : AF_INET6;
  const fd = callNow(calls, "socket", calls.socket, domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
  try {
    callNow(calls, "setsockopt", calls.setsockopt, fd, SOL_SOCKET, SO_BINDTODEVICE, name, name.length);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error instanceof HostError ? bindingError(interfaceName, String(error.details["errno"])) : error;
  }
}

const bindingReasons: Readonly<Record<string, string>> = {
  ENODEV: "this machine has no such network interface",
  EPERM: "this process may not; before Linux 5.7 that needs the capability NET_RAW",
};

function bindingError(interfaceName: string, errno: string): HostError {
  const reason = bindingReasons[errno] ?? "the system refuses it";
  return new HostError(`HOST_${errno}`, `binding a socket to ${interfaceName} failed: ${reason}`, {
    retry: errno === "EPERM" ? "never" : "other-path",
    details: { errno, interfaceName },
  });
}

const MNT_DETACH = 2;

/**
 * Takes away the mount at `path`. `isLazy`: at once from the tree, and from use when the last user is gone.
 * HOST_EINVAL when nothing is mounted there, HOST_EBUSY when it is in use.
 */
export async function unmountPath(path: string, options: { readonly isLazy: boolean }): Promise<void> {
  const calls = await libc();
  await callInPool(calls, `umount ${path}`, calls.umount2, path, options.isLazy ? MNT_DETACH : 0);
}

/** A zeroed buffer whose address is a multiple of `alignmentBytes`, for direct I/O. The caller owns it. */
export async function alignedBuffer(lengthBytes: number, alignmentBytes: number): Promise<Buffer> {
  const { koffi } = await libc();
  const bytes = Buffer.alloc(lengthBytes + alignmentBytes);
  const address = koffi.address(bytes);
  const start = (alignmentBytes - Number(address % BigInt(alignmentBytes))) % alignmentBytes;
  return bytes.subarray(start, start + lengthBytes);
}

const PR_SET_IO_FLUSHER = 57;
const PR_GET_IO_FLUSHER = 58;

/** Is the calling thread marked as one that memory reclaim may depend on? (CAP_SYS_RESOURCE) */
export async function isIoFlusher(): Promise<boolean> {
  const calls = await libc();
  return callNow(calls, "prctl(PR_GET_IO_FLUSHER)", calls.prctl, PR_GET_IO_FLUSHER, 0, 0, 0, 0) === 1;
}

/**
 * Marks the calling thread, and threads and programs it starts from now on, as one that writes dirty pages back:
 * its allocations never wait for file systems or block devices, so reclaim cannot deadlock on it (prctl(2)).
 * Threads that exist already are not marked; hence `launcher.ts`.
 */
export async function prctlIoFlusher(): Promise<void> {
  const calls = await libc();
  callNow(calls, "prctl(PR_SET_IO_FLUSHER)", calls.prctl, PR_SET_IO_FLUSHER, 1, 0, 0, 0);
}

const MLOCK_ONFAULT = 1;

/**
 * Keeps a range of this process's address space in memory once touched (mlock2). HOST_ENOMEM or HOST_EPERM when
 * RLIMIT_MEMLOCK is too low. Only for mappings the runtime does not manage: V8 gives pages of its heap back with
 * madvise, which the kernel refuses for locked ones, and V8 ends the process when that fails. Hence no mlockall.
 */
export async function lockRange(address: number, lengthBytes: number): Promise<void> {
  const calls = await libc();
  callNow(calls, "mlock2", calls.mlock2, address, lengthBytes, MLOCK_ONFAULT);
}

const F_SETFD = 2;

/** Replaces this process by `program`, which keeps standard input, output and error; returns only by throwing. */
export async function execve(
  program: string,
  options: { readonly args: readonly string[]; readonly env: Readonly<Record<string, string>> },
): Promise<never> {
  const calls = await libc();
  // Node.js has marked these to be closed, as every other descriptor.
  for (const fd of [0, 1, 2]) callNow(calls, "fcntl(F_SETFD)", calls.fcntl, fd, F_SETFD, 0);
  const env = Object.entries(options.env).map(([name, value]) => `${name}=${value}`);
  callNow(calls, `execve ${program}`, calls.execve, program, [...options.args, null], [...env, null]);
  throw new HostError("HOST_EXEC_RETURNED", `execve of ${program} returned without an error`);
}
