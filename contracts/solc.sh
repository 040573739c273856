#!/bin/sh
# The compiler forge is told to use (`solc =` in foundry.toml): npm's solc under the workspace's own Node, or under
# any Node on PATH. Needs no download. The work is in solc.mjs, beside it.
here=$(dirname -- "$(readlink -f -- "$0")")
for node in "$here"/../node_modules/node-linux-*/bin/node; do
  if "$node" --version >/dev/null 2>&1; then exec "$node" "$here/solc.mjs" "$@"; fi
done
exec node "$here/solc.mjs" "$@"
