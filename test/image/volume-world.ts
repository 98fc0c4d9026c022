import { join } from "node:path";
import { type ContainerMount, type ContainerOptions, containerSpec, RUNTIME, writeBundle } from "./container.js";

export type ProcessName = "controller" | "dataplane" | "node";

export interface WorldOptions {
  readonly rootfs: string;
  /** Folder for the containers' configuration, on a file system that script and test share. */
  readonly bundles: string;
  /** Folder of sockets, state and mounts; made by the script. */
  readonly directory: string;
  readonly backend: "nbd" | "fuse";
  readonly port: number;
  readonly capabilities: Readonly<Record<ProcessName, readonly string[]>>;
}

function processArgs(name: ProcessName, { directory, backend, port }: WorldOptions): readonly string[] {
  const endpoint = ["--endpoint", `unix://${directory}/sockets/${name}.sock`];
  const state = ["--state-dir", `${directory}/state`, "--node-name", "image-test"];
  const dataplane = `${directory}/sockets/dataplane.sock`;
  switch (name) {
    case "controller":
      return [...endpoint, "--backend", "embedded", "--store", "memory", "--portal", `127.0.0.1:${port}`];
    case "dataplane":
      return ["--socket", dataplane, "--runtime-dir", `${directory}/run`, "--backend", backend, ...state];
    case "node":
      return [...endpoint, "--dataplane", dataplane, ...state];
  }
}

/** The container of one process, as the chart makes it: the two on a node are privileged but for their capabilities. */
export function processContainer(name: ProcessName, options: WorldOptions): ContainerOptions {
  const { directory } = options;
  const mount = (folder: string, more: Partial<ContainerMount> = {}): ContainerMount => ({
    source: join(directory, folder),
    destination: join(directory, folder),
    ...more,
  });
  const mounts: Readonly<Record<ProcessName, readonly ContainerMount[]>> = {
    controller: [mount("sockets")],
    dataplane: [mount("sockets"), mount("state"), mount("run")],
    node: [mount("sockets"), mount("state"), mount("kubelet", { isBidirectional: true })],
  };
  return {
    args: ["hawser", name, ...processArgs(name, options), "--log-level", "debug"],
    capabilities: options.capabilities[name],
    mounts: mounts[name],
    hasDevices: name !== "controller",
  };
}

/**
 * A shell script (for `sh -eu`, as root, in a mount namespace of its own) that runs the three processes in containers.
 * `world_start` returns when all serve, `world_life FSTYPE` walks a volume through its whole life from outside, as a
 * kubelet and sidecars do, `world_stop` ends everything. Logs are `$LOGS/NAME.log`.
 */
export function worldScript(options: WorldOptions): string {
  const { bundles, directory } = options;
  const names: readonly ProcessName[] = ["controller", "dataplane", "node"];
  for (const name of names) writeBundle(bundles, name, containerSpec(options.rootfs, processContainer(name, options)));
  const socket = (name: ProcessName): string => `unix://${directory}/sockets/${name}.sock`;
  return `
D=${directory}
mkdir -p $D/sockets $D/state $D/run $D/kubelet $D/runtime $LOGS
mount --bind $D/kubelet $D/kubelet; mount --make-rshared $D/kubelet
runtime() { ${RUNTIME} --root $D/runtime "$@"; }
process_start() {
  rm -f $D/sockets/$1.sock
  runtime run --bundle ${bundles}/$1 hawser-$1-$$ > $LOGS/$1.log 2>&1 </dev/null &
  eval "pid_$1=$!"
  n=0; while [ ! -S $D/sockets/$1.sock ]; do
    sleep 0.1; n=$((n+1))
    if [ $n -gt 600 ] || ! kill -0 $! 2>/dev/null; then echo "$1 does not serve"; cat $LOGS/$1.log; return 1; fi
  done
}
process_stop() {
  runtime kill hawser-$1-$$ TERM 2>/dev/null || true
  eval "wait \\$pid_$1" || true
}
world_start() { process_start controller; process_start dataplane; process_start node; }
world_life() {
  node ${join(process.cwd(), "dist", "hawserctl.js")} selftest --controller ${socket("controller")} --node ${socket("node")} \\
    --dataplane $D/sockets/dataplane.sock --directory $D/kubelet/$1 --fs-type $1 --size 400Mi
}
world_stop() { process_stop node; process_stop dataplane; process_stop controller; umount -R $D/kubelet; }
`;
}
