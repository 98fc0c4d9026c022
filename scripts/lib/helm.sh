#!/usr/bin/env bash
# Prints the path of a helm program: the one on the PATH (3.10 or later), else one built with Go into .cache/bin, once.
set -euo pipefail
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
. "$ROOT/scripts/lib/setup.sh"
HELM_VERSION=3.22.0

# is_usable PROGRAM: 3.10 brought --set-json; version 4 has it too.
is_usable() {
  local version
  version=$("$1" version --template '{{.Version}}' 2>/dev/null) || return 1
  [[ $version =~ ^v3\.([0-9]+)\. ]] && [ "${BASH_REMATCH[1]}" -ge 10 ] && return 0
  [[ $version =~ ^v[4-9]\. ]]
}

if have helm && is_usable "$(command -v helm)"; then
  command -v helm
  exit 0
fi
helm="$ROOT/.cache/bin/helm"
if [ -x "$helm" ] && is_usable "$helm"; then
  echo "$helm"
  exit 0
fi
go=$(command -v go || true)
[ -n "$go" ] || { [ -x /usr/local/go/bin/go ] && go=/usr/local/go/bin/go; } ||
  die "helm is missing, and so is Go to build it. Install Helm 3.10 or later, or Go 1.25 or later"
say "Building helm $HELM_VERSION with Go into .cache/bin (a few minutes, once)" >&2
mkdir -p "$ROOT/.cache/bin"
# go install refuses to say which Kubernetes it was made for, so it would claim 1.20; the flags say it.
GOFLAGS=-mod=mod GOBIN="$ROOT/.cache/bin" "$go" install \
  -ldflags "-X helm.sh/helm/v3/internal/version.version=v$HELM_VERSION -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=37" \
  "helm.sh/helm/v3/cmd/helm@v$HELM_VERSION" >&2 ||
  die "helm $HELM_VERSION could not be built with Go. Install Helm 3.10 or later by hand"
is_usable "$helm" || die "$helm was built and does not run. Remove it and install Helm 3.10 or later by hand"
echo "$helm"
