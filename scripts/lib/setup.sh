# Shared set-up of scripts/quickstart and scripts/test: sourced, never run.
# Everything it installs is named before it happens; what is there already is left alone.

NODE_FALLBACK_VERSION=20.20.2

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
    die "this step needs root: $*. Run the script as root, or install sudo"
  fi
}

# have PROGRAM: is it on the PATH or in an sbin folder that a user's PATH may lack?
have() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

# install_packages PROGRAM=PACKAGE...: installs the Debian packages whose program is missing.
# Returns 1 when something could not be installed.
install_packages() {
  local missing=() pair
  for pair in "$@"; do have "${pair%%=*}" || missing+=("${pair#*=}"); done
  [ ${#missing[@]} -eq 0 ] && return 0
  have apt-get || { note "no apt-get here; install yourself: ${missing[*]}"; return 1; }
  say "Installing Debian packages: ${missing[*]}"
  local log
  log=$(mktemp)
  # One broken or unknown package must not keep the others away, so a failed batch is repeated one by one.
  if as_root env DEBIAN_FRONTEND=noninteractive sh -c \
    'apt-get update && apt-get install -y --no-install-recommends "$@"' sh "${missing[@]}" >"$log" 2>&1; then
    rm -f "$log"
    return 0
  fi
  local package failed=()
  for package in "${missing[@]}"; do
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" >>"$log" 2>&1 ||
      failed+=("$package")
  done
  [ ${#failed[@]} -eq 0 ] && { rm -f "$log"; return 0; }
  note "could not install: ${failed[*]} (details: $log)"
  return 1
}

node_is_new_enough() {
  have node && node -e 'const [a, b] = process.versions.node.split(".").map(Number);
    process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'
}

# A Node.js that is new enough: the one on the PATH, Debian's, or the one the npm registry carries as a package.
ensure_node() {
  [ -x "$ROOT/.cache/node/bin/node" ] && PATH="$ROOT/.cache/node/bin:$PATH"
  node_is_new_enough && have npm && return 0
  install_packages node=nodejs npm=npm || die "Node.js and npm could not be installed"
  hash -r
  node_is_new_enough && return 0
  local arch
  case "$(uname -m)" in
    x86_64) arch=x64 ;;
    aarch64) arch=arm64 ;;
    *) die "Node.js >= 20.19 is needed and there is no prebuilt one for $(uname -m); install it yourself" ;;
  esac
  say "Installing Node.js $NODE_FALLBACK_VERSION into .cache/node (this system's is $(node --version), 20.19 is needed)"
  npm install --silent --no-save --ignore-scripts --prefix "$ROOT/.cache/node-package" \
    "node-linux-$arch@$NODE_FALLBACK_VERSION" || die "npm could not install Node.js $NODE_FALLBACK_VERSION"
  mkdir -p "$ROOT/.cache/node/bin"
  ln -sf "$ROOT/.cache/node-package/node_modules/node-linux-$arch/bin/node" "$ROOT/.cache/node/bin/node"
  PATH="$ROOT/.cache/node/bin:$PATH"
  hash -r
  node_is_new_enough || die "Node.js >= 20.19 is needed, found $(node --version)"
}

# npm packages exactly as locked, when they are not there yet.
ensure_modules() {
  local stamp=node_modules/.hawser-lock
  cmp -s package-lock.json "$stamp" && return 0
  say "Installing npm packages (npm ci)"
  npm ci --no-progress --loglevel=error || die "npm ci failed"
  cp package-lock.json "$stamp"
}

build() {
  say "Building (tsc)"
  npm run --silent build || die "the build failed"
}
