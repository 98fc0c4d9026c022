import type { AttachRequest } from "../../src/dataplane/api.js";
import { DataplaneClient } from "../../src/dataplane/client.js";

/**
 * One call to a dataplane from a shell script: `SOCKET attach HANDLE TARGET`, `SOCKET detach HANDLE`, `SOCKET wait HANDLE
 * STATE`. Prints one line: device, generation and ISID, or the code of the error (and then ends with 1).
 */
async function main([socketPath = "", verb = "", volumeHandle = "", last = ""]: string[]): Promise<void> {
  const client = new DataplaneClient({ socketPath, packageDirectory: process.cwd(), reconnectWaitMs: 20_000 });
  try {
    if (verb === "detach") await client.detach(volumeHandle);
    else if (verb === "attach") await client.attach(attachRequest(volumeHandle, last));
    else await waitFor(client, volumeHandle, last);
    const status = await client.get(volumeHandle);
    const { devicePath = "-", generation = 0 } = status?.volume ?? {};
    console.log(`${devicePath} ${generation} ${status?.sessions[0]?.isid ?? "-"}`);
  } catch (error) {
    console.log((error as { code?: string }).code, String(error));
    process.exitCode = 1;
  } finally {
    client.close();
  }
}

async function waitFor(client: DataplaneClient, volumeHandle: string, state: string): Promise<void> {
  for (let attempt = 0; attempt < 300; attempt += 1) {
    if ((await client.get(volumeHandle))?.state === state) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`volume ${volumeHandle} never became ${state}`);
}

function attachRequest(volumeHandle: string, targetName: string): AttachRequest {
  return {
    ...{ volumeHandle, targetName, lun: 0, expectedId: "", isReadOnly: false },
    ...{ portals: [{ host: "127.0.0.1", port: 3260 }], headerDigest: "crc32c", dataDigest: "crc32c" },
    publicationId: "",
  };
}

void main(process.argv.slice(2));
