/** How a volume is protected from writers of other nodes, as tables and the control socket show it. */
export interface ReservationStatus {
  /** The setting `fencing`: `off`, `auto` or `required`. */
  readonly mode: string;
  /** What became of it, in one word: `held`, `none`, `lost` and the like. */
  readonly state: string;
  /** Reservation key of this node, in hexadecimal; empty when it has none. */
  readonly key: string;
  /** Key of the node that holds the reservation, in hexadecimal; empty when nobody does, or when it is not known. */
  readonly holderKey: string;
}
