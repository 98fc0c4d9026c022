import { inspect } from "node:util";
import type { Random } from "../../../src/base/random.js";
import {
  generateSealingKeyPair,
  openSealed,
  sealForNode,
  sealingKeyPairFromPrivate,
} from "../../../src/base/sealing.js";
import { Secret } from "../../../src/base/secret.js";
import { SystemRandom } from "../../../src/base/system-random.js";

const random = new SystemRandom();
const context = { volumeHandle: "vol-1", nodeId: "node-1" };

/** Bob of RFC 7748 §6.1. */
const bobPrivate = Buffer.from("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb", "hex");
const bobPublic = Buffer.from("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f", "hex");

/** Computed with the Python package cryptography 48 (X25519, HKDF, AESGCM) from the layout in sealing.ts. */
const vector = {
  ephemeralPrivate: Buffer.from("77076d0a7318a57d3c16c17251b26645df4f2b0c0b0a0908070605040302012a", "hex"),
  nonce: Buffer.from("000102030405060708090a0b", "hex"),
  plaintext: "a secret of sixteen+",
  sealed:
    "v1.Z8eMfodmH8Xs5PZMGmzUnvULTPipkzzJ14vHGkDgO1YAAQIDBAUGBwgJCgumzArEYIiVhQp5Fb-5L54wHKJkvPFTdwu4UuoaschzTHuXBPI",
};

/** Gives out the buffers of a list in order. */
function scriptedRandom(buffers: readonly Buffer[]): Random {
  const rest = [...buffers];
  return {
    bytes: (lengthBytes) => {
      const next = rest.shift();
      if (next?.length !== lengthBytes) throw new Error(`no ${lengthBytes} scripted bytes`);
      return Buffer.from(next);
    },
    uint32: () => 0,
    fraction: () => 0,
  };
}

function codeOf(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return (error as { code?: unknown }).code;
  }
  return undefined;
}

describe("sealing", () => {
  it("derives the public key of RFC 7748 §6.1", () => {
    expect(sealingKeyPairFromPrivate(Secret.from(bobPrivate)).publicKey).toEqual(bobPublic);
  });

  it("makes the message an independent implementation made", () => {
    const sealed = sealForNode(bobPublic, Secret.from(vector.plaintext), context, {
      random: scriptedRandom([vector.ephemeralPrivate, vector.nonce]),
    });
    expect(sealed).toBe(vector.sealed);
  });

  it("opens the message an independent implementation made", () => {
    const opened = openSealed(sealingKeyPairFromPrivate(Secret.from(bobPrivate)), vector.sealed, context);
    expect(opened.reveal().toString()).toBe(vector.plaintext);
  });

  it("uses another ephemeral key and nonce for every message", () => {
    const pair = generateSealingKeyPair(random);
    const seal = (): string => sealForNode(pair.publicKey, Secret.from("same"), context, { random });
    expect(seal().slice(3, 60)).not.toBe(seal().slice(3, 60));
  });

  it("round-trips the empty and the longest secret and refuses a longer one", () => {
    const pair = generateSealingKeyPair(random);
    for (const length of [0, 1, 8192]) {
      const sealed = sealForNode(pair.publicKey, Secret.from(Buffer.alloc(length, 7)), context, { random });
      expect(openSealed(pair, sealed, context).reveal()).toEqual(Buffer.alloc(length, 7));
    }
    const tooLong = Secret.from(Buffer.alloc(8193));
    expect(codeOf(() => sealForNode(pair.publicKey, tooLong, context, { random }))).toBe("SEALING_TOO_LARGE");
  });

  it("does not open after any single bit of the message was changed", () => {
    const pair = sealingKeyPairFromPrivate(Secret.from(bobPrivate));
    const bytes = Buffer.from(vector.sealed.slice(3), "base64url");
    for (let index = 0; index < bytes.length; index += 1) {
      // The top bit of an X25519 public key is masked off on use (RFC 7748 §5), yet our salt covers it too.
      for (const bit of [0x01, 0x80]) {
        const changed = Buffer.from(bytes);
        changed[index]! ^= bit;
        const sealed = `v1.${changed.toString("base64url")}`;
        expect(codeOf(() => openSealed(pair, sealed, context))).toBe("SEALING_OPEN_FAILED");
      }
    }
  });

  it.each([
    ["another volume", { volumeHandle: "vol-2", nodeId: "node-1" }],
    ["another node", { volumeHandle: "vol-1", nodeId: "node-2" }],
    ["the same letters split elsewhere", { volumeHandle: "vol-1n", nodeId: "ode-1" }],
  ])("does not open for %s", (_title, other) => {
    const pair = sealingKeyPairFromPrivate(Secret.from(bobPrivate));
    expect(codeOf(() => openSealed(pair, vector.sealed, other))).toBe("SEALING_OPEN_FAILED");
  });

  it("does not open with another node's key", () => {
    const other = generateSealingKeyPair(random);
    expect(codeOf(() => openSealed(other, vector.sealed, context))).toBe("SEALING_OPEN_FAILED");
  });

  it.each(["", "v1.", "v2.AAAA", "v1.!!!!", `v1.${"A".repeat(20)}`, `v1.${"A".repeat(20_000)}`])(
    "refuses what is no message: %.20s",
    (text) => {
      const pair = sealingKeyPairFromPrivate(Secret.from(bobPrivate));
      expect(codeOf(() => openSealed(pair, text, context))).toBe("SEALING_FORMAT");
    },
  );

  it("refuses an ephemeral key of low order, whose shared secret everybody knows", () => {
    const pair = sealingKeyPairFromPrivate(Secret.from(bobPrivate));
    const bytes = Buffer.from(vector.sealed.slice(3), "base64url");
    bytes.fill(0, 0, 32);
    expect(codeOf(() => openSealed(pair, `v1.${bytes.toString("base64url")}`, context))).toBe("SEALING_OPEN_FAILED");
  });

  it("refuses keys of a wrong length", () => {
    expect(codeOf(() => sealingKeyPairFromPrivate(Secret.from(Buffer.alloc(31))))).toBe("SEALING_KEY_INVALID");
    const seal = (): string => sealForNode(Buffer.alloc(33), Secret.from("x"), context, { random });
    expect(codeOf(seal)).toBe("SEALING_KEY_INVALID");
  });

  it("never prints the private key", () => {
    const pair = sealingKeyPairFromPrivate(Secret.from(bobPrivate));
    const printed = inspect(pair, { depth: 9 }) + JSON.stringify(pair);
    expect(printed).toContain("[redacted]");
    expect(printed).not.toContain(bobPrivate.toString("hex").slice(0, 8));
  });
});
