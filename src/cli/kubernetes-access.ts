import { BlockList, isIP } from "node:net";

/** How a pod reaches its API server. */
export interface KubernetesAccess {
  /** `https://HOST:PORT`. */
  readonly server: string;
  readonly caFile: string;
  readonly tokenFile: string;
  readonly proxyUrl?: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Where the kubelet mounts a pod's service account. */
const ACCOUNT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount";

/** The access that the kubelet gives a pod, or undefined outside one. */
export function kubernetesAccess(
  environment: Environment,
  accountFolder: string = ACCOUNT_FOLDER,
): KubernetesAccess | undefined {
  const host = environment["KUBERNETES_SERVICE_HOST"] ?? "";
  const port = environment["KUBERNETES_SERVICE_PORT"] ?? "";
  if (host === "" || port === "") return undefined;
  const proxyUrl = proxyFor(host, port, environment);
  return {
    server: `https://${isIP(host) === 6 ? `[${host}]` : host}:${port}`,
    caFile: `${accountFolder}/ca.crt`,
    tokenFile: `${accountFolder}/token`,
    ...(proxyUrl === undefined ? {} : { proxyUrl }),
  };
}

/**
 * The proxy that HTTPS_PROXY names, unless NO_PROXY excepts the host. Entries of NO_PROXY are names (with everything
 * below them), addresses, networks (10.96.0.0/12) or `*`, each perhaps with a port. Small letters count first, as they
 * do for most programs.
 */
export function proxyFor(host: string, port: string, environment: Environment): string | undefined {
  const proxy = first(environment, "https_proxy", "HTTPS_PROXY");
  if (proxy === "") return undefined;
  const exceptions = first(environment, "no_proxy", "NO_PROXY").split(",");
  if (exceptions.some((entry) => matches(entry.trim().toLowerCase(), host.toLowerCase(), port))) return undefined;
  return proxy.includes("://") ? proxy : `http://${proxy}`;
}

function first(environment: Environment, ...names: readonly string[]): string {
  return names.map((name) => environment[name] ?? "").find((value) => value !== "") ?? "";
}

function matches(entry: string, host: string, port: string): boolean {
  if (entry === "") return false;
  if (entry === "*") return true;
  const network = /^(.+)\/(\d{1,3})$/.exec(entry);
  if (network !== null) return isInNetwork(host, network[1] ?? "", Number(network[2]));
  const withPort = /^\[?([^\]]*?)\]?:(\d+)$/.exec(entry);
  const isName = isIP(entry) === 0;
  if (isName && withPort !== null) return withPort[2] === port && matches(withPort[1] ?? "", host, port);
  if (isIP(host) !== 0) return sameAddress(entry, host);
  const name = entry.replace(/^\*?\./, "");
  return host === name || host.endsWith(`.${name}`);
}

function isInNetwork(host: string, network: string, prefixLength: number): boolean {
  const family = isIP(network);
  if (family === 0 || family !== isIP(host) || prefixLength > (family === 4 ? 32 : 128)) return false;
  const list = new BlockList();
  const type = family === 4 ? "ipv4" : "ipv6";
  list.addSubnet(network, prefixLength, type);
  return list.check(host, type);
}

/** IPv6 addresses have many spellings. */
function sameAddress(entry: string, host: string): boolean {
  return isInNetwork(host, entry, isIP(entry) === 4 ? 32 : 128);
}
