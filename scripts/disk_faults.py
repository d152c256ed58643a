#!/usr/bin/env python3
"""What `weir broker` does when its disk fails or is full: real errors, from a real file system, under librdkafka.

    scripts/disk_faults.py [--weir target/release/weir]

1. One sync fails (strace makes fdatasync or the journal's write return EIO once), and every later one would succeed: what
   waited is failed, nothing is acknowledged any more, and after a restart every acknowledged record is there. A broker
   that tried the sync again would acknowledge what the kernel has dropped.
2. The file system goes away under the running broker (FS_IOC_SHUTDOWN): the same.
3. The disk is full: writes are refused, reading goes on, a start on the full disk succeeds, and writing goes on by itself
   within 5 s after there is room.

Needs root, strace, mkfs.ext4 and a loop device; ends with 77 where there is none. Exits with 1 on any fault.
"""
import argparse
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

from reliability import Broker, Failed, Image
from weirtest import check, until

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

TOPIC, PARTITIONS = "disk-faults", 4
ANSWER_SECONDS_MAX = 5
RESUME_SECONDS_MAX = 5


class Writer:
    """Sends numbered records, one attempt each, and remembers which were acknowledged."""

    def __init__(self, address: str):
        self.acked: set[int] = set()
        self.next, self.value_bytes = 0, 1_000
        self.seconds: list[float] = []
        self.producer = Producer({"bootstrap.servers": address, "acks": "all", "linger.ms": 0, "log_level": 2,
                                  "message.send.max.retries": 0, "delivery.timeout.ms": ANSWER_SECONDS_MAX * 1_000,
                                  "reconnect.backoff.ms": 5, "reconnect.backoff.max.ms": 50})

    def send(self, count: int) -> list[str]:
        """Waits for all of them. Returns the names of the errors met."""
        errors: list[str] = []

        def settled(number: int, began: float):
            def on_delivery(error, _message):
                self.seconds.append(time.monotonic() - began)
                if error is None:
                    self.acked.add(number)
                else:
                    errors.append(error.name())
            return on_delivery

        for number in range(self.next, self.next + count):
            value = f"{number}:".ljust(self.value_bytes, "x")
            self.producer.produce(TOPIC, value, partition=number % PARTITIONS,
                                  on_delivery=settled(number, time.monotonic()))
        self.next += count
        left = self.producer.flush(ANSWER_SECONDS_MAX + 5)
        if left:
            raise Failed(f"{left} of {count} records are not answered")
        return errors


BROKERS: list[Broker] = []


def new_broker(args: argparse.Namespace, directory: pathlib.Path, image: Image, name: str) -> Broker:
    broker = Broker(args.weir, directory, image.mountpoint / name, "{}\n")
    BROKERS.append(broker)
    broker.start()
    broker.wait_until_ready()
    return broker


def kill(broker: Broker) -> None:
    """Also one that strace has started, which would outlive it."""
    pid = broker.process.pid
    if broker.process.poll() is None:
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        broker.kill()


def create(address: str) -> None:
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)


def numbers_in_log(address: str) -> set[int]:
    consumer = Consumer({"bootstrap.servers": address, "group.id": "reader", "enable.auto.commit": False,
                         "check.crcs": True})
    parts = [TopicPartition(TOPIC, p, 0) for p in range(PARTITIONS)]
    left = sum(consumer.get_watermark_offsets(p, 10, cached=False)[1] for p in parts)
    consumer.assign(parts)
    seen, deadline = set(), time.monotonic() + 30
    while left > 0 and time.monotonic() < deadline:
        for message in consumer.consume(1_000, 0.5):
            if not message.error():
                seen.add(int(message.value().split(b":")[0]))
                left -= 1
    consumer.close()
    check(left == 0, "the topic can be read to its ends")
    return seen


def check_nothing_is_acked_after(writer: Writer, broker: Broker, fault: str) -> None:
    """The disk has failed by the time of the next sync."""
    errors = writer.send(1)
    errors += [error for _ in range(5) for error in writer.send(4)]
    check(len(errors) == 21, f"after {fault} nothing is acknowledged any more ({sorted(set(errors))})")
    check(set(errors) == {"KAFKA_STORAGE_ERROR"}, "each is answered with KAFKA_STORAGE_ERROR")
    worst = 1_000 * max(writer.seconds[-21:])
    check(worst < 100, f"the directory is offline and says so within 100 ms (the slowest answer took {worst:.1f} ms)")
    broker.check_alive()
    check("offline" in broker.log.read_text(), "the log says that the directory is offline")


def check_restart(writer: Writer, broker: Broker) -> None:
    broker.start()
    broker.wait_until_ready()
    there = numbers_in_log(broker.address)
    check(writer.acked <= there, f"after a restart all {len(writer.acked)} acknowledged records are there")
    check(writer.send(20) == [], "and it writes again")


def one_sync_fails(args: argparse.Namespace, directory: pathlib.Path, image: Image) -> None:
    broker = new_broker(args, directory, image, "one-sync")
    plain = broker.command
    create(broker.address)
    writer = Writer(broker.address)
    check(writer.send(400) == [], "records are acknowledged")
    broker.stop()
    # Whatever makes a commit durable, its next call after some good ones fails; those that follow would not.
    calls = "fdatasync,fsync,syncfs"
    journal = next(iter(sorted(pathlib.Path(broker.data, "kafka").glob("*journal*"))), None)
    inject = ["-e", f"inject={calls}:error=EIO:when=12"]
    if journal:
        inject = ["-P", str(journal), "-e", "inject=pwrite64,pwritev,pwritev2:error=EIO:when=12"]
    trace = directory / "strace.log"
    broker.command = ["strace", "-f", "-qq", "-o", str(trace), *inject, *plain]
    broker.start()
    broker.wait_until_ready()
    failed: list[str] = []
    for _ in range(400):
        failed = writer.send(4)
        if failed:
            break
    check(bool(failed), "a sync has failed once")
    injected = [line for line in trace.read_text().splitlines() if "INJECTED" in line]
    where = "the journal" if journal else "a segment"
    check(len(injected) == 1, f"and only once, of {where}: the next would succeed")
    check_nothing_is_acked_after(writer, broker, "one failed sync")
    kill(broker)
    broker.command = plain
    check_restart(writer, broker)
    broker.kill()


def file_system_goes(args: argparse.Namespace, directory: pathlib.Path, image: Image) -> None:
    broker = new_broker(args, directory, image, "gone")
    create(broker.address)
    writer = Writer(broker.address)
    check(writer.send(400) == [], "records are acknowledged")
    # Nothing is under way: a sync under way could say yes wrongly, see Broker.freeze.
    image.shut_down()
    check_nothing_is_acked_after(writer, broker, "the file system has gone")
    broker.kill()
    image.power_up()
    check_restart(writer, broker)
    broker.kill()


def disk_is_full(args: argparse.Namespace, directory: pathlib.Path, image: Image) -> None:
    ballast = image.mountpoint / "ballast"
    broker = new_broker(args, directory, image, "full")
    create(broker.address)
    writer = Writer(broker.address)
    check(writer.send(400) == [], "records are acknowledged")
    free = os.statvfs(image.mountpoint)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - (24 << 20)))
    writer.value_bytes = 100_000
    errors: list[str] = []
    for _ in range(50):
        errors = writer.send(40)
        if len(errors) == 40:
            break
    check(len(errors) == 40, f"a full disk refuses writes ({sorted(set(errors))})")
    broker.check_alive()
    check(writer.acked <= numbers_in_log(broker.address), "what was acknowledged can be read meanwhile")
    broker.kill()
    broker.start()
    broker.wait_until_ready()
    check(writer.acked <= numbers_in_log(broker.address), "it starts on the full disk, and nothing is lost")
    check(len(writer.send(40)) > 0, "and still refuses writes")
    ballast.unlink()
    began = time.monotonic()
    until("writing goes on after there is room", RESUME_SECONDS_MAX, lambda: not writer.send(4))
    check(True, f"writing goes on {time.monotonic() - began:.2f} s after there is room, without a restart")
    check(writer.acked <= numbers_in_log(broker.address), f"all {len(writer.acked)} acknowledged records are there")
    broker.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weir", default="target/release/weir")
    args = parser.parse_args()
    args.weir = str(pathlib.Path(args.weir).resolve())
    if not shutil.which("strace"):
        print("SKIPPED: strace is not installed", file=sys.stderr)
        sys.exit(77)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="weir-disk-faults-"))
    image = Image(directory, 512)
    try:
        for scenario in (one_sync_fails, file_system_goes, disk_is_full):
            print(f"-- {scenario.__name__.replace('_', ' ')}", flush=True)
            scenario(args, directory, image)
    except Failed as error:
        sys.exit(f"FAILED: {error}")
    finally:
        for broker in BROKERS:
            kill(broker)
        image.close()
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
