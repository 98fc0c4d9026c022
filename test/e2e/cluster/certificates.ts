import { generateKeyPairSync } from "node:crypto";
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NETWORK, PATHS } from "./layout.js";
import { run } from "./process.js";

const DAYS = "30";
const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
const KEY_MODE = 0o600;

/** Who a certificate speaks for. */
interface Subject {
  readonly name: string;
  readonly commonName: string;
  /** A Kubernetes group. */
  readonly organization?: string;
  /** Addresses and names, for servers. */
  readonly alternativeNames?: readonly string[];
}

const API_NAMES = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];

const SUBJECTS: readonly Subject[] = [
  {
    name: "apiserver",
    commonName: "kube-apiserver",
    alternativeNames: [
      ...API_NAMES.map((name) => `DNS:${name}`),
      ...["127.0.0.1", NETWORK.nodeAddress, NETWORK.apiService].map((address) => `IP:${address}`),
    ],
  },
  { name: "apiserver-kubelet", commonName: "kube-apiserver-kubelet-client", organization: "system:masters" },
  { name: "admin", commonName: "e2e-admin", organization: "system:masters" },
  { name: "controller-manager", commonName: "system:kube-controller-manager" },
  { name: "scheduler", commonName: "system:kube-scheduler" },
  { name: "proxy", commonName: "system:kube-proxy" },
  { name: "kubelet", commonName: `system:node:${NETWORK.nodeName}`, organization: "system:nodes" },
];

const file = (name: string): string => join(PATHS.pki, name);

async function issue(subject: Subject): Promise<void> {
  const names = subject.organization === undefined ? "" : `/O=${subject.organization}`;
  const key = file(`${subject.name}.key`);
  const request = file(`${subject.name}.csr`);
  await run("openssl", [
    "req",
    "-new",
    ...NEW_KEY,
    "-keyout",
    key,
    "-out",
    request,
    "-subj",
    `${names}/CN=${subject.commonName}`,
  ]);
  await chmod(key, KEY_MODE);
  const usage = subject.alternativeNames === undefined ? "clientAuth" : "serverAuth,clientAuth";
  const extensions = [`keyUsage=digitalSignature`, `extendedKeyUsage=${usage}`];
  if (subject.alternativeNames !== undefined) extensions.push(`subjectAltName=${subject.alternativeNames.join(",")}`);
  await writeFile(file(`${subject.name}.ext`), `${extensions.join("\n")}\n`);
  const authority = ["-CA", file("ca.crt"), "-CAkey", file("ca.key"), "-CAcreateserial", "-days", DAYS];
  const signed = ["-in", request, "-out", file(`${subject.name}.crt`), "-extfile", file(`${subject.name}.ext`)];
  await run("openssl", ["x509", "-req", ...authority, ...signed]);
}

async function kubeconfig(name: string): Promise<void> {
  const read = async (suffix: string): Promise<string> =>
    (await readFile(file(`${name}.${suffix}`))).toString("base64");
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: "e2e",
        cluster: {
          server: `https://${NETWORK.nodeAddress}:${NETWORK.apiPort}`,
          "certificate-authority-data": (await readFile(file("ca.crt"))).toString("base64"),
        },
      },
    ],
    users: [{ name, user: { "client-certificate-data": await read("crt"), "client-key-data": await read("key") } }],
    contexts: [{ name: "e2e", context: { cluster: "e2e", user: name } }],
    "current-context": "e2e",
  };
  const path = join(PATHS.config, `${name}.conf`);
  await writeFile(path, `${JSON.stringify(config, null, 1)}\n`, { mode: KEY_MODE });
}

/**
 * Makes an authority that lives as long as the cluster, a certificate and a kubeconfig for every component, and the key
 * that signs service-account tokens. Needs openssl.
 */
export async function makeCertificates(): Promise<void> {
  await mkdir(PATHS.pki, { recursive: true, mode: 0o700 });
  await mkdir(PATHS.config, { recursive: true, mode: 0o700 });
  const authority = ["-x509", ...NEW_KEY, "-keyout", file("ca.key"), "-out", file("ca.crt"), "-days", DAYS];
  await run("openssl", ["req", ...authority, "-subj", "/CN=hawser-e2e", "-addext", "keyUsage=keyCertSign,cRLSign"]);
  // One after another: they share the authority's serial number file.
  for (const subject of SUBJECTS) await issue(subject);
  for (const { name, alternativeNames } of SUBJECTS) if (alternativeNames === undefined) await kubeconfig(name);
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  await writeFile(file("sa.key"), privateKey.export({ type: "pkcs1", format: "pem" }), { mode: KEY_MODE });
}
