#!/usr/bin/env bash
# Kafka's own kafka-dump-log reads what weir wrote: every batch valid, every index in step with its log.
#
#   scripts/dump_log_test.sh BIN         write a small run with BIN, a kill -9 in the middle, then dump it
#   scripts/dump_log_test.sh --stopped DIR   dump a log directory, or one with such in it, that nobody has open
#   scripts/dump_log_test.sh --killed DIR    the same, of a broker that was killed: a log may end in half a batch
#
# The run: Java's producer (idempotent) with every codec into segments of 1 MiB, a consumer group, and a compacted topic
# that is cleaned before the dump.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
kafka="$root/scripts/kafka.sh"
codecs="none gzip snappy lz4 zstd"
records=20000
horizons=0
torn='|invalid bytes'
dir=
pid=

finish() {
  local code=$?
  trap - EXIT
  [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
  if [ -n "$dir" ]; then
    if [ "$code" = 0 ]; then rm -rf "$dir"; else echo "kept: $dir" >&2; fi
  fi
  exit "$code"
}
trap finish EXIT

fail() {
  echo "FAILED: $1" >&2
  exit 1
}

start_broker() {
  "$weir" broker --data-dir "$dir/data" --kafka-port "$port" >>"$dir/broker.log" 2>&1 &
  pid=$!
  python3 "$root/scripts/weirtest.py" ready "127.0.0.1:$port" 30 || { cat "$dir/broker.log" >&2; fail "weir broker does not serve"; }
}

produce() {
  local codec
  for codec in $codecs; do
    "$kafka" tool org.apache.kafka.tools.ProducerPerformance --topic dump --num-records "$records" --record-size 200 \
      --throughput -1 --producer-props "bootstrap.servers=127.0.0.1:$port" "compression.type=$codec" acks=all >"$dir/producer.log" 2>&1 ||
      { cat "$dir/producer.log" >&2; fail "Java's producer with $codec"; }
  done
  echo "ok: Java's producer wrote $records records with each of: $codecs"
}

# Keys 0 to 99, over and over, with the codecs by turns; the last value of a key is the line's number.
produce_compacted() {
  local codec from=$1
  awk 'BEGIN { for (n = 0; n < 400; n++) printf "gone-%d:\n", n % 200 }' |
    kcat -b "127.0.0.1:$port" -P -t compacted -p 0 -K: -Z -X acks=all || fail "kcat produces tombstones"
  for codec in $codecs; do
    awk -v from="$from" 'BEGIN { srand(from); for (n = from; n < from + 8000; n++) { noise = ""; for (i = 0; i < 9; i++) noise = noise rand();
      printf "key-%d:%d %s\n", n % 100, n, noise } }' |
      kcat -b "127.0.0.1:$port" -P -t compacted -p 0 -K: -z "$codec" -X acks=all -X batch.num.messages=500 -X linger.ms=20 ||
      fail "kcat produces with $codec"
    from=$((from + 8000))
  done
}

# After a start the cleaner looks at once.
wait_for_cleaning() {
  local deadline=$((SECONDS + 30))
  until grep -q 'log cleaned.*compacted\|compacted.*log cleaned' "$dir/broker.log"; do
    [ "$SECONDS" -lt "$deadline" ] || { tail -n 5 "$dir/broker.log" >&2; fail "the compacted topic is not cleaned"; }
    sleep 0.2
  done
}

check_compacted() {
  local records
  kcat -b "127.0.0.1:$port" -C -t compacted -p 0 -o beginning -e -q -f '%k %s\n' >"$dir/compacted.txt" || fail "kcat reads the compacted topic"
  records=$(wc -l <"$dir/compacted.txt")
  [ "$records" -lt 65000 ] || fail "compaction left all $records records"
  awk -v last="$1" '{ found[$1] = $2 } END { for (n = last - 100; n < last; n++) if (found["key-" n % 100] != n) { print "key-" n % 100, found["key-" n % 100]; exit 1 } }' \
    "$dir/compacted.txt" >&2 || fail "a key of the compacted topic has not its last value"
  echo "ok: of 80800 records in the compacted topic $records are left, and the last of each key"
}

write_run() {
  dir=$(mktemp -d)
  port=$(python3 -c 'import sys; sys.path.insert(0, sys.argv[1]); import weirtest; print(weirtest.free_port())' "$root/scripts")
  start_broker
  "$kafka" tool org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$port" --create --topic dump --partitions 3 \
    --config segment.bytes=1048576 --config index.interval.bytes=4096 >"$dir/topic.log" 2>&1 || { cat "$dir/topic.log" >&2; fail "kafka-topics --create"; }
  "$kafka" tool org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$port" --create --topic compacted --partitions 1 \
    --config cleanup.policy=compact --config segment.bytes=1048576 --config min.cleanable.dirty.ratio=0.1 >"$dir/topic.log" 2>&1 || { cat "$dir/topic.log" >&2; fail "kafka-topics --create"; }
  produce
  produce_compacted 0
  kcat -b "127.0.0.1:$port" -G dump-group -X auto.offset.reset=earliest -q -e dump >"$dir/read.txt" ||
    fail "kcat reads in a group"
  kill -9 "$pid"
  wait "$pid" 2>/dev/null || true
  start_broker
  produce
  wait_for_cleaning
  produce_compacted 40000
  check_compacted 80000
  kill -TERM "$pid"
  wait "$pid" || fail "weir broker does not stop well"
  pid=
}

# Dumps every log, index and snapshot under $1 and looks for complaints.
dump() {
  local files out err batches segments
  files=$(find "$1" -type f \( -name '*.log' -o -name '*.index' -o -name '*.timeindex' -o -name '*.snapshot' -o -name '*.txnindex' \) | sort)
  [ -n "$files" ] || fail "there is no log in $1"
  segments=$(grep -c '\.log$' <<<"$files")
  out=$(mktemp)
  err=$(mktemp)
  "$kafka" tool kafka.tools.DumpLogSegments --deep-iteration --files "$(paste -sd, <<<"$files")" >"$out" 2>"$err" ||
    { tail -n 5 "$out" "$err" >&2; fail "kafka-dump-log ended with an error"; }
  if grep -E "isvalid: false|Exception$torn" "$out" "$err" | head -n 5 | grep . >&2; then
    fail "kafka-dump-log finds a batch that is not valid"
  fi
  # Of a topic called compacted-... it may say that offsets are missing: that is what compaction is.
  awk '/^Non-consecutive offsets in / { skip = /\/compacted-/ } !/^ / && !/^Non-consecutive/ { skip = 0 } !skip' "$err" >"$err.left"
  mv "$err.left" "$err"
  # It reports indexes on standard error, where the JVM may also warn.
  if grep -vE '^(WARNING|OpenJDK|SLF4J|log4j)' "$err" | head -n 5 | grep . >&2; then
    fail "kafka-dump-log complains"
  fi
  batches=$(grep -c 'isvalid: true' "$out" || true)
  horizons=$(grep -c 'deleteHorizonMs: OptionalLong\[' "$out" || true)
  rm -f "$out" "$err"
  [ "$batches" -gt 0 ] || fail "kafka-dump-log saw no batch"
  echo "ok: kafka-dump-log reads $segments segments: $batches batches, all valid, every index in step"
}

case "${1:-}" in
  --stopped) dump "${2:?DIR is missing}" ;;
  --killed) torn='' && dump "${2:?DIR is missing}" ;;
  "") sed -n '2,8p' "$0" >&2; exit 2 ;;
  *)
    weir=$1
    write_run
    [ "$(find "$dir/data" -name '*.log' -path '*/dump-*' | wc -l)" -gt 3 ] || fail "the run has no rolled segments"
    dump "$dir/data/kafka"
    [ "$horizons" -gt 0 ] || fail "no cleaned batch has a delete horizon"
    ;;
esac
