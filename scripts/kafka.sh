#!/usr/bin/env bash
# One Apache Kafka node (KRaft) for the tests that run on both brokers, and Kafka's own tools.
#
#   scripts/kafka.sh install             fetch the jars from Maven Central (needs Java 17 and Maven)
#   scripts/kafka.sh start [PORT]        start a fresh node on 127.0.0.1:PORT (19092) and wait until it serves
#   scripts/kafka.sh stop [PORT]         stop it and remove its data
#   scripts/kafka.sh prepare [PORT]      only make a fresh node's configuration and data directory
#   scripts/kafka.sh run [PORT]          run a prepared node in the foreground
#   scripts/kafka.sh cluster start [PORT]  start three fresh nodes (replication 3, min.insync.replicas 2) on PORT (19192),
#                                          PORT+10 and PORT+20, 512 MB of heap each, and print their addresses; with
#                                          KAFKA_PROXIED=1 each sends its clients to the number 3 above its own
#   scripts/kafka.sh cluster stop [PORT]   stop them and remove their data
#   scripts/kafka.sh cluster signal PORT N SIGNAL  send node N (1 to 3) a signal, e.g. KILL, STOP, CONT, TERM
#   scripts/kafka.sh cluster restart PORT N  start node N again on the data it has
#   scripts/kafka.sh tool CLASS ARGS...  run a tool, e.g. org.apache.kafka.tools.TopicCommand or kafka.tools.DumpLogSegments
#
# Everything lives under .cache/kafka in the project. KAFKA_FLUSH=1 makes the node fsync every message
# (flush.messages=1), the durability that weir gives by default.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cache="$root/.cache/kafka"
libs="$cache/libs"

install() {
  [ -f "$libs/.complete" ] && return 0
  mkdir -p "$libs"
  mvn -q -B -f "$root/scripts/kafka/pom.xml" dependency:copy-dependencies -DoutputDirectory="$libs" >&2
  touch "$libs/.complete"
}

tool() {
  install
  local class=$1
  shift
  exec java -Xmx512m -Dlog4j2.disable.jmx=true -cp "$libs/*" "$class" "$@"
}

prepare() {
  install
  local port=${1:-19092} dir controller
  dir="$cache/node-$port"
  controller=$((port + 1))
  stop "$port"
  mkdir -p "$dir"
  cat >"$dir/server.properties" <<P
process.roles=broker,controller
node.id=0
controller.quorum.voters=0@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
P
  [ -z "${KAFKA_FLUSH:-}" ] || echo "log.flush.interval.messages=1" >>"$dir/server.properties"
  java -cp "$libs/*" kafka.tools.StorageTool format -t AAAAAAAAQACAAAAAAAAAAQ -c "$dir/server.properties" >"$dir/format.log" 2>&1 ||
    { cat "$dir/format.log" >&2; exit 1; }
}

run() {
  local dir="$cache/node-${1:-19092}"
  cd "$dir"
  exec java -Xms1g -Xmx1g -cp "$libs/*" kafka.Kafka "$dir/server.properties"
}

start() {
  local port=${1:-19092} dir
  dir="$cache/node-$port"
  prepare "$port"
  (run "$port" >"$dir/server.log" 2>&1 </dev/null & echo $! >"$dir/pid")
  python3 "$root/scripts/weirtest.py" ready "127.0.0.1:$port" 60 ||
    { echo "Kafka did not come up; see $dir/server.log" >&2; tail -5 "$dir/server.log" >&2; exit 1; }
  echo "127.0.0.1:$port"
}

stop() {
  local dir pid deadline
  dir="$cache/node-${1:-19092}"
  pid=$(cat "$dir/pid" 2>/dev/null || true)
  # The number may be another process's by now.
  if [ -n "$pid" ] && tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$dir/server.properties"; then
    kill -9 "$pid"
    deadline=$((SECONDS + 10))
    while kill -0 "$pid" 2>/dev/null && [ "$SECONDS" -lt "$deadline" ]; do sleep 0.05; done
  fi
  rm -rf "$dir"
}

# Three nodes. Node N of the cluster at PORT listens on PORT + 10 (N - 1); the number after it is its controller's.
node_port() { echo $(($1 + 10 * ($2 - 1))); }

cluster_prepare() {
  local base=$1 n dir port voters=""
  for n in 1 2 3; do voters="$voters,$n@127.0.0.1:$(($(node_port "$base" $n) + 1))"; done
  for n in 1 2 3; do
    port=$(node_port "$base" $n)
    dir="$cache/node-$port"
    mkdir -p "$dir"
    cat >"$dir/server.properties" <<P
process.roles=broker,controller
node.id=$n
controller.quorum.voters=${voters#,}
listeners=PLAINTEXT://127.0.0.1:$port,NODES://127.0.0.1:$((port + 2)),CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$((port + ${KAFKA_PROXIED:+3}+0)),NODES://127.0.0.1:$((port + 2))
inter.broker.listener.name=NODES
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,NODES:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
num.partitions=4
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
offsets.topic.num.partitions=6
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=6
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=6000
P
    java -cp "$libs/*" kafka.tools.StorageTool format -t AAAAAAAAQACAAAAAAAAAAQ -c "$dir/server.properties" >"$dir/format.log" 2>&1 ||
      { cat "$dir/format.log" >&2; exit 1; }
  done
}

cluster_node() {
  local port dir
  port=$(node_port "$1" "$2")
  dir="$cache/node-$port"
  (cd "$dir" && exec java -Xms256m -Xmx512m -XX:+UseSerialGC -Dlog4j2.disable.jmx=true -cp "$libs/*" kafka.Kafka \
    "$dir/server.properties" >>"$dir/server.log" 2>&1 </dev/null & echo $! >"$dir/pid")
}

cluster_ready() {
  local port
  port=$(node_port "$1" "$2")
  # One that serves may not know of the others yet.
  python3 "$root/scripts/weirtest.py" ready "127.0.0.1:$port" 90 "${3:-1}" ||
    { echo "node $2 did not come up; see $cache/node-$port/server.log" >&2; exit 1; }
}

cluster() {
  local base=${2:-19192} n
  case "${1:-}" in
    start)
      install
      cluster stop "$base"
      cluster_prepare "$base"
      for n in 1 2 3; do cluster_node "$base" $n; done
      for n in 1 2 3; do cluster_ready "$base" $n 3; done
      echo "127.0.0.1:$(node_port "$base" 1),127.0.0.1:$(node_port "$base" 2),127.0.0.1:$(node_port "$base" 3)"
      ;;
    stop) for n in 1 2 3; do stop "$(node_port "$base" $n)"; done ;;
    signal) kill -s "$4" "$(cat "$cache/node-$(node_port "$base" "$3")/pid")" ;;
    restart) cluster_node "$base" "$3"; cluster_ready "$base" "$3" ;;
    *) sed -n '2,18p' "$0" >&2; exit 2 ;;
  esac
}

case "${1:-}" in
  install) install ;;
  prepare) shift; prepare "$@" ;;
  run) shift; run "$@" ;;
  start) shift; start "$@" ;;
  stop) shift; stop "$@" ;;
  tool) shift; tool "$@" ;;
  cluster) shift; cluster "$@" ;;
  *) sed -n '2,18p' "$0" >&2; exit 2 ;;
esac
