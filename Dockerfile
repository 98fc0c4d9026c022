# syntax=docker/dockerfile:1
# One image for every process of Hawser: `hawser node|controller|dataplane|target|all-in-one` and `hawserctl`.
# The base is an argument so that it can be any Debian image with a supported Node.js and npm (24 is the current LTS);
# `scripts/image --base debian` makes one without a registry. See docs/image.md.
ARG NODE_IMAGE=node:24-bookworm-slim

# Compiles, and keeps of node_modules only what runs.
FROM ${NODE_IMAGE} AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
# The secret is for networks whose proxy has an authority of its own: its certificate, which stays out of the image.
RUN --mount=type=secret,id=extra-ca,target=/run/extra-ca.pem \
    if [ -s /run/extra-ca.pem ]; then export NODE_EXTRA_CA_CERTS=/run/extra-ca.pem; fi; \
    npm ci --no-progress --no-update-notifier
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN npm run build
RUN npm prune --omit=dev --no-progress
COPY scripts/lib/image-prune.mjs scripts/lib/image-sbom.mjs scripts/lib/
COPY LICENSE ./
COPY proto ./proto
RUN mkdir -p /image/opt/hawser /image/usr/local/bin \
 && cp -a package.json LICENSE proto dist node_modules /image/opt/hawser/ \
 && node scripts/lib/image-prune.mjs /image/opt/hawser \
 && node scripts/lib/image-sbom.mjs npm /image/opt/hawser /npm.json \
 && ln -s ../../../opt/hawser/dist/main.js /image/usr/local/bin/hawser \
 && ln -s ../../../opt/hawser/dist/hawserctl.js /image/usr/local/bin/hawserctl

# The Debian programs, and of Debian nothing that they do not need.
FROM ${NODE_IMAGE} AS system
# libnbd-bin: nbdfuse, for hosts without the nbd module. kmod: to load that module. The rest makes, checks, grows and
# mounts file systems.
RUN apt-get update \
 && export DEBIAN_FRONTEND=noninteractive \
 && apt-get upgrade -y \
 && apt-get install -y --no-install-recommends \
      libnbd-bin fuse3 e2fsprogs xfsprogs btrfs-progs util-linux mount kmod
COPY scripts/lib/image-system.mjs scripts/lib/image-sbom.mjs /build/
COPY --from=build /npm.json /build/
RUN node /build/image-system.mjs / \
 && node /build/image-sbom.mjs all / /build/npm.json /usr/share/hawser/sbom.cdx.json \
 && rm -rf /build

# Copied into an empty image, so that what the stages above deleted takes no room in a layer below.
FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="hawser" \
      org.opencontainers.image.description="Kubernetes CSI driver with a complete userspace iSCSI initiator" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="The Hawser authors" \
      org.opencontainers.image.documentation="docs/image.md" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY --from=system / /
COPY --from=build /image/ /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    NODE_ENV=production
WORKDIR /opt/hawser
# Root without capabilities beyond those of the pod; each process says what it misses (docs/image.md).
USER 0:0
ENTRYPOINT ["hawser"]
CMD ["--help"]
