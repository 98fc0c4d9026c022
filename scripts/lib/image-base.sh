# The base image without a registry, made from Debian packages: sourced by scripts/image, never run.

BASE_SUITE=bookworm
# Node.js and npm as the npm registry carries them; Node.js 24 is the current LTS.
BASE_NODE_VERSION=24.21.0
BASE_NPM_VERSION=11.21.2

# Sources of the suite as this machine's apt has them, for mmdebstrap; Debian's own where apt has none.
debian_sources() {
  local sources=""
  if have apt-get && have apt-cache; then
    sources=$(apt-get indextargets --format '$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)' 'Created-By: Packages' |
      awk -F'|' -v suite="$BASE_SUITE" '$1 == "Debian" && $3 == "main" && index($2, suite) == 1 && $2 !~ /backports|proposed/ {
        line = "deb " $4 " " $2 " main"; if (!seen[line]++) print line }')
  fi
  if ! grep -q " $BASE_SUITE main\$" <<<"$sources"; then
    sources="deb http://deb.debian.org/debian $BASE_SUITE main
deb http://deb.debian.org/debian $BASE_SUITE-updates main
deb http://deb.debian.org/debian-security $BASE_SUITE-security main"
  fi
  printf '%s\n' "$sources"
}

# make_base TARBALL: a Debian of the size apt needs, with Node.js and npm below /usr/local.
make_base() {
  local tarball=$1 arch work log
  case "$(uname -m)" in
    x86_64) arch=x64 ;;
    aarch64) arch=arm64 ;;
    *) die "there is no Node.js package for $(uname -m) in the npm registry; use --base registry" ;;
  esac
  say "Making the base image: Debian $BASE_SUITE, Node.js $BASE_NODE_VERSION, npm $BASE_NPM_VERSION"
  work="$WORK/base"
  log="$WORK/base.log"
  mkdir -p "$work/node/bin" "$work/node/lib/node_modules"
  npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error --prefix "$work/npm" \
    "node-linux-$arch@$BASE_NODE_VERSION" "npm@$BASE_NPM_VERSION" >"$log" 2>&1 ||
    { cat "$log" >&2; die "npm could not fetch Node.js $BASE_NODE_VERSION; check the connection to the npm registry"; }
  cp "$work/npm/node_modules/node-linux-$arch/bin/node" "$work/node/bin/node"
  cp "$work/npm/node_modules/node-linux-$arch/LICENSE" "$work/node/LICENSE"
  cp -r "$work/npm/node_modules/npm" "$work/node/lib/node_modules/npm"
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$work/node/bin/npm"
  chmod -R u=rwX,go=rX "$work/node"
  # The host's name and resolver are copied in for the time of the installation; they are nobody else's business.
  debian_sources | mmdebstrap --quiet --format=tar --skip=output/dev --variant=apt \
    --customize-hook="cp -r '$work/node/.' \"\$1/usr/local/\"" \
    --customize-hook='rm -f "$1/etc/resolv.conf" "$1/etc/hostname" "$1/etc/hosts" && : >"$1/etc/machine-id"' \
    "$BASE_SUITE" "$tarball.new" - >"$log" 2>&1 ||
    { tail -n 20 "$log" >&2; die "mmdebstrap could not make Debian $BASE_SUITE (above is why); check apt's mirror"; }
  mv "$tarball.new" "$tarball"
  rm -rf "$work"
}
