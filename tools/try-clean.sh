#!/bin/sh
# Tries the README on a Debian 12 that never saw this project: clones the committed tree into a fresh machine
# (mmdebstrap + systemd-nspawn, Debian's own Node and npm) and runs the two commands there; then the demo again,
# without network. Needs root, mmdebstrap, systemd-container and a Debian mirror.
#
#   sh tools/try-clean.sh                     # everything
#   sh tools/try-clean.sh 'npm run check'     # only this, in a fresh machine
#
# The machine's base image is kept in $BLOCKHOST_CLEAN (default: a folder in $TMPDIR) for the next time.
set -eu

source=$(cd -- "$(dirname -- "$0")/.." && pwd)
cache=${BLOCKHOST_CLEAN:-${TMPDIR:-/tmp}/blockhost-clean}
base=$cache/debian-12.tar
machine=$cache/machine-$$
mkdir -p "$cache"

say() { echo "try-clean: $*" >&2; }

if [ ! -s "$base" ]; then
  say "building Debian 12 with nodejs, npm, git (about a minute)"
  mmdebstrap --quiet --variant=minbase --include=nodejs,npm,git,ca-certificates bookworm "$cache/part-$$.tar"
  mv "$cache/part-$$.tar" "$base"
fi

trap 'rm -rf --one-file-system "$machine"' EXIT
trap 'exit 130' INT TERM
mkdir "$machine"
tar -xf "$base" -C "$machine"

# Certificates this machine trusts, for npm, where the way to the registry has one of its own.
certificates=/etc/ssl/certs/ca-certificates.crt
[ ! -s "$certificates" ] || cp "$certificates" "$machine/etc/ssl/outer-certificates.crt"

inside() {
  options=$1
  shift
  # shellcheck disable=SC2086 # options is a list
  systemd-nspawn --quiet --register=no --keep-unit --pipe --directory="$machine" --capability=all \
    --bind=/dev/net/tun --resolv-conf=copy-host --bind-ro="$source:/source" --chdir=/root $options \
    --setenv=NODE_EXTRA_CA_CERTS=/etc/ssl/outer-certificates.crt \
    /bin/sh -euc "$*" </dev/null
}

timed() {
  name=$1
  shift
  say "$name"
  begin=$(date +%s)
  if inside "$@"; then result='done in'; else result='FAILED after' status=1; fi
  results="$results
$name: $result $(($(date +%s) - begin)) s"
}
status=0
results=

inside '' 'node --version; npm --version; git clone --quiet /source blockhost'

if [ $# -gt 0 ]; then
  for command; do timed "$command" '' "cd blockhost; $command"; done
else
  timed 'npm run demo' '' 'cd blockhost; npm run demo'
  timed 'npm test' '' 'cd blockhost; npm test'
  timed 'npm run demo, again, without network' --private-network 'cd blockhost; npm run demo'
fi

say "results:$results"
exit "$status"
