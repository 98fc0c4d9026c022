import { readFileSync } from "node:fs";
import { join } from "node:path";
import { MAX_PENDING_EVENTS } from "../../src/base/limits.js";
import { EVENTS, type EventDefinition } from "../../src/csi/events-catalogue.js";

const page = readFileSync(join(__dirname, "..", "..", "docs", "events.md"), "utf8");
const rows = page
  .split("\n")
  .map((line) => line.split("|").map((cell) => cell.trim()))
  .filter((cells) => /^`[A-Z]\w+`$/.test(cells[1] ?? ""))
  .map(([, reason = "", type = "", on = ""]) => ({ reason: reason.slice(1, -1), type, on }));

describe("docs/events.md", () => {
  it("explains every event once, with its type and where it appears", () => {
    const known = Object.entries<EventDefinition>(EVENTS).map(([reason, { type, audience }]) => ({
      ...{ reason, type, on: audience.join(", ") },
    }));
    const byReason = (one: { reason: string }, other: { reason: string }): number =>
      one.reason.localeCompare(other.reason);
    expect(rows.sort(byReason)).toEqual(known.sort(byReason));
  });

  it("says the true size of the queue", () => {
    expect(page).toContain(`up to ${MAX_PENDING_EVENTS} different events wait`);
  });
});

describe("reasons and actions", () => {
  it("have the form the API server takes", () => {
    for (const [reason, { action }] of Object.entries<EventDefinition>(EVENTS)) {
      expect(reason).toMatch(/^([A-Z][a-z]+)+$/);
      expect(action).toMatch(/^([A-Z][a-z]+)+$/);
    }
  });
});
