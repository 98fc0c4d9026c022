/** Logs in to LIO with young keys, joins the session, and writes what came of it to `$RESULTS/login.json`. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { loginOptions, logInAndJoin } from "../../support/login-driver.js";

const [targetName = "", ...ports] = process.argv.slice(2);
const portals = ports.map((port) => ({ host: "127.0.0.1", port: Number(port) }));
const [first] = portals;
if (first === undefined) throw new Error("usage: login-lio.js IQN PORT...");

const report = await logInAndJoin(
  first,
  portals,
  loginOptions({ targetName, offers: { maxConnections: 8, errorRecoveryLevel: 2 } }),
);
await writeFile(join(process.env["RESULTS"] ?? ".", "login.json"), JSON.stringify(report));
