import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { buildGo, type GoModule } from "./go-build.js";
import { VERSIONS } from "./layout.js";
import { progress } from "./process.js";

/** A program of the Kubernetes CSI project and the image the chart names it by. */
export interface Sidecar {
  readonly program: string;
  readonly reference: string;
}

/** A sidecar with where its program is. */
export interface BuiltSidecar extends Sidecar {
  readonly path: string;
}

/** What there is to run beside the driver. */
export interface Sidecars {
  readonly built: readonly BuiltSidecar[];
  /** Those that could not be had, each with its reason. */
  readonly missing: readonly (Sidecar & { readonly reason: string })[];
}

const REGISTRY = "registry.k8s.io/sig-storage";
const PROJECT = "github.com/kubernetes-csi";

interface Source extends Sidecar {
  readonly build: GoModule;
  /** The driver can do without it: it registers itself and answers health checks itself. */
  readonly isOptional: boolean;
}

function source(program: string, repository: string, major: string, version: string, isOptional = false): Source {
  const module = `${PROJECT}/${repository}${major}`;
  return {
    program,
    reference: `${REGISTRY}/${program}:${version}`,
    isOptional,
    build: {
      name: program,
      module,
      version,
      programs: { [program]: `${module}/cmd/${program}` },
      variables: { "main.version": version },
    },
  };
}

const SOURCES: readonly Source[] = [
  source("csi-provisioner", "external-provisioner", "/v6", VERSIONS.provisioner),
  source("csi-attacher", "external-attacher", "/v4", VERSIONS.attacher),
  source("csi-resizer", "external-resizer", "/v2", VERSIONS.resizer),
  source("csi-node-driver-registrar", "node-driver-registrar", "", VERSIONS.registrar, true),
  source("livenessprobe", "livenessprobe", "", VERSIONS.livenessprobe, true),
];

/**
 * Builds the sidecars that are not in the cache. Programs in the folder `HAWSER_E2E_PROGRAMS` are taken as they are.
 * Throws when one cannot be built that the driver needs; the others are reported as missing.
 */
export async function ensureSidecars(): Promise<Sidecars> {
  const built: BuiltSidecar[] = [];
  const missing: (Sidecar & { reason: string })[] = [];
  const given = process.env["HAWSER_E2E_PROGRAMS"];
  for (const { program, reference, build, isOptional } of SOURCES) {
    const own = given === undefined ? undefined : resolve(given, program);
    if (own !== undefined && existsSync(own)) {
      built.push({ program, reference, path: own });
      continue;
    }
    try {
      built.push({ program, reference, path: join(await buildGo(build), program) });
    } catch (error) {
      if (!isOptional) throw error;
      const text = error instanceof Error ? error.message : String(error);
      const reason = `${build.module} ${build.version} cannot be built here: ${text}`;
      missing.push({ program, reference, reason });
      progress(`no ${program}: ${reason}`);
    }
  }
  return { built, missing };
}
