/**
 * An I_T nexus as the SCSI layer sees it: one initiator port, met at one target port. `portName` is the initiator
 * port's name (RFC 7143 §4.2.7.1: node name, `,i,0x`, ISID), the identity reservations are held under.
 */
export interface Nexus {
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
