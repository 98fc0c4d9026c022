import * as pr from "../../../src/scsi/persistent-reserve.js";

const bytes = (hex: string): Buffer => Buffer.from(hex.replace(/\s/g, ""), "hex");
const truncated = expect.objectContaining({ code: "SCSI_DATA_TRUNCATED" }) as Error;
const key = "c1a551f1ed0000ff";
const iscsiPort = "iqn.a:b,i,0x800000000001";
// TransportID: format 01b, protocol 5, length 0x1c, name, NUL, padding to a multiple of four (24 + 1 -> 28)
const transportId = "45 00 001c 69716e2e613a622c692c3078383030303030303030303031 00 000000";

describe("PERSISTENT RESERVE IN (SPC-5 §6.16)", () => {
  it("READ KEYS", () => {
    const golden = bytes(`00000007 00000010 ${key} 0000000000000001`);
    const data = { generation: 7, keys: [key, "0000000000000001"] };
    expect(pr.decodeReservationKeys(golden)).toEqual(data);
    expect(pr.encodeReservationKeys(data).toString("hex")).toBe(golden.toString("hex"));
    expect(() => pr.decodeReservationKeys(golden.subarray(0, 16))).toThrow(truncated);
  });

  it("READ RESERVATION", () => {
    const golden = bytes(`00000003 00000010 ${key} 00000000 00 05 0000`);
    const data = { generation: 3, holder: { key, scope: 0, type: 5 } };
    expect(pr.decodeReservation(golden)).toEqual(data);
    expect(pr.encodeReservation(data).toString("hex")).toBe(golden.toString("hex"));
    expect(pr.decodeReservation(bytes("00000003 00000000"))).toEqual({ generation: 3 });
    expect(pr.encodeReservation({ generation: 3 }).toString("hex")).toBe("0000000300000000");
  });

  it("REPORT CAPABILITIES", () => {
    const golden = bytes("0008 1d 81 ea01 0000");
    const data = {
      canPersistThroughPowerLoss: true,
      canRegisterAllTargetPorts: true,
      canSpecifyInitiatorPorts: true,
      isCompatibleReservationHandling: true,
      isPersistingThroughPowerLoss: true,
      types: [7, 6, 5, 3, 1, 8],
    };
    expect(pr.decodeReservationCapabilities(golden)).toEqual(data);
    expect(pr.encodeReservationCapabilities(data).toString("hex")).toBe(golden.toString("hex"));
    expect(pr.decodeReservationCapabilities(bytes("0008 00 00 ea01 0000")).types).toEqual([]);
  });

  it("READ FULL STATUS with an iSCSI TransportID", () => {
    const golden = bytes(`00000002 00000038 ${key} 00000000 01 05 00000000 0001 00000020 ${transportId}`);
    const data = {
      generation: 2,
      registrations: [
        {
          key,
          isHolder: true,
          isAllTargetPorts: false,
          scope: 0,
          type: 5,
          relativeTargetPort: 1,
          initiatorPort: iscsiPort,
        },
      ],
    };
    expect(pr.decodeReservationFullStatus(golden)).toEqual(data);
    expect(pr.encodeReservationFullStatus(data).toString("hex")).toBe(golden.toString("hex"));
    expect(() => pr.decodeReservationFullStatus(bytes(`00000002 00000018 ${key} ${"00".repeat(12)} 00000020`))).toThrow(
      truncated,
    );
  });
});

describe("PERSISTENT RESERVE OUT (SPC-5 §6.17)", () => {
  it("parameter list", () => {
    const list = {
      key: pr.NO_RESERVATION_KEY,
      serviceActionKey: key,
      isPersistentThroughPowerLoss: true,
      isAllTargetPorts: false,
    };
    const golden = bytes(`0000000000000000 ${key} 00000000 01 000000`);
    expect(pr.encodePersistentReserveOutList(list).toString("hex")).toBe(golden.toString("hex"));
    expect(pr.decodePersistentReserveOutList(golden)).toEqual(list);
    expect(() => pr.decodePersistentReserveOutList(golden.subarray(1))).toThrow(truncated);
  });

  it("parameter list with initiator ports", () => {
    const golden = bytes(`0000000000000000 ${key} 00000000 08 000000 00000020 ${transportId}`);
    const list = {
      key: pr.NO_RESERVATION_KEY,
      serviceActionKey: key,
      isPersistentThroughPowerLoss: false,
      isAllTargetPorts: false,
      initiatorPorts: [iscsiPort],
    };
    expect(pr.decodePersistentReserveOutList(golden)).toEqual(list);
    expect(pr.encodePersistentReserveOutList(list).toString("hex")).toBe(golden.toString("hex"));
    expect(() => pr.decodePersistentReserveOutList(golden.subarray(0, 40))).toThrow(truncated);
  });

  it("REGISTER AND MOVE", () => {
    const golden = bytes(`0000000000000001 ${key} 00 03 0102 00000020 ${transportId}`);
    const list = {
      key: "0000000000000001",
      serviceActionKey: key,
      unregisters: true,
      isPersistentThroughPowerLoss: true,
      relativeTargetPort: 0x102,
      initiatorPort: iscsiPort,
    };
    expect(pr.decodeRegisterAndMoveList(golden)).toEqual(list);
    expect(pr.encodeRegisterAndMoveList(list).toString("hex")).toBe(golden.toString("hex"));
  });

  it("refuses what is not a key", () => {
    for (const bad of ["", "1", "C1A551F1ED0000FF", `${key}00`]) {
      expect(() => pr.reservationKeyBytes(bad)).toThrow(expect.objectContaining({ code: "SCSI_ARGUMENT_INVALID" }));
    }
  });

  it("a TransportID of a device without ISID has format 00b and at least 20 bytes of name", () => {
    const id = pr.encodeTransportId("iqn.a:b");
    expect(id.subarray(0, 4).toString("hex")).toBe("05000014");
    expect(pr.decodeTransportId(id)).toBe("iqn.a:b");
    expect(() => pr.decodeTransportId(id.subarray(0, 8))).toThrow(truncated);
    // istgt leaves the header out, and pads.
    const bare = Buffer.from("iqn.a:b,i,0x8000000000010\0\0\0", "latin1");
    expect(pr.decodeTransportId(bare)).toBe("iqn.a:b,i,0x8000000000010");
  });
});
