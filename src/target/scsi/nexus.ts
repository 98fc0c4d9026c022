/**
 * An I_T nexus as the SCSI layer sees it: one initiator port, met at one target port. `id` names the pair, and is what
 * reservations and unit attentions are kept under: an initiator port is another nexus at another portal group.
 */
export interface Nexus {
  /** As `nexusIdOf` makes it: unique within a target. */
  readonly id: string;
  /** The initiator port's name (RFC 7143 §4.2.7.1: node name, `,i,0x`, ISID). */
  readonly portName: string;
  readonly initiatorName: string;
  /** Six bytes. */
  readonly isid: Buffer;
  /** The target port met: our portal groups are numbered from 1, and one is one target port. */
  readonly relativePortId: number;
  /** What the session agreed on (RFC 7144 §7.1.1). Absent for a nexus that is known by name only. */
  readonly iscsiProtocolLevel?: number;
}

/** The initiator port name of RFC 7143 §4.2.7.1 (also the TransportID's text, SPC-5 §7.6.4.6). */
export function initiatorPortName(initiatorName: string, isid: Buffer): string {
  return `${initiatorName},i,0x${isid.toString("hex")}`;
}

/** The name of the nexus of an initiator port and one of our target ports (RFC 7143 §4.2.7.1, without our node name). */
export function nexusIdOf(portName: string, relativePortId: number): string {
  return `${portName},t,0x${relativePortId.toString(16).padStart(4, "0")}`;
}
