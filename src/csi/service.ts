import type { Logger } from "../base/logger.js";
import type { CsiServiceName } from "./proto.js";

/** What a call carries beside its request. */
export interface CallContext {
  /** Aborts when the caller goes away or its deadline passes. */
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

/** One RPC: the request as the wire had it, in; the response, out. Errors are AppErrors. */
export type UnaryMethod = (request: unknown, context: CallContext) => Promise<object>;

/** A service as the server takes it. RPCs that are not there are answered UNIMPLEMENTED. */
export interface CsiService {
  readonly name: CsiServiceName;
  readonly methods: Readonly<Record<string, UnaryMethod>>;
}
