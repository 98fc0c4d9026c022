import { AuthError, LoginError } from "../../../src/login/errors.js";
import { describeLoginStatus, LOGIN_STATUSES, loginStatusError } from "../../../src/login/login-status.js";

describe("the Login Response status", () => {
  it("has every code of RFC 7143 §11.13.5", () => {
    const codes = LOGIN_STATUSES.map((row) => (row.statusClass << 8) | row.statusDetail);
    expect(codes).toEqual([
      ...[0x0101, 0x0102],
      ...[0x0200, 0x0201, 0x0202, 0x0203, 0x0204, 0x0205, 0x0206, 0x0207, 0x0208, 0x0209, 0x020a, 0x020b],
      ...[0x0300, 0x0301, 0x0302],
    ]);
    expect(new Set(LOGIN_STATUSES.map((row) => row.code)).size).toBe(LOGIN_STATUSES.length);
  });

  it("advises against repeating class 2 here, and for repeating class 3", () => {
    for (const row of LOGIN_STATUSES) {
      if (row.statusClass === 2) expect(row.retry).not.toBe("same-path");
      if (row.statusClass === 3) expect(row.retry).not.toBe("never");
    }
  });

  it("makes an error that names the target, the status and the remedy", () => {
    const error = loginStatusError(2, 3, "iqn.2026-01.x:y");
    expect(error).toBeInstanceOf(LoginError);
    expect(error).toMatchObject({ code: "LOGIN_TARGET_NOT_FOUND", retry: "never", layer: "login" });
    expect(error.message).toBe(
      "login to iqn.2026-01.x:y failed: no target of that name is here (status 0x0203); check the target's name and the portal",
    );
    expect(error.details).toMatchObject({ statusClass: 2, statusDetail: 3 });
    expect(loginStatusError(2, 1, "x")).toBeInstanceOf(AuthError);
  });

  it("goes by the class when it does not know the detail", () => {
    expect(describeLoginStatus(3, 0x77)).toMatchObject({ code: "LOGIN_TARGET_ERROR", retry: "same-path" });
    expect(loginStatusError(2, 0x77, "x").code).toBe("LOGIN_INITIATOR_ERROR");
    expect(loginStatusError(9, 1, "x")).toMatchObject({ code: "LOGIN_STATUS_UNKNOWN", retry: "never" });
    expect(describeLoginStatus(0, 0)).toBeUndefined();
  });
});
