/** How often a target repaired something, over all its sessions since it began. */
export interface RecoveryTally {
  dataSnacks: number;
  statusSnacks: number;
  dataAcks: number;
  rDataSnacks: number;
  recoveryR2ts: number;
  dataDigestErrors: number;
  /** Connections that were logged out for recovery, explicitly or by reinstatement. */
  connectionRecoveries: number;
  taskReassigns: number;
}

export function createRecoveryTally(): RecoveryTally {
  return {
    dataSnacks: 0,
    statusSnacks: 0,
    dataAcks: 0,
    rDataSnacks: 0,
    recoveryR2ts: 0,
    dataDigestErrors: 0,
    connectionRecoveries: 0,
    taskReassigns: 0,
  };
}
