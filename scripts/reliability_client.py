#!/usr/bin/env python3
"""librdkafka's part of scripts/reliability.py: a load client that stays alive while its broker is killed.

    scripts/reliability_client.py BROKERS TOPIC PARTITIONS NAME HISTORY RATE

Two idempotent producers with acks=all and five requests in flight, two consumers in a group that commit. Writes the
history of reliability/src/history.rs, and hears and says on its standard streams what reliability/src/load.rs does.
"""
import json
import os
import random
import sys
import threading
import time
import traceback

from weirtest import use_venv

use_venv()
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition  # noqa: E402

PRODUCERS, CONSUMERS = 2, 2
KEYS = 16
VALUE_BYTES = 100
WAITING_MAX = 4_000
AWAY_MS_MAX = 120_000
DRAIN_SECONDS_MAX = 60
COMMIT_SECONDS = 0.05
REPORT_SECONDS = 0.05
RECONNECT = {"reconnect.backoff.ms": 5, "reconnect.backoff.max.ms": 50, "socket.timeout.ms": 10_000,
             "topic.metadata.refresh.interval.ms": 5_000}


class Recorder:
    """The history as it is written, and its figures."""

    def __init__(self, path: str):
        self.file, self.lock = open(path, "w", buffering=1 << 20), threading.Lock()
        self.figures = {"acked": 0, "unknown": 0, "polled": 0, "commits": 0}

    def write(self, op: str, counter: "str | None" = None, count: int = 1, **fields) -> None:
        line = json.dumps({"op": op, **fields}, separators=(",", ":"))
        with self.lock:
            self.file.write(line + "\n")
            if counter:
                self.figures[counter] += count

    def close(self) -> None:
        with self.lock:
            self.file.close()


def say(line: dict) -> None:
    print(json.dumps(line, separators=(",", ":")), flush=True)


class Load:
    """What all clients share."""

    def __init__(self, brokers: str, topic: str, partitions: str, name: str, history: str, rate: str):
        self.brokers, self.topic, self.name = brokers, topic, name
        self.partitions, self.rate = int(partitions), int(rate)
        self.recorder = Recorder(history)
        self.stopping, self.finishing = threading.Event(), threading.Event()

    def produce(self, name: str) -> None:
        """Until told to stop; then until everything is settled."""
        producer, seq, waiting, complaints = self.producer(), 0, [0], [0]

        def settled(number: int, partition: int, key: str):
            def on_delivery(error, message):
                waiting[0] -= 1
                send = {"client": name, "seq": number, "partition": partition, "key": key}
                if error is None:
                    # A duplicate whose first place the broker no longer knows has none.
                    place = {"offset": message.offset()} if message.offset() >= 0 else {}
                    self.recorder.write("send", "acked", outcome="acked", **send, **place)
                    return
                # It may yet be in the log: a refusal may follow an attempt whose answer was lost.
                self.recorder.write("send", "unknown", outcome="unknown", **send)
                complaints[0] += 1
                if complaints[0] <= 5:
                    print(f"{name}:{number} has failed: {error}", file=sys.stderr, flush=True)
            return on_delivery

        def replace(error) -> Producer:
            """After a fatal error a producer has failed what it held, and takes nothing more."""
            print(f"{name}: {error}; a new producer goes on", file=sys.stderr, flush=True)
            producer.purge()
            settle(producer, 10)
            return self.producer()

        def settle(old: Producer, seconds: float) -> None:
            deadline = time.monotonic() + seconds
            while len(old) > 0 and time.monotonic() < deadline:
                try:
                    old.poll(0.05)
                except KafkaException:
                    time.sleep(0.01)  # The fatal error again; deliveries come all the same.
            if len(old) > 0:
                raise RuntimeError(f"{name}: librdkafka does not settle {len(old)} records")

        due = time.monotonic()
        while not self.stopping.is_set():
            due = max(due + 0.005, time.monotonic() - 0.1)
            try:
                for _ in range(max(1, self.rate // 200)):
                    key_number = seq % KEYS
                    key, partition = f"{name}-k{key_number}", key_number % self.partitions
                    value = f"{name}:{seq} ".ljust(VALUE_BYTES, "x")
                    producer.produce(self.topic, value, key, partition=partition,
                                     on_delivery=settled(seq, partition, key))
                    waiting[0] += 1
                    seq += 1
                producer.poll(max(0.0, due - time.monotonic()))
                while waiting[0] > WAITING_MAX and not self.stopping.is_set():
                    producer.poll(0.05)
            except BufferError:
                time.sleep(0.01)
            except KafkaException as error:
                producer = replace(error)
        settle(producer, AWAY_MS_MAX / 1000 + 10)

    def producer(self) -> Producer:
        return Producer({
            "bootstrap.servers": self.brokers, "enable.idempotence": True, "acks": "all", "linger.ms": 1,
            "max.in.flight.requests.per.connection": 5,
            # Small, so that five are in flight in each partition when the broker dies.
            "batch.num.messages": 20,
            "delivery.timeout.ms": AWAY_MS_MAX, "retry.backoff.ms": 10, "retry.backoff.max.ms": 100, **RECONNECT})

    def consume(self, name: str, outcome: dict) -> None:
        """Member after member of the group, until everything is read at the end."""
        while name not in outcome:
            member = Member(self, name)
            outcome_known = member.read(time.monotonic() + random.uniform(3, 9))
            member.consumer.close()
            if outcome_known is not None:
                outcome[name] = outcome_known

    def group_is_done(self, consumer: Consumer) -> bool:
        """Whether the group has committed all there is."""
        parts = [TopicPartition(self.topic, p) for p in range(self.partitions)]
        try:
            ends = [consumer.get_watermark_offsets(p, 10, cached=False)[1] for p in parts]
            committed = [entry.offset for entry in consumer.committed(parts, 10)]
        except KafkaException:
            return False
        return all(end == 0 or at >= end for at, end in zip(committed, ends))

    def read_to_the_end(self) -> None:
        """Called when everything is settled, before the groups are asked to finish."""

    def report(self) -> None:
        while True:
            with self.recorder.lock:
                figures = dict(self.recorder.figures)
            say(figures)
            time.sleep(REPORT_SECONDS)


class Member:
    """One life of a consumer: it joins, reads and commits, and leaves."""

    def __init__(self, load: Load, name: str):
        self.load, self.name = load, name
        # Read and not yet committed: the next offset of each partition.
        self.read_to: dict[int, int] = {}
        # One commit at a time: librdkafka tries a commit again whose answer was lost, and would undo a later one.
        self.is_committing = False
        self.consumer = Consumer({
            "bootstrap.servers": load.brokers, "group.id": load.name, "enable.auto.commit": False,
            "auto.offset.reset": "earliest", "session.timeout.ms": 3_000, "heartbeat.interval.ms": 200,
            "max.poll.interval.ms": 60_000, "fetch.wait.max.ms": 100, "fetch.error.backoff.ms": 20, "check.crcs": True,
            "on_commit": self.on_commit, "partition.assignment.strategy": "range", **RECONNECT})
        self.consumer.subscribe([load.topic], on_assign=self.on_assign, on_revoke=self.on_gone, on_lost=self.on_gone)

    def on_commit(self, error, partitions) -> None:
        self.is_committing = False
        for entry in partitions:
            if error is None and entry.error is None and entry.offset >= 0:
                self.load.recorder.write("commit", "commits", consumer=self.name, group=self.load.name,
                                         partition=entry.partition, offset=entry.offset)

    def on_assign(self, _consumer, partitions) -> None:
        self.read_to.clear()
        self.load.recorder.write("assign", consumer=self.name, group=self.load.name,
                                 partitions=[entry.partition for entry in partitions])

    def on_gone(self, _consumer, _partitions) -> None:
        # What was read and not committed is for the next owner to read again.
        self.read_to.clear()

    def read(self, until: float) -> "bool | None":
        """Until its time is over; or, at the end, until its group has read everything: whether it has."""
        committed_at, deadline = time.monotonic(), None
        while True:
            is_quiet = not self.poll()
            if self.read_to and not self.is_committing and time.monotonic() - committed_at >= COMMIT_SECONDS:
                self.commit()
                committed_at = time.monotonic()
            if not self.load.finishing.is_set():
                if time.monotonic() > until:
                    return None
                continue
            deadline = deadline or time.monotonic() + DRAIN_SECONDS_MAX
            is_done = is_quiet and not self.read_to and not self.is_committing and self.load.group_is_done(self.consumer)
            if is_done or time.monotonic() > deadline:
                return is_done

    def poll(self) -> bool:
        """Whether there was anything."""
        batches: dict[int, list] = {}
        for message in self.consumer.consume(500, 0.05):
            if not message.error():
                value = message.value().split(b" ")[0].decode(errors="replace")
                batches.setdefault(message.partition(), []).append([message.offset(), value])
        for partition, records in batches.items():
            self.load.recorder.write("poll", "polled", len(records), consumer=self.name, group=self.load.name,
                                     partition=partition, records=records)
            self.read_to[partition] = records[-1][0] + 1
        return bool(batches)

    def commit(self) -> None:
        offsets = [TopicPartition(self.load.topic, p, offset) for p, offset in self.read_to.items()]
        self.read_to.clear()
        try:
            self.is_committing = True
            self.consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException:
            self.is_committing = False  # In the middle of a rebalance: the records come again.


def serve(load: Load) -> None:
    """Does as it is told on standard input."""
    outcome: dict[str, bool] = {}

    def start(target, *args) -> threading.Thread:
        def guarded():
            try:
                target(*args)
            except BaseException:  # A client that dies is a fault of its own.
                traceback.print_exc()
                os._exit(3)
        return threading.Thread(target=guarded, daemon=True)

    producers = [start(load.produce, f"{load.name}-{n}") for n in range(PRODUCERS)]
    consumers = [start(load.consume, f"{load.name}-c{n}", outcome) for n in range(CONSUMERS)]
    for thread in [*producers, *consumers, start(load.report)]:
        thread.start()
    for line in sys.stdin:
        if line.strip() == "stop":
            load.stopping.set()
            for thread in producers:
                thread.join()
            say({"settled": True})
        elif line.strip() == "finish":
            load.read_to_the_end()
            load.finishing.set()
            for thread in consumers:
                thread.join()
            load.recorder.close()
            say({"drained": len(outcome) == CONSUMERS and all(outcome.values())})
            return
    sys.exit("the rig is gone")


def main() -> None:
    if len(sys.argv) != 7:
        sys.exit(__doc__)
    serve(Load(*sys.argv[1:]))


if __name__ == "__main__":
    main()
