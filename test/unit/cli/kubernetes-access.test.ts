import { kubernetesAccess, proxyFor } from "../../../src/cli/kubernetes-access.js";

const pod = { KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "443" };

it("finds the API server of a pod, and none outside one", () => {
  expect(kubernetesAccess(pod, "/account")).toEqual({
    ...{ server: "https://10.96.0.1:443", caFile: "/account/ca.crt", tokenFile: "/account/token" },
  });
  expect(kubernetesAccess({ ...pod, KUBERNETES_SERVICE_HOST: "fd00::1" })?.server).toBe("https://[fd00::1]:443");
  expect(kubernetesAccess({ ...pod, HTTPS_PROXY: "proxy:3128" })?.proxyUrl).toBe("http://proxy:3128");
  expect(kubernetesAccess({})).toBeUndefined();
});

it.each([
  ["10.96.0.1", "10.96.0.0/12", true],
  ["10.96.0.1", "10.0.0.0/16", false],
  ["10.96.0.1", "localhost, 10.96.0.1", true],
  ["10.96.0.1", "10.96.0.1:443", true],
  ["10.96.0.1", "10.96.0.1:6443", false],
  ["10.96.0.1", "*", true],
  ["fd00::1", "fd00:0::1", true],
  ["fd00::1", "fd00::/8", true],
  ["api.example.com", "example.com", true],
  ["api.example.com", ".example.com", true],
  ["api.example.com", "ple.com", false],
  ["10.96.0.1", "10.96.0.0/99", false],
])("reaches %s with NO_PROXY=%s without the proxy: %s", (host, noProxy, isDirect) => {
  const proxy = proxyFor(host, "443", { HTTPS_PROXY: "http://proxy:3128", NO_PROXY: noProxy });
  expect(proxy).toBe(isDirect ? undefined : "http://proxy:3128");
});
