import { lunFromNumber } from "../../../src/base/lun.js";
import { listLuns } from "../../../src/discovery/list-luns.js";
import { openSession, sense, settle } from "../../support/session-fixture.js";

/** REPORT LUNS data by hand (SPC-5 §6.33): length, reserved, eight bytes for each unit. */
function reportLunsData(count: number): Buffer {
  const bytes = Buffer.alloc(8 + 8 * count);
  bytes.writeUInt32BE(8 * count, 0);
  for (let index = 0; index < count; index += 1) bytes[8 + 8 * index + 1] = index;
  return bytes;
}

describe("listLuns", () => {
  test("a list longer than the first question is asked for again, whole; unit attentions are absorbed", async () => {
    let isFirst = true;
    const data = reportLunsData(256);
    const { session, target, clock } = await openSession({
      target: {
        onPdu: (connection, pdu) => {
          if (pdu.type !== "scsi-command") return;
          if (isFirst) connection.respond(pdu, { status: 2, sense: sense(6, 0x29, 0) });
          else {
            const part = data.subarray(0, pdu.expectedDataTransferLength);
            const missing = pdu.expectedDataTransferLength - part.length;
            connection.dataIn(pdu, { data: part, status: 0, ...(missing > 0 ? { underflow: missing } : {}) });
          }
          isFirst = false;
        },
      },
    });
    const luns = await settle(clock, listLuns(session));
    expect(luns).toHaveLength(256);
    expect(luns[255]).toEqual(lunFromNumber(255));
    const allocations = target.connection.ofType("scsi-command").map(({ cdb }) => [cdb[0], cdb.readUInt32BE(6)]);
    expect(allocations).toEqual([
      [0xa0, 2048],
      [0xa0, 2048],
      [0xa0, 2056],
    ]);
  });

  test("a length beyond all bounds is refused", async () => {
    const { session, clock } = await openSession({
      target: {
        onPdu: (connection, pdu) => {
          if (pdu.type !== "scsi-command") return;
          const data = Buffer.alloc(2048);
          data.writeUInt32BE(0x7fff_fff8, 0);
          connection.dataIn(pdu, { data, status: 0 });
        },
      },
    });
    await expect(settle(clock, listLuns(session))).rejects.toMatchObject({ code: "DISCOVERY_ANSWER_INVALID" });
  });
});
