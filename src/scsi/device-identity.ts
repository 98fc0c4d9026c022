import type { Designator } from "./designators.js";

export interface IdentitySources {
  /** Of VPD page 83h; empty when the device has none. */
  readonly designators: readonly Designator[];
  /** Of standard INQUIRY data. */
  readonly vendor: string;
  /** Of VPD page 80h; empty when the device has none. */
  readonly serial: string;
}

/** IEEE Registered Extended before Registered, Extended, and only then what an administrator chose locally. */
const naaOrder = ["6", "5", "2", "3"];

/**
 * The canonical name of a logical unit: its strongest designator as `naa.<hex>`, `eui.<hex>`, `uuid.<uuid>` or
 * `t10.<vendor>.<text>`, else `serial.<vendor>.<serial>`, else empty. Among several of one kind the choice does not
 * depend on their order, which differs between the ports of some arrays. Designators of all zeroes name nothing.
 */
export function selectDeviceId({ designators, vendor, serial }: IdentitySources): string {
  const ofUnit = designators.filter(({ association }) => association === "logical-unit");
  return (
    strongestNaa(ofUnit) ??
    strongestEui(ofUnit) ??
    strongestUuid(ofUnit) ??
    strongestT10(ofUnit) ??
    fromSerial(vendor, serial)
  );
}

function strongestNaa(designators: readonly Designator[]): string | undefined {
  const values = designators.flatMap((designator) => (designator.kind === "naa" ? [designator.hex] : []));
  const usable = values.filter((hex) => /[1-9a-f]/.test(hex.slice(1)));
  usable.sort((a, b) => naaOrder.indexOf(a.charAt(0)) - naaOrder.indexOf(b.charAt(0)) || compareText(a, b));
  return usable[0] === undefined ? undefined : `naa.${usable[0]}`;
}

function strongestEui(designators: readonly Designator[]): string | undefined {
  const values = designators.flatMap((designator) => (designator.kind === "eui" ? [designator.hex] : []));
  const usable = values.filter((hex) => /[1-9a-f]/.test(hex));
  usable.sort((a, b) => b.length - a.length || compareText(a, b));
  return usable[0] === undefined ? undefined : `eui.${usable[0]}`;
}

function strongestUuid(designators: readonly Designator[]): string | undefined {
  const values = designators.flatMap((designator) => (designator.kind === "uuid" ? [designator.uuid] : []));
  values.sort(compareText);
  return values[0] === undefined ? undefined : `uuid.${values[0]}`;
}

function strongestT10(designators: readonly Designator[]): string | undefined {
  const values = designators.flatMap((designator) =>
    designator.kind === "t10" && designator.text !== ""
      ? [`t10.${plain(designator.vendor)}.${plain(designator.text)}`]
      : [],
  );
  values.sort(compareText);
  return values[0];
}

function fromSerial(vendor: string, serial: string): string {
  return serial === "" ? "" : `serial.${plain(vendor)}.${plain(serial)}`;
}

/** Names end up in file names, sysfs attributes and logs: everything but plain characters becomes `_`. */
function plain(text: string): string {
  return text.trim().replace(/[^A-Za-z0-9:._+-]+/g, "_");
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
