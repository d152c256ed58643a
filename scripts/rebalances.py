#!/usr/bin/env python3
"""Groups whose members come, go and stall, under kill -9 of the broker: no record is lost or processed twice, nobody is stuck.

    scripts/rebalances.py [--weir target/release/weir] [--rebalances 200] [--kills 10]     starts `weir broker` itself
    scripts/rebalances.py --brokers 127.0.0.1:19092                                        uses a running Kafka; no kill

Each group copies numbers from a topic to another, one transaction per batch with the group's offsets in it. Members join
and leave all the time; some stall in the middle of a transaction until the group has gone on without them (zombies), and
then try to commit. Half of the groups rebalance eagerly (range), half cooperatively. At the end a reader of what is
committed sees every number once, the committed offsets are the ends, a zombie's commit has been refused, and the groups'
generations, as Kafka's dump tool reads them in __consumer_offsets, say how many rebalances there were.

Needs the PyPI package confluent-kafka (scripts/setup.sh installs it), and scripts/kafka.sh for the generations. Exits with 1
on any fault; prints its seed.
"""
import argparse
import json
import pathlib
import random
import re
import subprocess
import sys
import threading
import time

from librdkafka import Weir
from weirtest import ROOT, check, until, use_venv

use_venv()
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

PARTITIONS = 4
GROUPS = 4
MEMBERS_MAX = 4
STALL_SECONDS = 8.0  # longer than a member may go without a poll
SECONDS_MAX = 60
QUIET = {"log_level": 0, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200}


class Member(threading.Thread):
    """Reads, copies and commits until it is told to leave. After a fault it begins anew, as a new member."""

    def __init__(self, group: "Group", number: int):
        super().__init__(daemon=True)
        self.group, self.name = group, f"{group.name}-{number}"
        self.leaving, self.stall, self.owned, self.fault = False, False, None, ""
        self.refused, self.stalls = 0, 0

    def run(self) -> None:
        try:
            while not self.leaving:
                self.life()
        except Exception as error:  # noqa: BLE001  The main thread reports it.
            self.fault = repr(error)

    def life(self) -> None:
        self.batch: list = []
        consumer, producer = None, None
        try:
            producer = Producer({"bootstrap.servers": self.group.address, "transactional.id": self.name, "linger.ms": 1,
                                 "transaction.timeout.ms": 30_000, **QUIET})
            producer.init_transactions(SECONDS_MAX)
            consumer = Consumer({"bootstrap.servers": self.group.address, "group.id": self.group.name, "enable.auto.commit": False,
                                 "auto.offset.reset": "earliest", "isolation.level": "read_committed", "session.timeout.ms": 6000,
                                 "max.poll.interval.ms": 6000, "heartbeat.interval.ms": 200, "fetch.wait.max.ms": 50,
                                 "partition.assignment.strategy": self.group.assignor, **QUIET})
            consumer.subscribe([self.group.source], on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.revoked)
            while not self.leaving:
                self.round(consumer, producer)
        except KafkaException as error:
            self.refused += 1
            self.group.note(self.name, error)
        finally:
            self.owned = None
            if consumer:
                leave(consumer)

    def assigned(self, _consumer, parts: list) -> None:
        kept = self.owned or set()
        self.owned = kept | {part.partition for part in parts}

    def revoked(self, _consumer, parts: list) -> None:
        gone = {part.partition for part in parts}
        # Whoever gets them begins at what is committed; so what was read of them and not committed is not ours to copy.
        self.batch = [message for message in self.batch if message.partition() not in gone]
        self.owned = (self.owned or set()) - gone

    def round(self, consumer: Consumer, producer: Producer) -> None:
        self.batch = []
        deadline = time.monotonic() + 0.1
        while len(self.batch) < 20 and time.monotonic() < deadline:
            message = consumer.poll(0.02)
            if message is not None and not message.error():
                self.batch.append(message)
        if not self.batch:
            return
        producer.begin_transaction()
        offsets: dict = {}
        for message in self.batch:
            producer.produce(self.group.result, message.value(), partition=message.partition())
            offsets[message.partition()] = message.offset() + 1
        if self.stall:
            self.stall = False
            self.stalls += 1
            producer.flush(SECONDS_MAX)
            time.sleep(STALL_SECONDS)
        parts = [TopicPartition(self.group.source, part, offset) for part, offset in offsets.items()]
        try:
            retrying(lambda: producer.send_offsets_to_transaction(parts, consumer.consumer_group_metadata(), SECONDS_MAX))
            retrying(lambda: producer.commit_transaction(SECONDS_MAX))
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise
            retrying(lambda: producer.abort_transaction(SECONDS_MAX))
            if error.args[0].code() not in (KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS):
                raise
            # The group went on to a new generation meanwhile, of which this member is part: again from the batch's start.
            for message in reversed(self.batch):
                consumer.seek(TopicPartition(self.group.source, message.partition(), message.offset()))


def leave(consumer: Consumer) -> None:
    """Gives the partitions up before the end: a callback that runs inside close() may wait for ever in librdkafka 2.12,
    with the interpreter's lock held."""
    consumer.unsubscribe()
    deadline = time.monotonic() + 10
    while consumer.assignment() and time.monotonic() < deadline:
        consumer.poll(0.05)
    consumer.close()


def retrying(call) -> None:
    while True:
        try:
            return call()
        except KafkaException as error:
            if not error.args[0].retriable():
                raise


class Group:
    """One group with its two topics, its members, and the feed of numbers."""

    def __init__(self, address: str, number: int, stamp: int):
        self.address, self.name = address, f"churn-{stamp}-{number}"
        self.source, self.result = f"{self.name}-in", f"{self.name}-out"
        self.assignor = "cooperative-sticky" if number % 2 else "range"
        self.members: list[Member] = []
        self.gone: list[Member] = []
        self.count, self.fed, self.changes, self.faults = 0, 0, 0, []
        admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
        for future in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in (self.source, self.result)]).values():
            future.result(30)
        self.producer = Producer({"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 5, **QUIET})

    def note(self, member: str, error: KafkaException) -> None:
        self.faults.append(f"{member}: {error.args[0].name()}")

    def feed(self, count: int) -> None:
        for _ in range(count):
            self.producer.produce(self.source, str(self.fed), partition=self.fed % PARTITIONS)
            self.fed += 1
        self.producer.poll(0)

    def join(self) -> None:
        self.count += 1
        self.members.append(Member(self, self.count))
        self.members[-1].start()

    def settled(self) -> bool:
        owned = [part for member in self.members for part in member.owned or ()]
        return sorted(owned) == list(range(PARTITIONS)) and all(member.owned is not None for member in self.members)

    def change(self, choice: random.Random) -> None:
        """One member joins, leaves, or stalls."""
        self.changes += 1
        if len(self.members) < 2 or (len(self.members) < MEMBERS_MAX and choice.random() < 0.5):
            self.join()
        elif choice.random() < 0.1:
            choice.choice(self.members).stall = True
        else:
            member = self.members.pop(choice.randrange(len(self.members)))
            member.leaving = True
            self.gone.append(member)

    def committed(self) -> int:
        reader = Consumer({"bootstrap.servers": self.address, "group.id": self.name, **QUIET})
        parts = reader.committed([TopicPartition(self.source, part) for part in range(PARTITIONS)], SECONDS_MAX)
        reader.close()
        return sum(max(part.offset, 0) for part in parts)

    def check_members(self) -> None:
        for member in self.members + self.gone:
            if member.fault:
                sys.exit(f"FAILED: {member.name}: {member.fault}")


def read_committed(address: str, topic: str, count: int) -> list[int]:
    reader = Consumer({"bootstrap.servers": address, "group.id": f"judge-{topic}", "isolation.level": "read_committed",
                       "enable.auto.commit": False, "enable.partition.eof": False, **QUIET})
    parts = [TopicPartition(topic, part, 0) for part in range(PARTITIONS)]
    ends = [reader.get_watermark_offsets(part, 30, cached=False)[1] for part in parts]
    reader.assign(parts)
    seen: list[list[int]] = [[] for _ in range(PARTITIONS)]
    deadline = time.monotonic() + SECONDS_MAX
    while any(at.offset < end for at, end in zip(reader.position(parts), ends)):
        for message in reader.consume(1000, 0.2):
            seen[message.partition()].append(int(message.value()))
        if time.monotonic() > deadline:
            sys.exit(f"FAILED: {topic} cannot be read to its end")
    reader.close()
    check(all(part == sorted(part) for part in seen), f"{topic}: in order in each partition")
    return [number for part in seen for number in part]


def churn(groups: list[Group], weir: "Weir | None", rebalances: int, kills: int, seed: int) -> None:
    """Changes the groups by turns, each as soon as it has settled after its last change, until there were enough."""
    choice, killed, wanted = random.Random(seed), 0, rebalances + rebalances // 4
    last = {group: time.monotonic() for group in groups}
    while (done := sum(group.changes for group in groups)) < wanted:
        for group in groups:
            group.feed(5)
            group.check_members()
            if not group.members or group.settled() and not any(member.stall for member in group.members):
                group.change(choice)
                last[group] = time.monotonic()
            elif time.monotonic() - last[group] > SECONDS_MAX:
                sys.exit(f"FAILED: {group.name} is stuck: {[(member.name, member.owned) for member in group.members]}, {group.faults[-5:]}")
        if weir and killed < kills and done > (killed + 1) * wanted // (kills + 1):
            killed += 1
            weir.kill()
            weir.start()
        time.sleep(0.05)
    if weir:
        check(killed == kills, f"the broker was killed {killed} times")


def generations(weir: Weir, groups: list[Group]) -> int:
    """The last generations of the groups, from the files of the stopped broker."""
    logs = [str(path) for path in pathlib.Path(weir.dir).glob("**/__consumer_offsets-*/*.log") if path.stat().st_size]
    command = ["java", "-Xmx256m", "-cp", f"{ROOT / '.cache' / 'kafka' / 'libs'}/*", "kafka.tools.DumpLogSegments", "--offsets-decoder"]
    run = subprocess.run([*command, "--files", ",".join(logs)], capture_output=True, text=True, timeout=120)
    check(run.returncode == 0 and "isvalid: false" not in run.stdout, f"Kafka's dump tool reads __consumer_offsets {run.stderr[-300:]}".strip())
    found: dict = {}
    for line in run.stdout.splitlines():
        match = re.search(r" key: (\{.*?\}) payload: (\{.*\})$", line)
        if match and '"generation"' in match[2]:
            key, value = json.loads(match[1]), json.loads(match[2])
            name = key.get("data", key).get("group")
            found[name] = max(found.get(name, 0), value.get("data", value)["generation"])
    return sum(found.get(group.name, 0) for group in groups)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--weir", default="target/release/weir")
    parser.add_argument("--brokers")
    parser.add_argument("--rebalances", type=int, default=200)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    args = parser.parse_args()
    print(f"    seed {args.seed}")
    weir = None if args.brokers else Weir(args.weir)
    address = args.brokers or weir.address
    groups = [Group(address, number, time.time_ns()) for number in range(GROUPS)]
    churn(groups, weir, args.rebalances, args.kills, args.seed)
    for group in groups:
        check(group.producer.flush(SECONDS_MAX) == 0, f"{group.name}: {group.fed} numbers were written, {group.changes} changes")
    for group in groups:
        until(f"{group.name} comes to the end", SECONDS_MAX, lambda: group.check_members() or group.committed() == group.fed)
    members = [member for group in groups for member in group.members + group.gone]
    for member in members:
        member.leaving = True
    for member in members:
        member.join(SECONDS_MAX)
        if member.is_alive():
            sys.exit(f"FAILED: {member.name} does not end")
    for group in groups:
        group.check_members()
        seen = read_committed(address, group.result, group.fed)
        check(sorted(seen) == list(range(group.fed)), f"{group.name}: each of {group.fed} numbers once ({len(seen)} seen)")
    stalls = sum(member.stalls for member in members)
    refused = sum(member.refused for member in members)
    check(stalls > 0 and refused >= stalls, f"{stalls} members stalled in a transaction, {refused} times a member was refused and began anew")
    if weir:
        weir.process.terminate()
        weir.process.wait(10)
        count = generations(weir, groups)
        check(count >= args.rebalances, f"there were {count} rebalances, at least {args.rebalances} are wanted")
        weir.start()
        weir.close()


if __name__ == "__main__":
    main()
