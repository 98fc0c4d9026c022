import { SeededRandom } from "../../../src/base/seeded-random.js";
import { checkExtensionKeys } from "../../../src/login/extension-keys.js";
import { InitiatorLogin } from "../../../src/login/initiator-login.js";
import { decodeTextKeys } from "../../../src/wire/text-keys.js";
import { loginOptions } from "../../support/login-driver.js";
import { ScriptedLogin } from "../../support/scripted-login.js";

describe("extension keys", () => {
  it.each([
    ["a key without X-", [["Y-a", "1"]], "NEGOTIATION_KEY_NOT_ALLOWED"],
    ["an empty label", [["X-", "1"]], "NEGOTIATION_KEY_NOT_ALLOWED"],
    ["a sign that no label has", [["X-a=b", "1"]], "NEGOTIATION_KEY_NOT_ALLOWED"],
    ["a key of 64 bytes", [[`X-${"a".repeat(62)}`, "1"]], "NEGOTIATION_KEY_NOT_ALLOWED"],
    ["no value", [["X-a", ""]], "NEGOTIATION_VALUE_INVALID"],
    ["a value with an end in it", [["X-a", "1\0X-b=2"]], "NEGOTIATION_VALUE_INVALID"],
    ["a value of 256 bytes", [["X-a", "1".repeat(256)]], "NEGOTIATION_VALUE_INVALID"],
    [
      "one key twice",
      [
        ["X-a", "1"],
        ["X-a", "2"],
      ],
      "NEGOTIATION_KEY_REPEATED",
    ],
    ["more than sixteen", Array.from({ length: 17 }, (_, index) => [`X-${index}`, "1"]), "NEGOTIATION_KEY_NOT_ALLOWED"],
  ])("cannot be %s", (_what, keys, expected) => {
    const pairs = keys.map(([name = "", value = ""]) => [name, value] as const);
    expect(() => checkExtensionKeys(pairs)).toThrow(expect.objectContaining({ code: expected }));
    expect(() => new ScriptedLogin({ extensionKeys: pairs })).toThrow(expect.objectContaining({ code: expected }));
  });

  it("are offered after the RFC's in the leading login, and the answers are told as they are", () => {
    const script = new ScriptedLogin({
      extensionKeys: [
        ["X-dev.hawser.a", "1,2"],
        ["X-dev.hawser.b", "on"],
        ["X-dev.hawser.c", "x"],
      ],
    });
    expect(script.sent["X-dev.hawser.a"]).toBeUndefined();
    script.answer({});
    expect(Object.keys(script.sent).slice(-3)).toEqual(["X-dev.hawser.a", "X-dev.hawser.b", "X-dev.hawser.c"]);
    const agreed = Object.entries(script.agree()).filter(([name]) => !name.startsWith("X-"));
    const answers = [...agreed, ["X-dev.hawser.a", "2"], ["X-dev.hawser.b", "NotUnderstood"]] as const;
    expect(script.answer(answers)).toMatchObject({
      kind: "done",
      result: {
        extensionAnswers: [
          ["X-dev.hawser.a", "2"],
          ["X-dev.hawser.b", "NotUnderstood"],
        ],
      },
    });
  });

  it("that the target proposes itself are not understood, and a second answer to ours is refused", () => {
    const script = new ScriptedLogin({ extensionKeys: [["X-dev.hawser.a", "1"]] });
    script.answer({});
    script.answer({ ...script.agree(), "X-com.example.b": "7" }, { isTransit: false });
    expect(script.sent).toEqual({ "X-com.example.b": "NotUnderstood" });
    expect(() => script.answer({ "X-dev.hawser.a": "1" })).toThrow(
      expect.objectContaining({ code: "NEGOTIATION_KEY_REPEATED" }),
    );
  });

  it("are not offered in a discovery session (RFC 7143 §13.22)", () => {
    const { targetName, ...options } = loginOptions({ sessionType: "Discovery" });
    expect(targetName).toBeDefined();
    const login = new InitiatorLogin(
      { ...options, isSecurityStageSkipped: true, extensionKeys: [["X-dev.hawser.a", "1"]] },
      { random: new SeededRandom(1) },
    );
    const sent = decodeTextKeys(login.start().data).map(([name]) => name);
    expect(sent).toContain("MaxRecvDataSegmentLength");
    expect(sent).not.toContain("X-dev.hawser.a");
  });
});
