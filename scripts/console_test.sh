#!/usr/bin/env bash
# The console of a `weir up --demo`, in a real Chromium.
#
#   scripts/console_test.sh BIN [ARGUMENTS OF crates/weir/ui/test/console.mjs]
#
# Needs node, Chromium and the packages of crates/weir/ui (scripts/setup.sh).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
[ $# -ge 1 ] || { sed -n '2,6p' "$0" >&2; exit 2; }
weir=$1
shift
dir=$(mktemp -d)
pid=

finish() {
  local code=$?
  trap - EXIT
  if [ -n "$pid" ] && kill -TERM "$pid" 2>/dev/null; then
    wait "$pid" || code=1
  fi
  if [ "$code" = 0 ]; then
    rm -rf "$dir"
  else
    tail -n 20 "$dir/weir.log" >&2
    echo "kept: $dir" >&2
  fi
  exit "$code"
}
trap finish EXIT

LC_ALL=C "$weir" up --demo --data-dir "$dir/data" --kafka-port 0 --gateway-port 0 --console-port 0 >"$dir/weir.log" 2>&1 &
pid=$!
deadline=$((SECONDS + 60))
until grep -q 'ready in [0-9]* ms' "$dir/weir.log"; do
  kill -0 "$pid" 2>/dev/null || { echo "weir up ended" >&2; exit 1; }
  [ "$SECONDS" -lt "$deadline" ] || { echo "weir up is not ready within 60 s" >&2; exit 1; }
  sleep 0.1
done
url=$(sed -n 's/^ *Console *\(http:[^ ]*\).*/\1/p' "$dir/weir.log")
node "$root/crates/weir/ui/test/console.mjs" "$url" "$@"
