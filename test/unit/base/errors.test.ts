import { AppError, TimeoutError, asAppError, errorCode, errorMessage } from "../../../src/base/errors.js";

describe("errors on purpose and mistakes", () => {
  test("an AppError of any kind is handed back as it is", () => {
    for (const error of [new AppError("base", "A_CODE", "text"), new TimeoutError("transport", "B_CODE", "late")]) {
      expect(asAppError(error)).toBe(error);
    }
  });

  test.each([
    ["a mistake of ours", new TypeError("x is undefined")],
    ["a bare value", "thrown text"],
    ["nothing", undefined],
  ])("%s is thrown on, not taken for a failure of the peer", (_name, thrown) => {
    let caught: unknown = "nothing was thrown";
    try {
      asAppError(thrown);
    } catch (error) {
      caught = error;
    }
    expect(caught).toBe(thrown);
  });
});

describe("what can be said of any thrown value", () => {
  test("a line", () => {
    expect(errorMessage(new Error("text"))).toBe("text");
    expect(errorMessage(42)).toBe("42");
  });

  test("its code, when it has one that is text", () => {
    expect(errorCode(new AppError("base", "A_CODE", "text"))).toBe("A_CODE");
    expect(errorCode(Object.assign(new Error("refused"), { code: "ECONNREFUSED" }))).toBe("ECONNREFUSED");
    for (const other of [new Error("text"), { code: 7 }, "ECONNREFUSED", null, undefined]) {
      expect(errorCode(other)).toBeUndefined();
    }
  });
});
