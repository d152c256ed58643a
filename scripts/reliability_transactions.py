#!/usr/bin/env python3
"""The transactional part of scripts/reliability.py: librdkafka, alive while its broker is killed.

    scripts/reliability_transactions.py BROKERS TOPIC PARTITIONS NAME HISTORY RATE

Two transactional producers, each with one transaction after the other over all partitions, a quarter of them aborted after
their records were sent; two consumers in a group that read what is committed. At the end it reads the topic itself, also
only what is committed. History and standard streams as those of scripts/reliability_client.py.
"""
import random
import sys
import time

from reliability_client import AWAY_MS_MAX, KEYS, RECONNECT, VALUE_BYTES, Load, serve
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

RECORDS_MAX = 20
ABORTED_SHARE = 0.25
CALL_SECONDS = 5
READ_SECONDS_MAX = 60


class Transaction:
    """Records of one transaction, and where they went."""

    def __init__(self, client: str, number: int):
        self.client, self.number = client, number
        self.sends: list[dict] = []

    def add(self, producer: Producer, topic: str, seq: int, partitions: int) -> None:
        key_number = seq % KEYS
        send = {"client": self.client, "seq": seq, "partition": key_number % partitions, "key": f"{self.client}-k{key_number}",
                "txn": self.number}
        self.sends.append(send)

        def on_delivery(error, message):
            if error is None and message.offset() >= 0:
                send["offset"] = message.offset()

        value = f"{self.client}:{seq} ".ljust(VALUE_BYTES, "x")
        producer.produce(topic, value, send["key"], partition=send["partition"], on_delivery=on_delivery)

    def record(self, recorder, outcome: str) -> None:
        for send in self.sends:
            if outcome != "acked":
                send.pop("offset", None)
            recorder.write("send", outcome if outcome in ("acked", "unknown") else None, outcome=outcome, **send)


class TransactionalLoad(Load):
    """A producer makes transactions; the rest is as in the other families."""

    def __init__(self, *args):
        super().__init__(*args)
        # The next offset behind the last committed record of each partition, known at the end.
        self.visible_ends: dict[int, int] = {}

    def produce(self, name: str) -> None:
        rng, seq, number = random.Random(name), 0, 0
        producer = self.transactional(name)
        while not self.stopping.is_set():
            number += 1
            transaction = Transaction(name, number)
            began = time.monotonic()
            count = rng.randint(1, RECORDS_MAX)
            is_fatal = False
            try:
                producer.begin_transaction()
                for _ in range(count):
                    transaction.add(producer, self.topic, seq, self.partitions)
                    seq += 1
                    producer.poll(0)
                if rng.random() < ABORTED_SHARE:
                    # They are to be in the log when the abort comes.
                    producer.flush(CALL_SECONDS)
                    outcome = self.end(producer.abort_transaction, "failed")
                else:
                    outcome = self.end(producer.commit_transaction, "acked")
            except KafkaException as exception:
                error = exception.args[0]
                outcome, is_fatal = "unknown", True
                if error.txn_requires_abort():
                    try:
                        outcome, is_fatal = self.end(producer.abort_transaction, "failed"), False
                    except KafkaException as second:
                        error = second.args[0]
                if is_fatal:
                    print(f"{name}:{number} has ended with {error}; a new producer goes on", file=sys.stderr, flush=True)
            transaction.record(self.recorder, outcome)
            if is_fatal:
                producer.purge()
                producer = self.transactional(name)
            time.sleep(max(0.0, began + count / self.rate - time.monotonic()))

    @staticmethod
    def end(call, outcome: str) -> str:
        """Calls until there is an answer; what cannot be tried again is raised."""
        deadline = time.monotonic() + AWAY_MS_MAX / 1000
        while True:
            try:
                call(CALL_SECONDS)
                return outcome
            except KafkaException as exception:
                if not exception.args[0].retriable() or time.monotonic() > deadline:
                    raise

    def transactional(self, name: str) -> Producer:
        """A producer that has fenced off the one of this name before it, whose open transaction is aborted by that."""
        deadline = time.monotonic() + AWAY_MS_MAX / 1000
        while True:
            producer = Producer({
                "bootstrap.servers": self.brokers, "transactional.id": name, "transaction.timeout.ms": 60_000, "linger.ms": 1,
                "batch.num.messages": 20, "retry.backoff.ms": 10, "retry.backoff.max.ms": 100, "log_level": 3, **RECONNECT})
            try:
                self.end(producer.init_transactions, "ready")
                return producer
            except KafkaException:
                if time.monotonic() > deadline:
                    raise

    def read_to_the_end(self) -> None:
        consumer = Consumer({"bootstrap.servers": self.brokers, "group.id": f"{self.name}-reader", "enable.auto.commit": False,
                             "isolation.level": "read_committed", "enable.partition.eof": True, "check.crcs": True, **RECONNECT})
        consumer.assign([TopicPartition(self.topic, p, OFFSET_BEGINNING) for p in range(self.partitions)])
        found: dict[int, list] = {p: [] for p in range(self.partitions)}
        read_to: dict[int, int] = {}
        deadline = time.monotonic() + READ_SECONDS_MAX
        while len(read_to) < self.partitions and time.monotonic() < deadline:
            for message in consumer.consume(500, 0.1):
                error = message.error()
                if error is None:
                    found[message.partition()].append([message.offset(), message.value().split(b" ")[0].decode(errors="replace")])
                elif error.code() == KafkaError._PARTITION_EOF:
                    read_to[message.partition()] = message.offset()
        parts = [TopicPartition(self.topic, p) for p in range(self.partitions)]
        for part in parts:
            records = found[part.partition]
            self.recorder.write("final", partition=part.partition, records=records)
            self.recorder.write("end", partition=part.partition, offset=consumer.get_watermark_offsets(part, 10, cached=False)[1],
                                read_to=read_to.get(part.partition, 0))
            self.visible_ends[part.partition] = records[-1][0] + 1 if records else 0
        consumer.close()

    def group_is_done(self, consumer: Consumer) -> bool:
        """Whether the group has committed all that is visible: behind it are only aborted and control records."""
        try:
            committed = consumer.committed([TopicPartition(self.topic, p) for p in range(self.partitions)], 10)
        except KafkaException:
            return False
        is_done = all(entry.offset >= self.visible_ends[entry.partition] or self.visible_ends[entry.partition] == 0 for entry in committed)
        if is_done:
            for entry in committed:
                self.recorder.write("committed", group=self.name, partition=entry.partition, offset=entry.offset)
        return is_done


def main() -> None:
    if len(sys.argv) != 7:
        sys.exit(__doc__)
    serve(TransactionalLoad(*sys.argv[1:]))


if __name__ == "__main__":
    main()
