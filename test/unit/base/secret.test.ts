import { format, inspect } from "node:util";
import { Secret } from "../../../src/base/secret.js";

const CANARY = "canary-8b1f2c";

describe("Secret", () => {
  it.each<[string, (secret: Secret) => string]>([
    ["String()", (secret) => String(secret)],
    ["a template", (secret) => `is ${secret as unknown as string}`],
    ["joining", (secret) => [secret, secret].join()],
    ["JSON", (secret) => JSON.stringify({ secret })],
    ["inspect", (secret) => inspect({ secret }, { depth: 9, showHidden: true })],
    ["format", (secret) => format("%s %o %j", secret, secret, secret)],
    ["an error's cause", (secret) => inspect(new Error("x", { cause: secret }))],
    ["its keys", (secret) => JSON.stringify(Object.entries(secret))],
  ])("is not printed by %s", (_name, print) => {
    const text = print(Secret.from(CANARY));
    expect(text).not.toContain(CANARY);
    expect(text).not.toContain(Buffer.from(CANARY).toString("hex"));
    expect(text).not.toContain(Buffer.from(CANARY).toString("hex").match(/../g)?.slice(0, 4).join(" "));
  });

  it("gives its bytes only to who asks for them, and keeps a copy of its own", () => {
    const bytes = Buffer.from(CANARY);
    const secret = Secret.from(bytes);
    bytes.fill(0);
    expect(secret.reveal().toString()).toBe(CANARY);
    expect(secret.lengthBytes).toBe(CANARY.length);
  });

  it("is gone after wipe", () => {
    const secret = Secret.from(CANARY);
    secret.wipe();
    expect(secret.reveal().every((byte) => byte === 0)).toBe(true);
  });
});
