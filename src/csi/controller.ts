import { MAX_VOLUME_BYTES, MIN_VOLUME_BYTES } from "../base/limits.js";
import type { Random } from "../base/random.js";
import type { BackendVolume, StorageBackend } from "../storage/backend.js";
import { controllerCapabilities } from "./capabilities.js";
import { ControllerPublication } from "./controller-publish.js";
import { CsiError } from "./errors.js";
import type { InFlight } from "./in-flight.js";
import {
  controllerExpandRequest,
  controllerGetVolumeRequest,
  createVolumeRequest,
  deleteVolumeRequest,
  getCapacityRequest,
  listVolumesRequest,
  parseRequest,
  validateCapabilitiesRequest,
} from "./requests.js";
import type { CsiService } from "./service.js";
import { parseUse, readRange, rejectSecrets, requireText, requireUse, whyUnsupported } from "./validate.js";
import { splitParameters } from "./volume-context.js";

export interface ControllerDependencies {
  readonly backend: StorageBackend;
  readonly inFlight: InFlight;
  /** Fit for key material: CHAP secrets come from it. */
  readonly random: Random;
}

/** The Controller service over one storage backend. Holds no state: what is published is in the backend's grants. */
export function createControllerService(dependencies: ControllerDependencies): CsiService {
  const controller = new Controller(dependencies);
  const publication = new ControllerPublication(dependencies);
  const { capabilities } = dependencies.backend;
  return {
    name: "Controller",
    methods: {
      ControllerGetCapabilities: () =>
        Promise.resolve({ capabilities: controllerCapabilities(capabilities).map((type) => ({ rpc: { type } })) }),
      ControllerPublishVolume: (request) => publication.publish(request),
      ControllerUnpublishVolume: (request) => publication.unpublish(request),
      ValidateVolumeCapabilities: (request) => controller.validateCapabilities(request),
      ...(capabilities.canCreate
        ? {
            CreateVolume: (request: unknown) => controller.create(request),
            DeleteVolume: (request: unknown) => controller.delete(request),
          }
        : {}),
      ...(capabilities.canExpand ? { ControllerExpandVolume: (request: unknown) => controller.expand(request) } : {}),
      ...(capabilities.reportsCapacity ? { GetCapacity: (request: unknown) => controller.capacity(request) } : {}),
      ...(capabilities.canList
        ? {
            ListVolumes: (request: unknown) => controller.list(request),
            ControllerGetVolume: (request: unknown) => controller.get(request),
          }
        : {}),
    },
  };
}

class Controller {
  readonly #backend: StorageBackend;
  readonly #inFlight: InFlight;

  constructor(dependencies: ControllerDependencies) {
    this.#backend = dependencies.backend;
    this.#inFlight = dependencies.inFlight;
  }

  async create(wire: unknown): Promise<object> {
    const request = parseRequest(createVolumeRequest, wire);
    const name = requireText(request.name, "name");
    if (request.volumeCapabilities.length === 0) throw invalid("volume_capabilities is missing");
    for (const capability of request.volumeCapabilities) requireUse(capability);
    rejectSecrets(request.parameters, "parameters");
    rejectMutable(request.mutableParameters);
    if (request.volumeContentSource !== null && request.volumeContentSource !== undefined) {
      throw invalid("volume_content_source: this backend makes no volumes from snapshots or other volumes");
    }
    const range = readRange(request.capacityRange);
    const { backend: parameters, context, metadata } = splitParameters(request.parameters);
    return this.#inFlight.run(`volume name ${name}`, "CreateVolume", async () => {
      const volume = await this.#backend.create({ name, ...range, parameters, context });
      return { volume: volumeMessage({ ...volume, context: { ...volume.context, ...metadata } }) };
    });
  }

  async delete(wire: unknown): Promise<object> {
    const request = parseRequest(deleteVolumeRequest, wire);
    const volumeId = requireText(request.volumeId, "volume_id");
    return this.#inFlight.run(`volume ${volumeId}`, "DeleteVolume", async () => {
      await this.#backend.delete(volumeId);
      return {};
    });
  }

  async expand(wire: unknown): Promise<object> {
    const request = parseRequest(controllerExpandRequest, wire);
    const volumeId = requireText(request.volumeId, "volume_id");
    if (request.capacityRange === null || request.capacityRange === undefined) {
      throw invalid("capacity_range is missing");
    }
    const { requiredBytes, limitBytes } = readRange(request.capacityRange);
    if (requiredBytes === 0) throw invalid("capacity_range: required_bytes is missing");
    return this.#inFlight.run(`volume ${volumeId}`, "ControllerExpandVolume", async () => {
      const capacityBytes = await this.#backend.expand(volumeId, requiredBytes, limitBytes);
      // Block volumes too: the node's device must follow the LUN.
      return { capacityBytes, nodeExpansionRequired: true };
    });
  }

  async validateCapabilities(wire: unknown): Promise<object> {
    const request = parseRequest(validateCapabilitiesRequest, wire);
    const volumeId = requireText(request.volumeId, "volume_id");
    if (request.volumeCapabilities.length === 0) throw invalid("volume_capabilities is missing");
    const uses = request.volumeCapabilities.map(parseUse);
    if (!(await this.#backend.exists(volumeId, request.volumeContext))) throw unknownVolume(volumeId);
    const problem = uses.map(whyUnsupported).find((reason) => reason !== undefined);
    if (problem !== undefined) return { message: problem };
    if (Object.keys(request.mutableParameters).length > 0) return { message: "volumes have no mutable parameters" };
    const { volumeContext, volumeCapabilities, parameters } = request;
    return { confirmed: { volumeContext, volumeCapabilities, parameters } };
  }

  async list(wire: unknown): Promise<object> {
    const { maxEntries, startingToken } = parseRequest(listVolumesRequest, wire);
    if (maxEntries < 0) throw invalid(`max_entries is ${maxEntries}; it cannot be negative`);
    const { volumes, nextToken } = await this.#backend.list(maxEntries, startingToken);
    return {
      entries: volumes.map((volume) => ({ volume: volumeMessage(volume), status: statusMessage(volume) })),
      nextToken,
    };
  }

  async get(wire: unknown): Promise<object> {
    const request = parseRequest(controllerGetVolumeRequest, wire);
    const volume = await this.#require(requireText(request.volumeId, "volume_id"));
    return { volume: volumeMessage(volume), status: statusMessage(volume) };
  }

  async capacity(wire: unknown): Promise<object> {
    const request = parseRequest(getCapacityRequest, wire);
    if (request.volumeCapabilities.map(parseUse).some((use) => whyUnsupported(use) !== undefined)) {
      return { availableCapacity: 0 };
    }
    const { backend: parameters } = splitParameters(request.parameters);
    const availableCapacity = await this.#backend.capacityBytes(parameters);
    return {
      availableCapacity,
      maximumVolumeSize: { value: Math.min(availableCapacity, MAX_VOLUME_BYTES) },
      minimumVolumeSize: { value: MIN_VOLUME_BYTES },
    };
  }

  async #require(volumeId: string): Promise<BackendVolume> {
    const volume = await this.#backend.get(volumeId);
    if (volume === undefined) throw unknownVolume(volumeId);
    return volume;
  }
}

function unknownVolume(volumeId: string): CsiError {
  return new CsiError("CSI_NOT_FOUND", `there is no volume ${volumeId}`);
}

function volumeMessage(volume: BackendVolume): object {
  return { volumeId: volume.id, capacityBytes: volume.sizeBytes, volumeContext: volume.context };
}

function statusMessage(volume: BackendVolume): object {
  return { publishedNodeIds: volume.grants.map((grant) => grant.holder) };
}

function rejectMutable(parameters: Readonly<Record<string, string>>): void {
  const [first] = Object.keys(parameters);
  if (first !== undefined) throw invalid(`mutable_parameters: "${first}" is not known; volumes have none`);
}

function invalid(message: string): CsiError {
  return new CsiError("CSI_INVALID_ARGUMENT", message);
}
