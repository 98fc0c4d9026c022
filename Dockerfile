# syntax=docker/dockerfile:1
# One image for every process of Hawser: `hawser node|controller|dataplane|target|all-in-one` and `hawserctl`.
# The base is an argument so that it can be any Debian image with a supported Node.js (24 is the current LTS).
ARG NODE_IMAGE=node:24-bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
RUN npm ci --no-progress
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN npm run build && npm prune --omit=dev

FROM ${NODE_IMAGE}
# libnbd-bin: nbdfuse, for hosts without the nbd module. The rest makes, checks, grows and mounts file systems.
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      libnbd-bin fuse3 e2fsprogs xfsprogs btrfs-progs util-linux mount \
 && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/*
WORKDIR /opt/hawser
COPY --from=build /src/node_modules ./node_modules
COPY --from=build /src/dist ./dist
COPY package.json LICENSE ./
COPY proto ./proto
RUN ln -s /opt/hawser/dist/main.js /usr/local/bin/hawser \
 && ln -s /opt/hawser/dist/hawserctl.js /usr/local/bin/hawserctl \
 && chmod 0755 dist/main.js dist/hawserctl.js
ENV NODE_ENV=production
ENTRYPOINT ["hawser"]
CMD ["--help"]
