import { formatTargetAddress, parseTargetAddress, RedirectFollower } from "../../../src/login/redirect.js";

describe("TargetAddress", () => {
  // The first four are the examples of RFC 7143 §13.8.
  it.each([
    ["10.0.0.1:5003,1", { host: "10.0.0.1", port: 5003, portalGroupTag: 1 }],
    ["[1080:0:0:0:8:800:200C:417A],65", { host: "1080:0:0:0:8:800:200C:417A", port: 3260, portalGroupTag: 65 }],
    ["[1080::8:800:200C:417A]:5003,1", { host: "1080::8:800:200C:417A", port: 5003, portalGroupTag: 1 }],
    ["computingcenter.example.com,23", { host: "computingcenter.example.com", port: 3260, portalGroupTag: 23 }],
    ["10.0.0.1", { host: "10.0.0.1", port: 3260 }],
    ["[::1]", { host: "::1", port: 3260 }],
    ["[fe80::1%eth0]:3261", { host: "fe80::1%eth0", port: 3261 }],
    ["10.0.0.1:3260,0", { host: "10.0.0.1", port: 3260, portalGroupTag: 0 }],
    ["10.0.0.1:3260,0xffff", { host: "10.0.0.1", port: 3260, portalGroupTag: 65_535 }],
  ])("reads %s", (text, expected) => {
    expect(parseTargetAddress(text)).toEqual(expected);
  });

  it.each([
    "",
    ":3260",
    "host:",
    "host:0",
    "host:65536",
    "host,65536",
    "::1",
    "[::1",
    "a b",
    "host:1,",
    "host:1,x",
    "[zz]",
  ])("refuses %p", (text) => {
    expect(() => parseTargetAddress(text)).toThrow(/is not HOST/);
  });

  it("writes what it reads", () => {
    for (const text of ["10.0.0.1:5003,1", "[1080::8]:5003,1", "example.com:3260", "[::1]:3260,0"]) {
      expect(formatTargetAddress(parseTargetAddress(text))).toBe(text);
    }
  });
});

describe("RedirectFollower", () => {
  const original = { host: "10.0.0.1", port: 3260 };

  it("returns to the original after a temporary redirect, and stays after a permanent one", () => {
    const follower = new RedirectFollower(original);
    expect(follower.begin()).toEqual(original);
    expect(follower.follow({ kind: "temporary", host: "10.0.0.2", port: 3261 })).toEqual({
      host: "10.0.0.2",
      port: 3261,
    });
    expect(follower.begin()).toEqual(original);
    follower.follow({ kind: "permanent", host: "10.0.0.3", port: 3260 });
    expect(follower.begin()).toEqual({ host: "10.0.0.3", port: 3260 });
  });

  it("stops after eight redirects of one login, and counts anew for the next", () => {
    const follower = new RedirectFollower(original);
    const redirect = { kind: "temporary", host: "10.0.0.2", port: 3260 } as const;
    for (let hop = 0; hop < 8; hop += 1) follower.follow(redirect);
    expect(() => follower.follow(redirect)).toThrow(/more than 8 times/);
    follower.begin();
    expect(follower.follow(redirect)).toEqual({ host: "10.0.0.2", port: 3260 });
  });

  it("keeps the original when a permanent redirect follows a temporary one", () => {
    const follower = new RedirectFollower(original);
    follower.begin();
    follower.follow({ kind: "temporary", host: "10.0.0.2", port: 3260 });
    follower.follow({ kind: "permanent", host: "10.0.0.3", port: 3260 });
    expect(follower.begin()).toEqual(original);
    follower.follow({ kind: "permanent", host: "10.0.0.4", port: 3260 });
    follower.follow({ kind: "temporary", host: "10.0.0.5", port: 3260 });
    expect(follower.portal).toEqual({ host: "10.0.0.4", port: 3260 });
    expect(follower.named).toEqual(original);
  });

  it("names the portals of a loop, and forgets the permanent redirects in it", () => {
    const follower = new RedirectFollower(original);
    follower.begin();
    const round = [
      { kind: "permanent", host: "10.0.0.2", port: 3260 },
      { kind: "permanent", host: "10.0.0.1", port: 3260 },
    ] as const;
    const spin = (): void => {
      for (;;) for (const redirect of round) follower.follow(redirect);
    };
    expect(spin).toThrow(/10\.0\.0\.1:3260 → 10\.0\.0\.2:3260 → 10\.0\.0\.1:3260.*redirect to each other/);
    expect(follower.begin()).toEqual(original);
  });

  it("does not call a long way a loop", () => {
    const follower = new RedirectFollower(original);
    const lead = (): void => {
      for (let port = 3261; ; port += 1) follower.follow({ kind: "temporary", host: "10.0.0.9", port });
    };
    expect(lead).toThrow(/redirects without end/);
  });
});
