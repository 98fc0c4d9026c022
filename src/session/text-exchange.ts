import { LUN_ZERO } from "../base/lun.js";
import { MAX_TEXT_EXCHANGES } from "../base/limits.js";
import { RESERVED_TAG } from "../wire/constants.js";
import { TextAssembler, decodeTextKeys, encodeTextKeys, splitText } from "../wire/text-keys.js";
import type { TextResponsePdu } from "../wire/pdu.js";
import type { Connection } from "./connection.js";
import { SessionError, protocolError } from "./errors.js";
import { type SessionContext, request } from "./session-context.js";

const NO_DATA = Buffer.alloc(0);

/**
 * One text negotiation in full feature phase (RFC 7143 §6.4, §11.10): sends `pairs`, follows the answer over as many
 * PDUs as it takes, up to `maxBytes`. One at a time per session. Rejects with SessionError or ProtocolError.
 */
export async function exchangeText(
  context: SessionContext,
  pairs: readonly (readonly [string, string])[],
  options: { readonly maxBytes: number; readonly connection?: Connection | undefined },
): Promise<[string, string][]> {
  const tag = context.controls.allocateTag();
  // All of it over one connection, which the target may have named (§11.9.1, event 4).
  const { maxBytes, connection = context.connection } = options;
  const segmentBytes = connection?.parameters.targetMaxRecvDataSegmentLength ?? 8192;
  const segments = splitText(encodeTextKeys(pairs), segmentBytes);
  const assembler = new TextAssembler(maxBytes);
  let previous: TextResponsePdu | undefined;
  for (let count = 0; count < MAX_TEXT_EXCHANGES; count += 1) {
    const data = segments.shift() ?? NO_DATA;
    const answer = await send(context, { tag, data, isContinued: segments.length > 0, previous, connection });
    if (answer.data.length > 0) assembler.append(answer.data);
    if (answer.isFinal) {
      if (segments.length > 0) throw protocolError("§6.2", "the target ended a text negotiation before our text did");
      return decodeTextKeys(assembler.finish());
    }
    previous = answer;
  }
  throw new SessionError("SESSION_PROTOCOL", `a text negotiation did not end after ${MAX_TEXT_EXCHANGES} exchanges`);
}

function send(
  context: SessionContext,
  part: {
    readonly tag: number;
    readonly data: Buffer;
    readonly isContinued: boolean;
    readonly previous: TextResponsePdu | undefined;
    readonly connection: Connection | undefined;
  },
): Promise<TextResponsePdu> {
  const { tag, data, isContinued, previous, connection } = part;
  const { textTimeoutMs } = context.timers;
  return request(
    context,
    { what: "Text Request", answer: "text-response", timeoutMs: textTimeoutMs, tag, connection },
    (numbers) => ({
      type: "text-request",
      isImmediate: true,
      isFinal: !isContinued,
      isContinued,
      lun: previous?.lun ?? LUN_ZERO,
      initiatorTaskTag: tag,
      targetTransferTag: previous?.targetTransferTag ?? RESERVED_TAG,
      cmdSn: numbers.cmdSn,
      expStatSn: numbers.expStatSn,
      data,
    }),
  );
}
