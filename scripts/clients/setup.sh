#!/usr/bin/env bash
# Builds the clients of scripts/clients.py into .cache/clients: pinned packages of PyPI, npm, Go's proxy and Maven Central.
# Each step is skipped when nothing has changed since. Debian, with Python, Go, Node, Java and Maven.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
built="$root/.cache/clients"
mkdir -p "$built/bin" "$built/java" "$built/node"

command -v kcat >/dev/null || { sudo=$([ "$(id -u)" = 0 ] || echo sudo); $sudo apt-get update -qq; $sudo apt-get install -y -qq --no-install-recommends kcat >/dev/null; }

# fresh NAME FILE...: whether the step was done with these very files.
fresh() {
  local stamp="$built/$1.stamp" sum
  shift
  sum=$(cat "$@" | sha256sum)
  [ "$(cat "$stamp" 2>/dev/null)" = "$sum" ] && return 0
  pending_stamp=$stamp pending_sum=$sum
  return 1
}
done_() { echo "$pending_sum" >"$pending_stamp"; }

venv="$root/.cache/venv"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
fresh python "$here/requirements.txt" || { "$venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"; done_; }

fresh node "$here/kafkajs/package-lock.json" || {
  cp "$here/kafkajs/package.json" "$here/kafkajs/package-lock.json" "$built/node/"
  (cd "$built/node" && npm ci --silent --no-fund --no-audit)
  done_
}

fresh go "$here"/go/go.sum "$here"/go/*/*.go || { (cd "$here/go" && go build -o "$built/bin/" ./sarama ./kafka-go ./franz-go); done_; }

"$root/scripts/kafka.sh" install
fresh java "$here"/java/*.java || { javac -d "$built/java" -cp "$root/.cache/kafka/libs/*" "$here"/java/*.java; done_; }

fresh streams "$here"/streams/* || {
  mvn -q -B -f "$here/streams/pom.xml" dependency:copy-dependencies -DoutputDirectory="$built/streams-libs" >&2
  mkdir -p "$built/streams"
  javac -d "$built/streams" -cp "$built/streams-libs/*" "$here"/streams/*.java
  done_
}
