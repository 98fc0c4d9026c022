import type { PortalAddress } from "../../../src/base/access.js";
import type { TargetDefinition, TargetServer, TargetSessionStatus } from "../../../src/target/api.js";

/** A TargetServer that only remembers. `failNext` makes one coming call of a method fail. */
export class FakeTargetServer implements TargetServer {
  readonly portals: readonly PortalAddress[] = [{ host: "127.0.0.1", port: 3260 }];
  readonly targets = new Map<string, TargetDefinition>();
  isStarted = false;
  #failing: string | undefined;

  failNext(method: "addTarget" | "removeTarget" | "setAccess"): void {
    this.#failing = method;
  }

  start(): Promise<void> {
    this.isStarted = true;
    return Promise.resolve();
  }

  addTarget(definition: TargetDefinition): void {
    this.#maybeFail("addTarget");
    if (this.targets.has(definition.name)) throw new Error(`target ${definition.name} is there already`);
    this.targets.set(definition.name, definition);
  }

  // eslint-disable-next-line @typescript-eslint/require-await
  async removeTarget(name: string): Promise<void> {
    this.#maybeFail("removeTarget");
    this.targets.delete(name);
  }

  // eslint-disable-next-line @typescript-eslint/require-await
  async setAccess(name: string, access: TargetDefinition["access"]): Promise<void> {
    this.#maybeFail("setAccess");
    const target = this.targets.get(name);
    if (target === undefined) throw new Error(`no target ${name}`);
    this.targets.set(name, { ...target, access });
  }

  /** Who may log in to the only target there is. */
  initiators(): readonly string[] {
    const [target, ...others] = [...this.targets.values()];
    if (target === undefined || others.length > 0) throw new Error(`${this.targets.size} targets`);
    return target.access.kind === "list" ? target.access.rules.map((rule) => rule.initiatorName) : ["any"];
  }

  sessions(): readonly TargetSessionStatus[] {
    return [];
  }

  stop(): Promise<void> {
    this.isStarted = false;
    return Promise.resolve();
  }

  #maybeFail(method: string): void {
    if (this.#failing !== method) return;
    this.#failing = undefined;
    throw new Error(`${method} was told to fail`);
  }
}
