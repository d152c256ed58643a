#!/usr/bin/env bash
# Installs what the tests beyond `cargo test --workspace` need: kcat, Chromium, librdkafka for Python,
# the browser driver, and Apache Kafka's jars. Debian; run as root or with sudo. Each step is skipped
# when it is done already.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
sudo=$([ "$(id -u)" = 0 ] || echo sudo)

packages=()
command -v kcat >/dev/null || packages+=(kcat)
command -v chromium >/dev/null || packages+=(chromium)
command -v java >/dev/null || packages+=(openjdk-17-jre-headless)
command -v mvn >/dev/null || packages+=(maven)
command -v promtool >/dev/null || packages+=(prometheus)
command -v strace >/dev/null || packages+=(strace)
command -v mkfs.ext4 >/dev/null || packages+=(e2fsprogs)
command -v make >/dev/null || packages+=(make)
command -v g++ >/dev/null || packages+=(g++)
python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
if [ ${#packages[@]} -gt 0 ]; then
  $sudo apt-get update -qq
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

venv="$root/.cache/venv"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -c 'import confluent_kafka' 2>/dev/null ||
  "$venv/bin/pip" install -q --disable-pip-version-check confluent-kafka==2.12.1

[ -d "$root/crates/weir/ui/node_modules" ] || (cd "$root/crates/weir/ui" && npm ci --silent --no-fund --no-audit)
"$root/scripts/kafka.sh" install
