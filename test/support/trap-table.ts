import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * The 76 rules of RFC 7143 (and a few beside it) that implementations are known to break. The number of a rule is its
 * place here, from 1; a test that shows how we keep one has a name that begins `trap NN:`.
 */
export const TRAPS: readonly (readonly [rule: string, section: string])[] = [
  ["CmdSN, StatSN and DataSN compare by RFC 1982 and wrap at 2^32", "§4.2.2.1"],
  ["MaxCmdSN below ExpCmdSN - 1 voids both", "§4.2.2.1"],
  ["MaxCmdSN and ExpCmdSN only ever grow", "§4.2.2.1"],
  ["immediate commands carry the current CmdSN, do not use it up, and pass a shut window", "§4.2.2.1"],
  ["the window is the session's; on each connection the order stays rising", "§4.2.2.1"],
  ["a retry keeps task tag, CmdSN, LUN, CDB and connection", "§7.2.1"],
  ["a rejected command may leave a gap in CmdSN, which must be filled", "§7.3"],
  ["the first command has the CmdSN of the login, which logins do not use up", "§11.12.8"],
  ["ExpStatSN passes no gap", "§4.2.2.2, §7.9"],
  ["R2T and unsolicited NOP-In show StatSN without using it up", "§11.8.3, §11.19.2"],
  ["StatSN, status and residual of Data-In count only with S, which needs F", "§11.7.3"],
  ["after S no SCSI Response comes; S never goes with sense", "§11.7.3"],
  ["residuals: O and U exclude each other, underflow is subtracted, REPORT LUNS is special", "§11.4.5"],
  ["a response other than 0 voids the status: target failure", "§11.4.3"],
  ["sense is framed by SenseLength; what follows is response data", "§11.4.7.1"],
  ["CHECK CONDITION without a data segment is a format error", "§7.7"],
  ["the header digest covers all additional header segments", "§11.2.3"],
  ["the data digest covers the padding, DataSegmentLength does not", "§11.1, §11.2.3"],
  ["a damaged header is not believed, not even its length", "§7.8"],
  ["data with a wrong digest is dropped with its StatSN", "§7.8"],
  ["digests begin after the login, both ways", "§13.1"],
  ["AHS are padded to 4 bytes, TotalAHSLength counts words", "§11.2.1.5, §11.2.2"],
  ["W=0 needs F=1; FirstBurstLength counts immediate data too", "§11.3.1, §11.3.4"],
  ["unsolicited data: all of it or only the immediate part; tag ffffffff, DataSN from 0", "§11.3.4, §11.7.5"],
  ["DataSN starts anew with each R2T; LUN and tag are those of the R2T", "§11.7.4, §11.7.5"],
  ["R2T: not empty, at most MaxBurstLength, with a tag, within the task", "§11.8.4, §11.8.5"],
  ["our data segments are as long as the peer's MaxRecvDataSegmentLength", "§13.12"],
  ["MaxRecvDataSegmentLength is 8192 until it was declared, also in logins", "§6.3, §13.12"],
  ["to C=1 an empty PDU without T is the answer", "§6.2, §11.12.2"],
  ["a pair may be split over PDUs anywhere", "§6.1, §6.2"],
  ["pairs end with NUL; keys of 63, values of 255, texts of 8192 bytes", "§6.1"],
  ["unknown keys: NotUnderstood; NotUnderstood, Irrelevant and Reject mean three things", "§6.2"],
  ["keys of the marker family are never NotUnderstood", "§13.25"],
  ["a key negotiated again in one negotiation ends it", "§6.3"],
  ["a selection that was not offered is a protocol error", "§6.2.1"],
  ["answers to AND=No and OR=Yes may stay away", "§6.2.2"],
  ["DefaultTime2Wait is the maximum, DefaultTime2Retain the minimum", "§13.15, §13.16"],
  ["recovery levels and DataSequenceInOrder=Yes allow one R2T", "§13.19"],
  ["FirstBurstLength is at most MaxBurstLength, and irrelevant without unsolicited data", "§13.14"],
  ["requests of one login share task tag, ISID, TSIH, CID; one is outstanding", "§6.3"],
  ["TSIH comes in the final response; numbers count only in class 0", "§11.13.3, §11.13.5"],
  ["TSIH 0 with a known ISID is session reinstatement, another TSIH with a known CID connection reinstatement", "§6.3"],
  ["ISIDs: their own per session with a portal group, used again for it, of the right type", "§10.1.1, §11.12.5"],
  ["the portal group tag is held against that of discovery; 0 is legal", "§6.3.1, §13.9"],
  ["added connections reach the same portal group", "§11.13.5, Appendix C"],
  ["status class other than 0 closes TCP; class 2 is not tried again, 3 may be", "§11.13.5"],
  ["redirects are followed at any time, temporary ones for one login, in bounded number", "§11.13.5"],
  ["a redirect's address has no tag, maybe no port, brackets for IPv6, maybe a DNS name", "§13.8"],
  ["SendTargets without TargetAddress means the same portal; long answers go on by tag", "§6.4, Appendix C"],
  ["text: same task tag, the target's tag echoed; ffffffff begins anew", "§6.4, §11.10.4"],
  ["binary values: both spellings of hex and base64, odd digits, decimal of known length only", "§6.1"],
  ["no CHAP_R for secrets under 96 bits; 128 random bits are taken", "§9.2.1"],
  ["secrets differ; our response or our challenge coming back fails the login", "§9.2.1"],
  ["challenges are never used twice; CHAP_I is an octet; good randomness, constant time", "§9.2.1"],
  ["mutual CHAP does not go on without the target's proof", "§12.1.3"],
  ["the target's ping is answered with ITT ffffffff, its tag and its LUN, immediate", "§11.18, §11.19"],
  ["NOP-In with both tags valid is a format error", "§7.7"],
  ["a ping reply may be cut to MaxRecvDataSegmentLength", "§11.18.3"],
  ["asynchronous events 1 to 5 each ask for something", "§11.9.1"],
  ["Time2Wait passes before coming back; after Time2Retain too tasks are dead", "§7.5, §7.6"],
  ["reassign only after recovery logout or its like, immediate; else still allegiant", "§7.2.2"],
  ["reassign with ExpDataSN; R-Data after a change of length; SNACK tag back to 0", "§7.2.2, §11.16.3"],
  ["no SNACK for an R2T by own timeout; no DataACK while data is missing", "§7.1.4.1, §11.16.2"],
  ["BegRun and RunLength 0; SNACK before the status is acknowledged", "§11.16"],
  ["ABORT TASK: connection, RefCmdSN, and response 1 as good as 0", "§11.5.1, §11.6.1"],
  ["after ABORT and CLEAR TASK SET outstanding R2Ts are answered", "§4.2.3.3"],
  ["after COLD RESET all sessions end", "§11.6.1"],
  ["responses of affected tasks come before the TMF response, on all connections", "§4.2.2.3"],
  ["nothing after a Logout Request; its responses 0 to 3 are honoured", "§11.14, §11.15"],
  ["discovery sessions: SendTargets and the closing logout, nothing else; level 0", "§4.3, §7.4"],
  ["Reject: the reason decides, the header is in it", "§11.17"],
  ["reserved fields: sent as 0, ignored on receipt; unknown opcodes are protocol errors", "§11.2, §7.13"],
  ["a LUN is eight bytes with methods and levels, not a number", "§11.2.1.7"],
  ["ITT ffffffff is forbidden; tags are unique in the session", "§11.2.1.8"],
  ["node names: iqn, eui, naa; lower case; 223 bytes", "§4.2.7"],
  ["every length from the peer is bounded before anything is allocated", "§13.12"],
];

/** Which trap a test is about, by its name. */
export function trapOf(testName: string): { readonly trap: number; readonly title: string } | undefined {
  const match = /^trap ([0-9]{2}): (.+)$/s.exec(testName);
  return match === null ? undefined : { trap: Number(match[1]), title: match[2] ?? "" };
}

export interface NamedTest {
  readonly trap: number;
  readonly title: string;
  /** Path of the file, from the root. */
  readonly file: string;
}

/** Names of tests that begin with `trap NN:` in the sources below `test`, in order of trap and file. */
export function namedTests(root: string): readonly NamedTest[] {
  const files = readdirSync(join(root, "test"), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".test.ts"))
    .sort();
  const found = files.flatMap((path) => {
    const file = join("test", path);
    const text = readFileSync(join(root, file), "utf8");
    // The name is the first argument of test() or of test.each()().
    return [...text.matchAll(/\(\s*(["`])(trap [0-9]{2}: (?:(?!\1).)*)\1/g)].flatMap(([, , name = ""]) => {
      const known = trapOf(name);
      return known === undefined ? [] : [{ ...known, file }];
    });
  });
  return found.sort((a, b) => a.trap - b.trap);
}

/** docs/traps.md. */
export function trapsPage(tests: readonly NamedTest[]): string {
  const rows = TRAPS.map(([rule, section], index) => {
    const own = tests.filter(({ trap }) => trap === index + 1);
    const titles = own.map(({ title, file }) => `${cell(title)} ([${file.split("/").at(-1) ?? ""}](../${file}))`);
    return `| ${index + 1} | ${cell(rule)} | ${section} | ${titles.join("<br>")} |`;
  });
  return [
    "# Traps of iSCSI",
    "",
    "Rules that implementations are known to break, and the test that shows how Hawser keeps each. Sections are those of RFC 7143. `scripts/traps` runs the tests and prints the result of each; it ends with `76 of 76 traps passed`.",
    "",
    "This page is made from the names of the tests (`UPDATE_DOCS=1 npx jest test/unit/traps/table`).",
    "",
    "| trap | rule | section | tests |",
    "|---|---|---|---|",
    ...rows,
    "",
  ].join("\n");
}

function cell(text: string): string {
  return text.replace(/\|/g, "\\|");
}
