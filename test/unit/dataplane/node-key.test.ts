import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseNodeId } from "../../../src/base/node-id.js";
import { openSealedChap, sealChap } from "../../../src/base/sealed-chap.js";
import { Secret } from "../../../src/base/secret.js";
import { SystemRandom } from "../../../src/base/system-random.js";
import { initiatorNameOf, loadInitiatorName, loadNodeIdentity, loadNodeKey } from "../../../src/dataplane/node-key.js";
import { codeOf } from "../../support/dataplane-world.js";

const random = new SystemRandom();
let stateDirectory: string;

beforeEach(async () => {
  stateDirectory = join(await mkdtemp(join(tmpdir(), "hawser-key-")), "state");
});
afterEach(() => rm(join(stateDirectory, ".."), { recursive: true, force: true }));

describe("node key", () => {
  it("is made once, and only its owner may read it", async () => {
    const first = await loadNodeKey({ stateDirectory }, { random });
    const second = await loadNodeKey({ stateDirectory }, { random });
    expect(second.publicKey).toEqual(first.publicKey);
    expect(second.privateKey.reveal()).toEqual(first.privateKey.reveal());
    expect((await stat(join(stateDirectory, "node.key"))).mode & 0o777).toBe(0o600);
    expect((await stat(stateDirectory)).mode & 0o777).toBe(0o700);
  });

  it("is one key for all who ask at the same time", async () => {
    const all = await Promise.all(Array.from({ length: 20 }, () => loadNodeKey({ stateDirectory }, { random })));
    expect(new Set(all.map(({ publicKey }) => publicKey.toString("hex"))).size).toBe(1);
  });

  it("is never made anew over a damaged one, whose content is not told", async () => {
    await loadNodeKey({ stateDirectory }, { random });
    const content = await readFile(join(stateDirectory, "node.key"), "utf8");
    await writeFile(join(stateDirectory, "node.key"), content.slice(0, -12));
    const error = await loadNodeKey({ stateDirectory }, { random }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "STATE_FAILED", message: expect.stringContaining("node.key is damaged") });
    expect(String((error as Error).stack)).not.toContain(content.slice(30, 50));
  });

  it("opens CHAP credentials that were sealed to the node id", async () => {
    const { nodeId, keyPair } = await loadNodeIdentity({ stateDirectory, nodeName: "worker-1" }, { random });
    const publicKey = parseNodeId(nodeId)!.publicKey;
    const chap = {
      user: "u",
      secret: Secret.from("s3cret"),
      mutualUser: "m",
      mutualSecret: Secret.from(Buffer.of(0, 255)),
    };
    const context = { volumeHandle: "vol-1", nodeId };
    const sealed = sealChap(publicKey, chap, context, { random });
    const opened = openSealedChap(keyPair, sealed, context);
    expect(opened.user).toBe("u");
    expect(opened.secret.reveal().toString()).toBe("s3cret");
    expect(opened.mutualUser).toBe("m");
    expect(opened.mutualSecret?.reveal()).toEqual(Buffer.of(0, 255));
    expect(sealed).not.toContain("s3cret");
    const oneWay = sealChap(publicKey, { user: "u", secret: Secret.from("x") }, context, { random });
    expect(Object.keys(openSealedChap(keyPair, oneWay, context))).toEqual(["user", "secret"]);
  });
});

describe("initiator name", () => {
  it("is made once from the node's name and then kept", async () => {
    expect(await loadInitiatorName({ stateDirectory, nodeName: "worker-1" })).toBe("iqn.2026-11.dev.hawser:worker-1");
    expect(await loadInitiatorName({ stateDirectory, nodeName: "renamed" })).toBe("iqn.2026-11.dev.hawser:worker-1");
  });

  it("is the configured one where there is one", async () => {
    const initiatorName = "iqn.1993-08.org.debian:01:ABC";
    expect(await loadInitiatorName({ stateDirectory, nodeName: "n", initiatorName })).toBe(
      "iqn.1993-08.org.debian:01:abc",
    );
    const wrong = loadInitiatorName({ stateDirectory, nodeName: "n", initiatorName: "my host" });
    expect(await codeOf(wrong)).toBe("VOLUME_INVALID");
  });

  it("never becomes one name for two nodes", () => {
    const names = ["Worker", "worker", "work er", "work_er", "w".repeat(253), `${"w".repeat(252)}x`, "", "ä"];
    expect(new Set(names.map(initiatorNameOf)).size).toBe(names.length);
  });

  it("leaves room for the key in the node id, however long the node's name is", async () => {
    const { nodeId } = await loadNodeIdentity({ stateDirectory, nodeName: "n".repeat(253) }, { random });
    expect(Buffer.byteLength(nodeId)).toBeLessThanOrEqual(256);
  });

  it("says when its file is damaged", async () => {
    await loadInitiatorName({ stateDirectory, nodeName: "worker-1" });
    await writeFile(join(stateDirectory, "initiator.json"), "{}");
    expect(await codeOf(loadInitiatorName({ stateDirectory, nodeName: "worker-1" }))).toBe("STATE_FAILED");
  });
});
