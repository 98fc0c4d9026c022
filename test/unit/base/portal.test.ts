import { formatPortal, parsePortal } from "../../../src/base/portal.js";

describe("parsePortal", () => {
  it.each([
    ["10.0.0.1", "10.0.0.1", 3260],
    ["10.0.0.1:3261", "10.0.0.1", 3261],
    ["array.example.org:860", "array.example.org", 860],
    ["[::1]", "::1", 3260],
    ["[2001:db8::5]:13260", "2001:db8::5", 13260],
    ["fe80::1", "fe80::1", 3260],
    [" node-1:3260 ", "node-1", 3260],
  ])("reads %s", (text, host, port) => {
    expect(parsePortal(text)).toEqual({ host, port });
  });

  it.each(["", "a b", "host:99999", "[::1", "host:12x", "[nonsense]:1", "host:"])("refuses %p", (text) => {
    expect(() => parsePortal(text)).toThrow(expect.objectContaining({ code: "PORTAL_INVALID" }));
  });

  it("writes IPv6 in brackets, so that what it writes can be read", () => {
    expect(formatPortal({ host: "::1", port: 1 })).toBe("[::1]:1");
    expect(parsePortal(formatPortal({ host: "::1", port: 1 }))).toEqual({ host: "::1", port: 1 });
    expect(formatPortal({ host: "a", port: 2 })).toBe("a:2");
  });
});
