import { type ConnectedVolume, connectVolume } from "../../src/initiator/connect-volume.js";
import { describeBlockDeviceContract } from "../contract/block-device.js";
import { describeNeeding } from "../support/needs.js";
import { realDependencies, volumeRequest } from "../support/real-volume.js";
import { Tgtd } from "../support/tgt.js";

const PORT = 13_335;
const targetName = "iqn.2026-11.test:contract";

describeNeeding(["tgtd", "tgtadm"], "a LUN of tgtd", () => {
  describeBlockDeviceContract("a LUN of tgtd", {
    logicalBlockBytes: 512,
    open: async (sizeBytes) => {
      const tgtd = await Tgtd.start({
        controlPort: 335,
        portals: [`127.0.0.1:${PORT}`],
        targets: [{ name: targetName, diskBytes: [sizeBytes], diskParameters: "thin_provisioning=1" }],
      });
      let volume: ConnectedVolume;
      try {
        const portals = [{ host: "127.0.0.1", port: PORT }];
        volume = await connectVolume(volumeRequest({ portals, targetName, lun: 1 }), realDependencies());
      } catch (error) {
        await tgtd.stop();
        throw error;
      }
      return {
        device: volume.device,
        cleanUp: async () => {
          await volume.close();
          await tgtd.stop();
        },
      };
    },
  });
});
