#!/usr/bin/env bash
# Measures weir beside what it is measured against, and writes docs/benchmarks.md and docs/benchmarks.json.
#
#   scripts/bench.sh            five rounds, about twenty minutes; nothing else should run meanwhile
#   scripts/bench.sh --quick    one short round, to see that everything works; its figures say nothing
#   scripts/bench.sh --render   only writes docs/benchmarks.md again, from docs/benchmarks.json
#
# Builds everything in release first. Needs Rust, Go, Java 17, Maven, cmake or make, and scripts/setup.sh (which it runs).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

if [ "${1:-}" != --render ]; then
  target=${CARGO_TARGET_DIR:-$root/target}
  "$root/scripts/setup.sh"
  CARGO_TARGET_DIR="$target" cargo build --quiet --release -p weir
  CARGO_TARGET_DIR="$target" cargo build --quiet --release -p weir-client --examples
  (cd bench && CARGO_TARGET_DIR="$target/bench" cargo build --quiet --release)
  (cd bench/franz-go && go build -o "$target/bench/franz-go-bench" .)
  export BENCH_TARGET=$target
fi
exec "$root/.cache/venv/bin/python" "$root/scripts/bench.py" "$@"
