#!/bin/sh
# Builds the console into dist/, which is committed: cargo needs no node.
#   build.sh          install the pinned packages, check types, bundle
#   build.sh --check  the same, but compare with dist instead of writing it
set -eu
cd "$(dirname "$0")"
if [ ! -d node_modules ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  npm ci --no-audit --no-fund --ignore-scripts
fi
npx tsc --noEmit
node build.mjs "$@"
