import { randomBytes } from "node:crypto";
import { OutsideArray, type Account } from "./array.js";
import { until, type KubeObject } from "./cluster.js";
import { claim, workPod } from "./objects.js";
import { deletePod, digestOf, podReady, writeRandom } from "./pods.js";
import { DRIVER } from "./release.js";
import { PLANTED_LABEL, must, type Phase, type Scenario, type ScenarioContext } from "./scenario.js";

const NAMES = { oneWay: "one-way", mutual: "mutual", wrong: "wrong" } as const;

/**
 * Volumes of an array that demands CHAP, described by PersistentVolumes by hand: beside a backend that makes volumes,
 * and where there is none.
 */
export function staticChap(phase: Phase): Scenario {
  return {
    name: `static-chap-${phase}`,
    title: `static volumes of an outside array with CHAP (backend ${phase})`,
    phase,
    timeoutMs: 300_000,
    run: (context) => chapLife(context, phase),
  };
}

async function chapLife(context: ScenarioContext, phase: Phase): Promise<void> {
  const { cluster, namespace } = context;
  const account = (name: string): Account => ({ user: `user-${name}`, secret: plantSecret(context, name) });
  const iqn = (name: string): string => `iqn.2026-11.test.array:${phase}-${name}`;
  const oneWay = account(NAMES.oneWay);
  const mutual = account(NAMES.mutual);
  const proof = account("target-proof");
  const guess = { user: "user-wrong-disk", secret: plantSecret(context, "wrong-guess") };
  const array = await OutsideArray.start(context, [
    { targetName: iqn(NAMES.oneWay), sizeMib: 256, account: oneWay },
    { targetName: iqn(NAMES.mutual), sizeMib: 256, account: mutual, mutual: proof },
    {
      targetName: iqn(NAMES.wrong),
      sizeMib: 256,
      account: { user: guess.user, secret: plantSecret(context, "right") },
    },
  ]);
  const volume = (name: string): readonly KubeObject[] => [
    staticVolume({ namespace, name, portal: array.portal, targetName: iqn(name) }),
    claim({ namespace, name, size: "256Mi", volumeName: volumeName(namespace, name) }),
  ];
  context.cleanUp(() => removeVolumes(context));
  await cluster.apply(
    secret(namespace, NAMES.oneWay, { chapUser: oneWay.user, chapSecret: oneWay.secret }),
    secret(namespace, NAMES.mutual, {
      ...{ "node.session.auth.username": mutual.user, "node.session.auth.password": mutual.secret },
      ...{ "node.session.auth.username_in": proof.user, "node.session.auth.password_in": proof.secret },
    }),
    secret(namespace, NAMES.wrong, { chapUser: guess.user, chapSecret: guess.secret }),
    ...Object.values(NAMES).flatMap(volume),
  );
  for (const name of [NAMES.oneWay, NAMES.mutual]) await writeAndReadAgain(context, name);
  await expectRefusal(context, NAMES.wrong);
}

function plantSecret(context: ScenarioContext, name: string): string {
  const text = `canary-${name}-${randomBytes(9).toString("hex")}`.slice(0, 32);
  context.plant({ name: `CHAP secret "${name}"`, text });
  return text;
}

async function writeAndReadAgain(context: ScenarioContext, name: string): Promise<void> {
  const { cluster, namespace } = context;
  const image = cluster.description.images.workload;
  const pod = (suffix: string): KubeObject => workPod({ namespace, name: `${name}-${suffix}`, image, claimName: name });
  await cluster.apply(pod("writer"));
  await podReady(context, `${name}-writer`);
  const written = await writeRandom(context, `${name}-writer`, "/data/random", 16);
  await deletePod(context, `${name}-writer`);
  await cluster.apply(pod("reader"));
  await podReady(context, `${name}-reader`);
  const found = await digestOf(context, `${name}-reader`, "/data/random", 16);
  must(found === written, `the next pod read other bytes from the volume ${name}`);
}

/** A wrong secret: the pod waits, and its events say why without saying the secret. */
async function expectRefusal(context: ScenarioContext, name: string): Promise<void> {
  const { cluster, namespace } = context;
  const pod = `${name}-pod`;
  await cluster.apply(workPod({ namespace, name: pod, image: cluster.description.images.workload, claimName: name }));
  const reason = await until(
    async () => {
      const text = await cluster.kubectl(["-n", namespace, "describe", "pod", pod]);
      return /FailedMount.*(CHAP|authentic|LOGIN).*/i.exec(text)?.[0];
    },
    { what: "an event that says the login was refused", timeoutMs: 90_000 },
  );
  context.progress(reason.replace(/\s+/g, " ").slice(0, 300));
  await deletePod(context, pod);
}

/** Never the same twice: a node remembers that a volume had a file system, and formats no other disk in its place. */
function volumeName(namespace: string, name: string): string {
  return `${namespace}-${name}`;
}

function secret(namespace: string, name: string, stringData: Readonly<Record<string, string>>): KubeObject {
  const metadata = { name, namespace, labels: { [PLANTED_LABEL]: "true" } };
  return { apiVersion: "v1", kind: "Secret", metadata, stringData };
}

function staticVolume(options: {
  readonly namespace: string;
  readonly name: string;
  readonly portal: string;
  readonly targetName: string;
}): KubeObject {
  const { namespace, name, portal, targetName } = options;
  return {
    apiVersion: "v1",
    kind: "PersistentVolume",
    metadata: { name: volumeName(namespace, name) },
    spec: {
      capacity: { storage: "256Mi" },
      accessModes: ["ReadWriteOnce"],
      persistentVolumeReclaimPolicy: "Retain",
      storageClassName: "",
      csi: {
        driver: DRIVER,
        volumeHandle: volumeName(namespace, name),
        fsType: "ext4",
        volumeAttributes: { targetPortal: portal, targetIQN: targetName, lun: "1", sessionCHAPAuth: "true" },
        nodeStageSecretRef: { name, namespace },
      },
      claimRef: { name, namespace },
    },
  };
}

/** Pods and claims first: an array that goes away under a volume leaves it waiting for ever, as it should. */
async function removeVolumes(context: ScenarioContext): Promise<void> {
  const { cluster, namespace } = context;
  await cluster.kubectl(["-n", namespace, "delete", "pods,pvc", "--all", "--wait=true"], { timeoutMs: 90_000 });
  const names = Object.values(NAMES).map((name) => volumeName(namespace, name));
  await until(
    async () => {
      const attachments = await cluster.list("volumeattachments");
      const text = JSON.stringify(attachments);
      return names.some((name) => text.includes(`"${name}"`)) ? undefined : true;
    },
    { what: "the static volumes to be detached", timeoutMs: 90_000 },
  );
  await cluster.kubectl(["delete", "pv", ...names, "--ignore-not-found"]);
}
