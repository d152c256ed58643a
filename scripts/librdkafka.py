#!/usr/bin/env python3
"""librdkafka and kcat against weir's broker, or against any Kafka.

    scripts/librdkafka.py [--weir target/release/weir] [--records 1000000]     starts `weir broker` itself
    scripts/librdkafka.py --brokers 127.0.0.1:19092                            uses a running Kafka; no kill

1. kcat lists, produces, consumes, and joins a group.
2. librdkafka writes N records (idempotent, acks=all) and reads them: none lost, none twice, order per partition.
3. The same with kill -9 of the broker in the middle and a restart: every acknowledged record is there once.

Needs kcat, and the PyPI package confluent-kafka (scripts/setup.sh installs both). Exits with 1 on any fault.
"""
import argparse
import atexit
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from weirtest import check, free_port, use_venv, wait_until_serves

use_venv()
from confluent_kafka import Consumer, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

PARTITIONS = 12
VALUE_BYTES = 200


class Weir:
    """A `weir broker` process that can be killed and started again on the same data and port."""

    def __init__(self, binary: str):
        self.binary, self.port = binary, free_port()
        self.dir = tempfile.mkdtemp(prefix="weir-librdkafka-")
        self.address = f"127.0.0.1:{self.port}"
        atexit.register(self.end)
        self.start()

    def start(self) -> None:
        log = open(pathlib.Path(self.dir) / "broker.log", "ab")
        command = [self.binary, "broker", "--data-dir", f"{self.dir}/data", "--kafka-port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        if not wait_until_serves(self.address, 30, self.process):
            sys.exit(f"weir broker does not serve: see {self.dir}/broker.log")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        """No broker outlives a script that failed; its data and log stay."""
        if self.process.poll() is None:
            self.process.kill()

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        shutil.rmtree(self.dir, ignore_errors=True)


def kcat(address: str, *args: str, text: str = "") -> str:
    result = subprocess.run(
        ["kcat", "-b", address, *args], input=text, capture_output=True, text=True, timeout=60
    )
    check(result.returncode == 0, f"kcat {' '.join(args)} (exit {result.returncode}) {result.stderr[-200:]}".strip())
    return result.stdout


def kcat_scenario(address: str) -> None:
    topic = f"kcat-{time.time_ns()}"
    lines = "".join(f"k{n}:value {n}\n" for n in range(100))
    kcat(address, "-P", "-t", topic, "-K", ":", text=lines)
    check(f'topic "{topic}"' in kcat(address, "-L"), "kcat -L shows the topic")
    read = kcat(address, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-K", ":")
    check(sorted(read.splitlines()) == sorted(lines.splitlines()), "kcat -C reads what -P wrote")
    group = f"g-{time.time_ns()}"
    grouped = kcat(address, "-G", group, "-e", "-q", "-K", ":", "-X", "auto.offset.reset=earliest", topic)
    check(sorted(grouped.splitlines()) == sorted(lines.splitlines()), "kcat -G reads everything in a group")
    kcat(address, "-P", "-t", topic, "-K", ":", text="late:one more\n")
    again = kcat(address, "-G", group, "-e", "-q", "-K", ":", "-X", "auto.offset.reset=earliest", topic)
    check(again.splitlines() == ["late:one more"], "kcat -G resumes after its committed offsets")


def create(address: str, topic: str) -> None:
    # The client must outlive its futures.
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)


class Load:
    """Produces numbered records and remembers which were acknowledged."""

    def __init__(self, address: str, topic: str):
        self.topic, self.acked, self.failed = topic, bytearray(), 0
        self.producer = Producer({
            "bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 20,
            "queue.buffering.max.messages": 500_000, "queue.buffering.max.kbytes": 1_000_000,
            "delivery.timeout.ms": 120_000, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200,
        })

    def run(self, first: int, count: int) -> None:
        self.acked.extend(bytes(first + count - len(self.acked)))

        def settled(number):
            def on_delivery(error, _message):
                if error is None:
                    self.acked[number] = 1
                else:
                    self.failed += 1
            return on_delivery

        for number in range(first, first + count):
            value = f"{number:010d}".encode().ljust(VALUE_BYTES, b"x")
            while True:
                try:
                    self.producer.produce(self.topic, value, partition=number % PARTITIONS, on_delivery=settled(number))
                    break
                except BufferError:
                    self.producer.poll(0.05)
            if number % 1000 == 0:
                self.producer.poll(0)

    def flush(self) -> None:
        left = self.producer.flush(150)
        check(left == 0, f"all produced records are settled ({left} left, {self.failed} failed)")


def read_back(address: str, topic: str) -> list[list[int]]:
    """The record numbers of each partition, in offset order."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "reader", "enable.auto.commit": False,
                         "enable.partition.eof": False, "fetch.min.bytes": 1, "check.crcs": True})
    parts = [TopicPartition(topic, p, 0) for p in range(PARTITIONS)]
    ends = [consumer.get_watermark_offsets(p, 30, cached=False)[1] for p in parts]
    consumer.assign(parts)
    seen: list[list[int]] = [[] for _ in range(PARTITIONS)]
    missing, deadline = sum(ends), time.monotonic() + 180
    while missing > 0 and time.monotonic() < deadline:
        for message in consumer.consume(10_000, 1.0):
            if message.error():
                sys.exit(f"FAILED: consume: {message.error()}")
            seen[message.partition()].append(int(message.value()[:10]))
            missing -= 1
    consumer.close()
    check(missing == 0, f"the consumer reads to the end of the topic ({sum(ends)} records)")
    return seen


def verify(load: Load, seen: list[list[int]]) -> None:
    flat = [n for part in seen for n in part]
    check(len(flat) == len(set(flat)), "no record is there twice")
    there = set(flat)
    lost = sum(1 for n, acked in enumerate(load.acked) if acked and n not in there)
    check(lost == 0, f"no acknowledged record is lost ({sum(load.acked)} acknowledged)")
    check(all(part == sorted(part) for part in seen), "order holds in every partition")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--weir", default="target/release/weir")
    parser.add_argument("--brokers")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=3)
    args = parser.parse_args()
    weir = None if args.brokers else Weir(args.weir)
    address = args.brokers or weir.address
    kcat_scenario(address)

    topic = f"million-{time.time_ns()}"
    create(address, topic)
    load, started = Load(address, topic), time.monotonic()
    load.run(0, args.records)
    load.flush()
    print(f"    produced {args.records} in {time.monotonic() - started:.1f} s")
    started = time.monotonic()
    seen = read_back(address, topic)
    print(f"    consumed {sum(map(len, seen))} in {time.monotonic() - started:.1f} s")
    verify(load, seen)
    check(sum(load.acked) == args.records, "every record was acknowledged")

    if weir:
        topic = f"killed-{time.time_ns()}"
        create(address, topic)
        load, share = Load(address, topic), args.records // (args.kills + 1)
        for round in range(args.kills + 1):
            load.run(round * share, share)
            if round < args.kills:
                weir.kill()
                weir.start()
        load.flush()
        verify(load, read_back(address, topic))
        check(load.failed == 0, f"{args.kills} kills -9 cost no record")
        weir.close()


if __name__ == "__main__":
    main()
