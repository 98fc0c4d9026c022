import { request } from "node:https";

/** Where an API server answers and how to prove who asks. */
export interface ApiAccess {
  readonly port: number;
  /** PEM of the certificate the server shows. */
  readonly certificate: string;
  readonly token: string;
}

export interface ApiResponse {
  readonly status: number;
  readonly body: string;
}

/** The path answered with a status other than 2xx. */
export class ApiError extends Error {
  readonly status: number;

  constructor(method: string, path: string, response: ApiResponse) {
    super(`${method} ${path} answered ${response.status}: ${response.body.slice(0, 400)}`);
    this.name = "ApiError";
    this.status = response.status;
  }
}

/** What kubectl has no word for: discovery as a whole, and reviews by the hundred in a moment. */
export class ApiClient {
  readonly #access: ApiAccess;

  constructor(access: ApiAccess) {
    this.#access = access;
  }

  /** One request; rejects only when there is no answer. */
  send(method: "GET" | "POST", path: string, body?: unknown): Promise<ApiResponse> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const call = request(
        {
          host: "127.0.0.1",
          port: this.#access.port,
          path,
          method,
          ca: this.#access.certificate,
          headers: { authorization: `Bearer ${this.#access.token}`, "content-type": "application/json" },
          timeout: 30_000,
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => chunks.push(chunk));
          response.on("error", reject);
          response.on("end", () =>
            resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString("utf8") }),
          );
        },
      );
      call.on("timeout", () => call.destroy(new Error(`${method} ${path}: no answer within 30 seconds`)));
      call.on("error", reject);
      call.end(text);
    });
  }

  /** The parsed answer; rejects with an ApiError on any other status than 2xx. */
  async json(method: "GET" | "POST", path: string, body?: unknown): Promise<unknown> {
    const response = await this.send(method, path, body);
    if (response.status < 200 || response.status > 299) throw new ApiError(method, path, response);
    return JSON.parse(response.body) as unknown;
  }

  /** All that `.Capabilities.APIVersions` of Helm holds on this server: `group/version` and `group/version/Kind`. */
  async apiVersions(): Promise<string[]> {
    const list = (await this.json("GET", "/apis")) as ApiGroupList;
    const groupVersions = list.groups.flatMap((group) => group.versions.map((version) => version.groupVersion));
    const paths = ["/api/v1", ...groupVersions.map((version) => `/apis/${version}`)];
    const lists = (await Promise.all(paths.map((path) => this.json("GET", path)))) as ApiResourceList[];
    const all = lists.flatMap((each) => [
      each.groupVersion,
      ...each.resources.map((resource) => `${each.groupVersion}/${resource.kind}`),
    ]);
    return [...new Set(all)].sort();
  }
}

interface ApiGroupList {
  readonly groups: readonly { readonly versions: readonly { readonly groupVersion: string }[] }[];
}

interface ApiResourceList {
  readonly groupVersion: string;
  readonly resources: readonly { readonly kind: string }[];
}
