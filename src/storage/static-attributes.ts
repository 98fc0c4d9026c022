import { z } from "zod";
import type { DigestChoice, PortalAddress } from "../base/access.js";
import { errorMessage } from "../base/errors.js";
import { MAX_PORTALS_PER_VOLUME } from "../base/limits.js";
import { isIscsiName } from "../base/node-id.js";
import { DEFAULT_ISCSI_PORT, parsePortal } from "../base/portal.js";
import { INITIATOR_SETTING_NAMES, type InitiatorSettings, parseInitiatorSettings } from "../initiator/settings.js";
import { StorageError } from "./backend.js";
import { isSecretLikeName } from "./secret-names.js";

/** A volume of an array somebody set up, as its PersistentVolume describes it. */
export interface StaticAttributes {
  readonly portals: readonly PortalAddress[];
  readonly targetName: string;
  readonly lun: number;
  /** `naa.…`, `eui.…`; empty: learned at the first attach. */
  readonly deviceId: string;
  /** The node must be given CHAP credentials by its node-stage secret. */
  readonly isChapRequired: boolean;
  readonly headerDigest: DigestChoice | undefined;
  readonly dataDigest: DigestChoice | undefined;
  /** The name csi-driver-iscsi has for it; never used, since a node logs in under one name. */
  readonly initiatorName: string | undefined;
}

/**
 * Attribute names: ours, and beside them those of kubernetes-csi/csi-driver-iscsi, so that its PersistentVolumes work
 * unchanged apart from the secret.
 */
const NAMES = {
  portal: ["targetPortal"],
  portals: ["portals"],
  target: ["targetIQN", "iqn"],
  lun: ["lun"],
  deviceId: ["naa", "deviceId"],
  headerDigest: ["headerDigest"],
  dataDigest: ["dataDigest"],
  sessionChap: ["sessionCHAPAuth"],
  // Discovery is never made for these volumes, so its CHAP and the interface have nothing to say.
  ignored: ["discoveryCHAPAuth", "iscsiInterface"],
  initiatorName: ["initiatorName"],
} as const;

/** Beside them, settings of the initiator have names of their own: they travel on to the node as they are. */
const KNOWN = new Set<string>([...Object.values(NAMES).flat(), ...INITIATOR_SETTING_NAMES]);

type Attributes = Readonly<Record<string, string>>;

/** Do these attributes describe a static volume at all? */
export function hasStaticAttributes(attributes: Attributes): boolean {
  return NAMES.target.some((name) => name in attributes);
}

/** Reads the attributes. STORAGE_INVALID or INITIATOR_SETTING_INVALID names the attribute and says what to write. */
export function parseStaticAttributes(attributes: Attributes): StaticAttributes {
  rejectStrangers(attributes);
  parseVolumeSettings(attributes);
  const targetName = pick(attributes, NAMES.target);
  if (targetName === undefined || !isIscsiName(targetName)) {
    throw invalid("targetIQN", targetName, "write the target's name, such as iqn.2001-05.com.example:disk1");
  }
  return {
    portals: parsePortals(attributes),
    targetName,
    lun: parseLun(pick(attributes, NAMES.lun)),
    deviceId: parseDeviceId(pick(attributes, NAMES.deviceId) ?? ""),
    isChapRequired: parseBoolean("sessionCHAPAuth", pick(attributes, NAMES.sessionChap)),
    headerDigest: parseDigest("headerDigest", pick(attributes, NAMES.headerDigest)),
    dataDigest: parseDigest("dataDigest", pick(attributes, NAMES.dataDigest)),
    initiatorName: pick(attributes, NAMES.initiatorName),
  };
}

/** Is this the name of a setting of the initiator that volumes may have? */
export function isVolumeSetting(name: string): boolean {
  return INITIATOR_SETTING_NAMES.includes(name);
}

/** The settings of the initiator among these attributes. INITIATOR_SETTING_INVALID names the one that is wrong. */
export function parseVolumeSettings(attributes: Attributes): InitiatorSettings {
  return parseInitiatorSettings(
    Object.fromEntries(Object.entries(attributes).filter(([name]) => isVolumeSetting(name))),
  );
}

/** `none`, `crc32c`, `prefer-crc32c`, or undefined when not given. STORAGE_INVALID otherwise. */
export function parseDigest(name: string, value: string | undefined): DigestChoice | undefined {
  switch (value) {
    case undefined:
    case "none":
    case "crc32c":
    case "prefer-crc32c":
      return value;
    default:
      throw invalid(name, value, "write none, crc32c or prefer-crc32c");
  }
}

function rejectStrangers(attributes: Attributes): void {
  for (const name of Object.keys(attributes)) {
    if (KNOWN.has(name)) continue;
    // Kubernetes adds names of its own, such as storage.kubernetes.io/csiProvisionerIdentity.
    if (name.includes("/")) continue;
    if (isSecretLikeName(name)) {
      throw new StorageError(
        "STORAGE_INVALID",
        `volume attribute "${name}" looks like a secret, and a PersistentVolume is no place for one; ` +
          "remove it and name a Kubernetes Secret in nodeStageSecretRef",
      );
    }
    throw new StorageError(
      "STORAGE_INVALID",
      `volume attribute "${name}" is not known; known: ${[...KNOWN].join(", ")}`,
    );
  }
}

function parsePortals(attributes: Attributes): readonly PortalAddress[] {
  const first = pick(attributes, NAMES.portal);
  const texts = [...(first === undefined ? [] : [first]), ...parsePortalList(pick(attributes, NAMES.portals))];
  if (texts.length === 0) {
    throw new StorageError("STORAGE_INVALID", `volume attribute "targetPortal" is missing; write HOST:PORT`);
  }
  if (texts.length > MAX_PORTALS_PER_VOLUME) {
    throw new StorageError(
      "STORAGE_INVALID",
      `${texts.length} portals are over the limit of ${MAX_PORTALS_PER_VOLUME}`,
    );
  }
  const portals = new Map<string, PortalAddress>();
  for (const text of texts) {
    const portal = parseOnePortal(text);
    portals.set(`${portal.host} ${portal.port}`, portal);
  }
  return [...portals.values()];
}

/** A JSON list of texts, as csi-driver-iscsi has it, or texts with commas between. */
function parsePortalList(text: string | undefined): readonly string[] {
  if (text === undefined || text.trim() === "") return [];
  if (!text.trimStart().startsWith("[") || /^\s*\[[0-9a-fA-F:]+\]/.test(text)) {
    return text
      .split(",")
      .map((part) => part.trim())
      .filter((part) => part !== "");
  }
  try {
    return z.array(z.string()).parse(JSON.parse(text));
  } catch {
    throw invalid("portals", text, `write a JSON list such as ["10.0.0.1:${DEFAULT_ISCSI_PORT}"]`);
  }
}

function parseOnePortal(text: string): PortalAddress {
  try {
    return parsePortal(text);
  } catch (error) {
    throw new StorageError("STORAGE_INVALID", errorMessage(error), { cause: error });
  }
}

function parseLun(text: string | undefined): number {
  const lun = Number(text ?? "0");
  if (/^\d{1,5}$/.test(text ?? "0") && lun <= 16_383) return lun;
  throw invalid("lun", text, "write a whole number from 0 to 16383");
}

function parseDeviceId(text: string): string {
  if (text === "") return "";
  const canonical = text.toLowerCase().replace(/^0x/, "naa.");
  const named = /^[0-9a-f]+$/.test(canonical) ? `naa.${canonical}` : canonical;
  if (/^(naa\.([0-9a-f]{16}|[0-9a-f]{32})|eui\.([0-9a-f]{16}|[0-9a-f]{24}|[0-9a-f]{32}))$/.test(named)) return named;
  if (/^(t10|serial)\./.test(text)) return text;
  throw invalid("naa", text, "write naa. and 16 or 32 hexadecimal digits, as the array shows them");
}

function parseBoolean(name: string, value: string | undefined): boolean {
  if (value === undefined || value === "" || value === "false") return false;
  if (value === "true") return true;
  throw invalid(name, value, "write true or false");
}

function pick(attributes: Attributes, names: readonly string[]): string | undefined {
  const given = names.flatMap((name) => {
    const value = attributes[name];
    return value === undefined ? [] : [{ name, value }];
  });
  const [first, second] = given;
  if (first !== undefined && second !== undefined && first.value !== second.value) {
    throw new StorageError(
      "STORAGE_INVALID",
      `volume attributes "${first.name}" and "${second.name}" mean the same and differ; keep one`,
    );
  }
  return first?.value;
}

function invalid(name: string, value: string | undefined, remedy: string): StorageError {
  const problem = value === undefined ? "is missing" : `is "${value}"`;
  return new StorageError("STORAGE_INVALID", `volume attribute "${name}" ${problem}; ${remedy}`);
}
