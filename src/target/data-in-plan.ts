/**
 * How the Data-In of a task is cut into PDUs (RFC 7143 §11.7): from `firstOffset` to `endOffset` in segments of at most
 * `segmentBytes`, with a sequence ending every `burstBytes`. The same plan always gives the same PDUs, so that any of
 * them can be sent again as an exact replica (§11.16).
 */
export interface DataInPlan {
  readonly firstDataSn: number;
  readonly firstOffset: number;
  readonly endOffset: number;
  readonly segmentBytes: number;
  readonly burstBytes: number;
}

export interface DataInPiece {
  readonly dataSn: number;
  readonly offset: number;
  readonly length: number;
  /** Ends its sequence. */
  readonly isFinal: boolean;
  /** Fills MaxBurstLength bytes: here the A bit may ask for an acknowledgement (§11.7.2). */
  readonly isBurstEnd: boolean;
  readonly isLast: boolean;
}

/** The PDUs of a plan from `fromDataSn` up to but not including `toDataSn`. */
export function* piecesOf(plan: DataInPlan, fromDataSn: number, toDataSn: number): Generator<DataInPiece> {
  let burstLeft = plan.burstBytes;
  let dataSn = plan.firstDataSn;
  for (let offset = plan.firstOffset; offset < plan.endOffset && dataSn < toDataSn; dataSn += 1) {
    const length = Math.min(plan.segmentBytes, burstLeft, plan.endOffset - offset);
    burstLeft -= length;
    const isBurstEnd = burstLeft === 0;
    const isLast = offset + length === plan.endOffset;
    if (dataSn >= fromDataSn) yield { dataSn, offset, length, isFinal: isLast || isBurstEnd, isBurstEnd, isLast };
    offset += length;
    if (isBurstEnd) burstLeft = plan.burstBytes;
  }
}

/** The DataSN after the last PDU of the plan. */
export function nextDataSnOf(plan: DataInPlan): number {
  const bytes = plan.endOffset - plan.firstOffset;
  const perBurst = Math.ceil(plan.burstBytes / plan.segmentBytes);
  const wholeBursts = Math.floor(bytes / plan.burstBytes);
  return plan.firstDataSn + wholeBursts * perBurst + Math.ceil((bytes % plan.burstBytes) / plan.segmentBytes);
}

/** Where the PDU with `dataSn` begins; the end of the data for the DataSN after the last. */
export function offsetOf(plan: DataInPlan, dataSn: number): number {
  const perBurst = Math.ceil(plan.burstBytes / plan.segmentBytes);
  const index = Math.max(0, dataSn - plan.firstDataSn);
  const offset = Math.floor(index / perBurst) * plan.burstBytes + (index % perBurst) * plan.segmentBytes;
  return Math.min(plan.firstOffset + offset, plan.endOffset);
}

/**
 * The plan for what follows `dataSn`, for segments that may have another size (RFC 7143 §11.16.3): its first PDU has
 * the number `dataSn`.
 */
export function continuedPlan(plan: DataInPlan, dataSn: number, segmentBytes: number): DataInPlan {
  return { ...plan, firstDataSn: dataSn, firstOffset: offsetOf(plan, dataSn), segmentBytes };
}
