import { createHash } from "node:crypto";
import {
  clusterPart,
  isSameCluster,
  nodePart,
  parseClusterPart,
  parseNodePart,
  reservationKey,
} from "../../../src/base/reservation-key.js";

const CLUSTER = "0123456789ab";
const invalid = expect.objectContaining({ layer: "base", code: "RESERVATION_KEY_INVALID" });

describe("the parts of a reservation key", () => {
  it("come from hashes of the cluster's id and of the node's key, each with its label", () => {
    const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
    expect(clusterPart("prod")).toBe(digest("hawser reservation key, cluster part\0prod").toString("hex", 0, 6));
    expect(nodePart("worker-1")).toBe(digest("hawser reservation key, node part\0worker-1").readUInt16BE(0));
    expect(nodePart(Buffer.from("worker-1"))).toBe(nodePart("worker-1"));
    expect(clusterPart("prod")).not.toBe(clusterPart("test"));
  });

  it("are never zero: key zero means that there is none", () => {
    // The hash of this name begins with two zero bytes.
    const name = `n${Array.from({ length: 1_000_000 }, (_, at) => at).find((at) => isZeroNode(`n${at}`))}`;
    expect(isZeroNode(name)).toBe(true);
    expect(nodePart(name)).toBe(0xffff);
  });

  it("refuses to make keys of nothing", () => {
    expect(() => clusterPart("")).toThrow(invalid);
    expect(() => nodePart("")).toThrow(invalid);
    expect(() => nodePart(Buffer.alloc(0))).toThrow(invalid);
  });
});

function isZeroNode(name: string): boolean {
  return createHash("sha256").update("hawser reservation key, node part\0").update(name).digest().readUInt16BE(0) === 0;
}

describe("a reservation key", () => {
  it("is the cluster part and the node part", () => {
    expect(reservationKey({ cluster: CLUSTER, node: 0x0c })).toBe("0123456789ab000c");
    expect(reservationKey({ cluster: CLUSTER, node: 65_535 })).toBe("0123456789abffff");
  });

  it.each([
    [{ cluster: "0123456789", node: 1 }],
    [{ cluster: "0123456789AB", node: 1 }],
    [{ cluster: "000000000000", node: 1 }],
    [{ cluster: CLUSTER, node: 0 }],
    [{ cluster: CLUSTER, node: 65_536 }],
    [{ cluster: CLUSTER, node: 1.5 }],
  ])("is not made of %j", (parts) => {
    expect(() => reservationKey(parts)).toThrow(invalid);
  });

  it("is of the same cluster as another when the first six bytes are the same", () => {
    expect(isSameCluster("0123456789ab0001", "0123456789abffff")).toBe(true);
    expect(isSameCluster("0123456789ab0001", "0123456789ac0001")).toBe(false);
    expect(() => isSameCluster("0123456789ab0001", "0123456789AB0001")).toThrow(invalid);
    expect(() => isSameCluster("", "0123456789ab0001")).toThrow(invalid);
  });
});

describe("parts that an operator sets", () => {
  it.each([
    ["0123456789ab", "0123456789ab"],
    ["0x0123456789AB", "0123456789ab"],
    [" 0123456789ab ", "0123456789ab"],
  ])("cluster %j", (text, expected) => {
    expect(parseClusterPart(text)).toBe(expected);
  });

  it.each([["0123456789a"], ["0123456789abc"], ["000000000000"], ["production"], [""]])(
    "cluster %j is refused",
    (text) => {
      expect(() => parseClusterPart(text)).toThrow(invalid);
    },
  );

  it.each([
    ["1", 1],
    ["65535", 65_535],
    ["0x1F", 31],
    [" 7 ", 7],
  ])("node %j", (text, expected) => {
    expect(parseNodePart(text)).toBe(expected);
  });

  it.each([["0"], ["0x0"], ["65536"], ["0x10000"], ["-1"], ["1.5"], ["1e3"], ["node-1"], [""]])(
    "node %j is refused",
    (text) => {
      expect(() => parseNodePart(text)).toThrow(invalid);
    },
  );
});
