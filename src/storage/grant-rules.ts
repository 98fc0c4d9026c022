import { StorageError, type Grant } from "./backend.js";

type Asked = Omit<Grant, "holder">;

/** An initiator that has the volume asks again: STORAGE_ALREADY_EXISTS unless for the same kind of access. */
export function sameGrant(volumeId: string, standing: Grant, asked: Asked): void {
  if (standing.isReadOnly === asked.isReadOnly && standing.isExclusive === asked.isExclusive) return;
  const kind = (grant: Asked): string =>
    `${grant.isReadOnly ? "read-only" : "read-write"}, ${grant.isExclusive ? "alone" : "shared"}`;
  throw new StorageError(
    "STORAGE_ALREADY_EXISTS",
    `volume ${volumeId} is granted to ${asked.iqn} as ${kind(standing)}, not as ${kind(asked)}`,
  );
}

/** Another initiator asks: STORAGE_BUSY when it or one of the holders wants the volume alone. */
export function conflictWith(volumeId: string, standing: readonly Grant[], asked: Asked): void {
  const holder = standing.find((grant) => grant.iqn !== asked.iqn && (grant.isExclusive || asked.isExclusive));
  if (holder === undefined) return;
  throw new StorageError(
    "STORAGE_BUSY",
    `volume ${volumeId} is granted to ${holder.iqn} and ${
      holder.isExclusive ? "belongs to it alone" : `${asked.iqn} wants it alone`
    }; unpublish it there first`,
  );
}
