#!/usr/bin/env python3
"""One scenario, run by every client: on weir's broker, or on any Kafka, which proves the scenario itself.

    scripts/clients.py [--weir target/release/weir]         starts `weir broker` itself, and kills it once per client
    scripts/clients.py --brokers 127.0.0.1:19092            uses a running Kafka; no kill
      --client NAME...                                      only these: kcat confluent-kafka aiokafka kafkajs sarama
                                                            kafka-go franz-go java
      --protocol classic|consumer|both                      the groups' protocol; both: KIP-848 too where the client has it
      --write docs/compatibility.md                         puts the table into that page

Each client is a small program (scripts/clients/NAME, built by scripts/clients/setup.sh) that does what it is told line by
line; the protocol is in scripts/clients/driver.py. What must come out is decided here: every record once, in the order of
its partition, with its key and headers; read again by librdkafka, and the batches looked at as the broker hands them out.

    create          the topic is there with its partitions
    none ... zstd   records produced with this codec; each batch has the codec and, if the client can, a producer id
    join, leave     a group of two, a third member joins, one leaves: each time every partition has one member, every
                    record comes once
    resume          all leave, the broker is killed and restarted, a new member reads what is new and nothing else
    list, describe  the client sees its group, its members, and who has which partition
    txn             two transactions committed, one aborted between them
    committed       a reader of what is committed sees the two; a reader of all sees three
    delete          records deleted up to an offset; a new group starts there

Exits with 1 on any fault. A step that a client has no call for is "-" in the table.
"""
import argparse
import collections
import json
import os
import pathlib
import queue
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from weirtest import ROOT, VENV, use_venv

use_venv()
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402
from librdkafka import Weir  # noqa: E402

HERE = ROOT / "scripts" / "clients"
BUILT = ROOT / ".cache" / "clients"
JARS = ROOT / ".cache" / "kafka" / "libs"
# The class path is Kafka's own jars; -XX flags make the many short runs cheaper.
JAVA = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", f"{BUILT / 'java'}:{JARS}/*"]
PROGRAMS = {
    "kcat": [str(VENV), str(HERE / "kcat" / "client.py")],
    "confluent-kafka": [str(VENV), str(HERE / "confluent-kafka" / "client.py")],
    "aiokafka": [str(VENV), str(HERE / "aiokafka" / "client.py")],
    "kafkajs": ["node", str(HERE / "kafkajs" / "client.js")],
    "sarama": [str(BUILT / "bin" / "sarama")],
    "kafka-go": [str(BUILT / "bin" / "kafka-go")],
    "franz-go": [str(BUILT / "bin" / "franz-go")],
    "java": [*JAVA, "Client"],
}
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
STEPS = ["create", *CODECS, "join", "leave", "list", "describe", "resume", "txn", "committed", "delete"]
PARTITIONS = 4
RECORDS = 50  # to each partition, at each step
SECONDS_MAX = 60


class Fault(Exception):
    """What did not come out as it should."""


def until(what: str, look, seconds: float = SECONDS_MAX):
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise Fault(f"{what}: not within {seconds} s")
        time.sleep(0.05)


class Driver:
    """A running program of a client."""

    def __init__(self, name: str, address: str, log):
        environment = {**os.environ, "NODE_PATH": str(BUILT / "node" / "node_modules"), "KAFKAJS_NO_PARTITIONER_WARNING": "1"}
        self.process = subprocess.Popen([*PROGRAMS[name], address], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=log, text=True, env=environment)
        self.records: list = []
        self.answers: queue.Queue = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.hello = self.answer()

    def _listen(self) -> None:
        for line in self.process.stdout:
            answer = json.loads(line)
            if "record" in answer:
                self.records.append(answer["record"])
            else:
                self.answers.put(answer)
        self.answers.put({"error": f"the program ended with {self.process.wait()}"})

    def tell(self, do: str, **arguments) -> None:
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict:
        try:
            answer = self.answers.get(timeout=SECONDS_MAX)
        except queue.Empty:
            raise Fault(f"no answer within {SECONDS_MAX} s") from None
        if "error" in answer:
            raise Fault(answer["error"])
        return answer

    def do(self, verb: str, **arguments) -> dict:
        self.tell(verb, **arguments)
        return self.answer()

    def check_alive(self) -> None:
        if not self.answers.empty():
            raise Fault(f"a member ended: {self.answers.get()}")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Judge:
    """librdkafka and the bare protocol: what is true on the broker, whatever the client says."""

    def __init__(self, address: str):
        self.address = address
        self.admin = AdminClient({"bootstrap.servers": address, "log_level": 0, "reconnect.backoff.max.ms": 200})

    def create(self, topic: str) -> None:
        self.admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(SECONDS_MAX)

    def partitions(self, topic: str) -> int:
        found = self.admin.list_topics(timeout=SECONDS_MAX).topics.get(topic)
        return len(found.partitions) if found else 0

    def low(self, topic: str, partition: int) -> int:
        return self.offsets(topic, partition)[0]

    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset and the end. Right after its creation Kafka may not lead the partition yet."""
        reader = Consumer({"bootstrap.servers": self.address, "group.id": "judge"})

        def look():
            try:
                return reader.get_watermark_offsets(TopicPartition(topic, partition), SECONDS_MAX, cached=False)
            except KafkaException as error:
                if not error.args[0].retriable() and error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
                    raise

        found = until("the judge gets offsets", look)
        reader.close()
        return found

    def group(self, name: str):
        """State and {client id: partitions} of a group; nothing while it is not known or its members have none."""
        try:
            group = self.admin.describe_consumer_groups([name])[name].result(SECONDS_MAX)
        except Exception:  # noqa: BLE001  It may not exist yet; the caller looks again.
            return "", {}
        members = {member.client_id: sorted(part.partition for part in member.assignment.topic_partitions)
                   for member in group.members}
        return group.state.name.lower(), members

    def group_type(self, name: str) -> str:
        """The protocol that the group is really on: "classic" or "consumer". Clients may fall back in silence."""
        listed = self.admin.list_consumer_groups().result(SECONDS_MAX).valid
        return next((group.type.name.lower() for group in listed if group.group_id == name), "none")

    def committed(self, group: str, topic: str) -> dict:
        from confluent_kafka import ConsumerGroupTopicPartitions
        asked = [ConsumerGroupTopicPartitions(group, [TopicPartition(topic, n) for n in range(PARTITIONS)])]
        answer = self.admin.list_consumer_group_offsets(asked)[group].result(SECONDS_MAX)
        return {part.partition: part.offset for part in answer.topic_partitions}

    def transaction(self, name: str, topic: str, records: list, end: str) -> None:
        producer = Producer({"bootstrap.servers": self.address, "transactional.id": name, "linger.ms": 5})
        producer.init_transactions(SECONDS_MAX)
        producer.begin_transaction()
        self.send(producer, topic, records)
        (producer.commit_transaction if end == "commit" else producer.abort_transaction)(SECONDS_MAX)

    def produce(self, topic: str, records: list) -> None:
        self.send(Producer({"bootstrap.servers": self.address}), topic, records)

    @staticmethod
    def send(producer: Producer, topic: str, records: list) -> None:
        for partition, key, value, headers in records:
            producer.produce(topic, value, key, partition, headers=[tuple(header) for header in headers])
        if producer.flush(SECONDS_MAX):
            raise Fault("the judge cannot produce")

    def read(self, topic: str, isolation: str) -> list:
        """The records of each partition, up to the end that this isolation level sees."""
        reader = Consumer({"bootstrap.servers": self.address, "group.id": "judge", "isolation.level": isolation,
                           "enable.auto.commit": False, "check.crcs": True})
        parts = [TopicPartition(topic, part, 0) for part in range(PARTITIONS)]
        for part in parts:
            part.offset = reader.get_watermark_offsets(part, SECONDS_MAX, cached=False)[0]
        ends = [reader.get_watermark_offsets(part, SECONDS_MAX, cached=False)[1] for part in parts]
        reader.assign(parts)
        seen: list = [[] for _ in range(PARTITIONS)]

        def at_end():
            for message in reader.consume(1000, 0.1):
                if message.error():
                    raise Fault(f"the judge cannot read: {message.error()}")
                headers = [[name, value.decode()] for name, value in message.headers() or []]
                seen[message.partition()].append([message.key().decode(), message.value().decode(), headers])
            return all(max(at.offset, low.offset) >= end for at, low, end in zip(reader.position(parts), parts, ends))

        until("the judge reads to the end", at_end)
        reader.close()
        return seen

    def batches(self, topic: str, partition: int, offset: int) -> list[tuple[int, str, int]]:
        """Base offset, codec and producer id of the batches from an offset on, as Fetch version 4 hands them out."""
        name = topic.encode()
        body = struct.pack(">hhih", 1, 4, 1, -1) + struct.pack(">iiiibi", -1, 1000, 1, 1 << 24, 0, 1)
        body += struct.pack(">h", len(name)) + name + struct.pack(">iiqi", 1, partition, offset, 1 << 24)
        host, port = self.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), SECONDS_MAX) as s:
            s.sendall(struct.pack(">i", len(body)) + body)
            stream = s.makefile("rb")
            answer = stream.read(struct.unpack(">i", stream.read(4))[0])
        at = 4 + 4 + 4 + 2 + len(name) + 4
        _, error, _, _, aborted, size = struct.unpack_from(">ihqqii", answer, at)
        if error or aborted > 0:
            raise Fault(f"Fetch of the judge: error {error}")
        at += struct.calcsize(">ihqqii")
        end, found = at + size, []
        while at + 61 <= end:
            base, length = struct.unpack_from(">qi", answer, at)
            attributes, _, _, _, producer_id = struct.unpack_from(">hiqqq", answer, at + 21)
            if base >= offset:
                found.append((base, CODECS[attributes & 7], producer_id))
            at += 12 + length
        return found


class Scenario:
    """The steps, for one client and one group protocol."""

    def __init__(self, name: str, protocol: str, judge: Judge, weir: "Weir | None", log, verbose: bool):
        self.name, self.protocol, self.judge, self.weir, self.log, self.verbose = name, protocol, judge, weir, log, verbose
        self.stamp = f"{name}-{protocol}-{time.time_ns()}"
        self.drivers: list[Driver] = []
        self.results: dict[str, str] = {}
        self.main = self.driver()
        self.can = self.main.hello["can"]

    def driver(self) -> Driver:
        driver = Driver(self.name, self.judge.address, self.log)
        self.drivers.append(driver)
        return driver

    def run(self) -> None:
        steps = [("create", self.create), *((codec, lambda codec=codec: self.codec(codec)) for codec in CODECS),
                 ("join", self.join), ("leave", self.leave), ("list", self.list), ("describe", self.describe),
                 ("resume", self.resume), ("txn", self.transactions), ("committed", self.committed), ("delete", self.delete)]
        for step, run in steps:
            began = time.monotonic()
            try:
                result = run()
                self.results[step] = "-" if result is False else result if isinstance(result, str) else "yes"
            except Exception as error:  # noqa: BLE001  One client's fault does not end the others' runs.
                self.results[step] = "FAILED"
                print(f"FAILED: {self.name} {self.protocol}: {step}: {error!r}", flush=True)
                return
            if self.verbose:
                print(f"    {self.name} {step}: {self.results[step]}, {time.monotonic() - began:.1f} s", flush=True)

    def close(self) -> None:
        for driver in self.drivers:
            driver.close()

    def lines(self, topic: str, what: str) -> list:
        """New records, which are remembered as those that a reader of the topic must see."""
        self.sent.setdefault(topic, [[] for _ in range(PARTITIONS)])
        records = [[part, f"{what}-{part}-{n}", f"{what} {n} " + "weir " * (n % 40), [["part", str(part)], ["what", what]]]
                   for part in range(PARTITIONS) for n in range(RECORDS)]
        return records

    sent: dict = collections.defaultdict(list)

    def produce(self, topic: str, what: str, codec: str = "none") -> None:
        records = self.lines(topic, what)
        self.main.do("produce", topic=topic, codec=codec, records=records)
        for part, *record in records:
            self.sent[topic][part].append(record)

    def create(self):
        self.topic = f"codecs-{self.stamp}"
        if "create" not in self.can:
            self.judge.create(self.topic)
            return False
        self.main.do("create", topic=self.topic, partitions=PARTITIONS)
        until("the topic has its partitions", lambda: self.judge.partitions(self.topic) == PARTITIONS)

    def codec(self, codec: str):
        if codec not in self.main.hello["codecs"]:
            return False
        first = [self.judge.offsets(self.topic, part)[1] for part in range(PARTITIONS)]
        self.produce(self.topic, codec, codec)
        for part in range(PARTITIONS):
            batches = self.judge.batches(self.topic, part, first[part])
            if {found for _, found, _ in batches} != {codec}:
                raise Fault(f"the batches of partition {part} are {batches}")
            if "idempotence" in self.can and any(producer < 0 for _, _, producer in batches):
                raise Fault(f"no producer id in {batches}")
        same("what librdkafka reads", self.judge.read(self.topic, "read_uncommitted"), self.sent[self.topic])
        self.read(self.topic)

    def read(self, topic: str, visible=lambda _part, records: records, committed: bool = False) -> None:
        """A group of one reads what is visible of the topic, to a last record that the judge adds to each partition."""
        end = [[part, "end", "end", []] for part in range(PARTITIONS)]
        self.judge.produce(topic, end)
        for part, *record in end:
            self.sent[topic][part].append(record)
        wanted = [visible(part, records) for part, records in enumerate(self.sent[topic])]
        reader = self.driver()
        self.consume(reader, f"reader-{time.time_ns()}", topic, "reader", committed)
        until("the reader comes to the end", lambda: self.count(reader) >= sum(map(len, wanted)) or self.dead(reader))
        reader.tell("leave")
        reader.answer()
        same("what it reads", per_partition(reader.records), wanted)

    @staticmethod
    def count(*drivers: Driver) -> int:
        return sum(len(driver.records) for driver in drivers)

    @staticmethod
    def dead(*drivers: Driver) -> None:
        for driver in drivers:
            driver.check_alive()

    def consume(self, driver: Driver, group: str, topic: str, client_id: str, committed: bool = False) -> None:
        driver.tell("consume", group=group, topic=topic, client_id=client_id, protocol=self.protocol,
                    read_committed=committed)

    def settle(self) -> dict:
        """Waits until each member has partitions and each partition a member."""
        def look():
            self.dead(*self.members.values())
            state, members = self.judge.group(self.group)
            parts = sorted(part for owned in members.values() for part in owned)
            settled = state == "stable" and set(members) == set(self.members) and parts == list(range(PARTITIONS))
            return members if settled and all(members.values()) else None
        try:
            return until(f"the group of {len(self.members)} settles", look)
        except Fault as fault:
            raise Fault(f"{fault}; it is {self.judge.group(self.group)}") from None

    def phase(self, what: str) -> None:
        """Records that come to a settled group: each once, and to the member that has the partition."""
        owners = self.settle()
        before = {name: len(member.records) for name, member in self.members.items()}
        self.produce(self.group_topic, what)
        wanted = [[record for record in records if record[0].startswith(f"{what}-")] for records in self.sent[self.group_topic]]
        total = sum(map(len, wanted))

        def fresh(name):
            return self.members[name].records[before[name]:]

        until(f"all of {what} comes", lambda: sum(len(fresh(name)) for name in self.members) >= total or self.dead(*self.members.values()))
        same(what, per_partition([record for name in self.members for record in fresh(name)]), wanted)
        for name, owned in owners.items():
            parts = {record[0] for record in fresh(name)}
            if parts != set(owned):
                raise Fault(f"{what}: member {name} reads {sorted(parts)}, and has {owned}")
        ends = {part: len(records) for part, records in enumerate(self.sent[self.group_topic])}
        until(f"the offsets of {what} are committed", lambda: self.judge.committed(self.group, self.group_topic) == ends)

    def join(self):
        self.group, self.group_topic = f"group-{self.stamp}", f"grouped-{self.stamp}"
        self.judge.create(self.group_topic)
        self.members = {}
        for name in ("m1", "m2"):
            self.add_member(name)
        self.phase("two")
        if self.judge.group_type(self.group) != self.protocol:
            raise Fault(f"the group is of type {self.judge.group_type(self.group)}")
        self.add_member("m3")
        self.phase("three")

    def add_member(self, name: str) -> None:
        self.members[name] = self.driver()
        self.consume(self.members[name], self.group, self.group_topic, name)

    def remove_member(self, name: str) -> None:
        member = self.members.pop(name)
        seen = len(member.records)
        member.tell("leave")
        member.answer()
        if len(member.records) != seen:
            raise Fault(f"{name} read {member.records[seen:][:2]} while it left")

    def leave(self):
        self.remove_member("m1")
        self.phase("left")

    def list(self):
        if "groups" not in self.can:
            return False
        found = self.main.do("groups")["groups"]
        if self.group not in found:
            raise Fault(f"{self.group} is not among {found}")

    def describe(self):
        if "describe" not in self.can:
            return False
        found = self.main.do("describe", group=self.group)
        wanted = self.judge.group(self.group)
        if (found["state"].lower(), {name: sorted(parts) for name, parts in found["members"].items()}) != wanted:
            raise Fault(f"it says {found}, librdkafka {wanted}")

    def resume(self):
        for name in list(self.members):
            self.remove_member(name)
        until("the group is empty", lambda: self.judge.group(self.group)[0] == "empty")
        if self.weir:
            self.weir.kill()
            self.weir.start()
        self.add_member("m4")
        self.phase("resumed")
        self.remove_member("m4")

    def transactions(self):
        topic = f"transactions-{self.stamp}"
        self.judge.create(topic)
        for what, end in (("first", "commit"), ("dropped", "abort"), ("second", "commit")):
            records = self.lines(topic, what)
            if end in self.can:
                self.main.do("transaction", id=self.stamp, topic=topic, records=records, end=end)
            else:
                self.judge.transaction(f"{self.stamp}-{what}", topic, records, end)
            for part, *record in records:
                self.sent[topic][part].append(record)
        self.transaction_topic = topic
        wanted = [committed_of(part, records) for part, records in enumerate(self.sent[topic])]
        same("what is committed", self.judge.read(topic, "read_committed"), wanted)
        same("what was written", self.judge.read(topic, "read_uncommitted"), self.sent[topic])
        return "abort" in self.can or ("commit only" if "commit" in self.can else False)

    def committed(self):
        if "read_committed" not in self.can:
            return False
        self.read(self.transaction_topic, committed_of, committed=True)
        self.read(self.transaction_topic)

    def delete(self):
        if "delete_records" not in self.can:
            return False
        before = RECORDS + 3
        self.main.do("delete_records", topic=self.topic, partition=1, offset=before)
        low = self.judge.low(self.topic, 1)
        if low != before:
            raise Fault(f"the log begins at {low}, not at {before}")
        self.read(self.topic, lambda part, records: records[before:] if part == 1 else records)


def committed_of(_part: int, records: list) -> list:
    return [record for record in records if not record[0].startswith("dropped")]


def per_partition(records: list) -> list:
    """Records as they came, by partition; their offsets must rise."""
    found: list = [[] for _ in range(PARTITIONS)]
    last = [-1] * PARTITIONS
    for part, offset, key, value, headers in records:
        if offset <= last[part]:
            raise Fault(f"offset {offset} of partition {part} comes after {last[part]}")
        last[part] = offset
        found[part].append([key, value, headers])
    return found


def same(what: str, seen: list, wanted: list) -> None:
    for part, (have, want) in enumerate(zip(seen, wanted)):
        if have != want:
            at = next((n for n, (a, b) in enumerate(zip(have, want)) if a != b), min(len(have), len(want)))
            raise Fault(f"{what}: partition {part}: {len(have)} records, wanted {len(want)}; "
                        f"the first difference at {at}: {have[at:at + 1]} for {want[at:at + 1]}")


def table(rows: list) -> str:
    heads = ["client", "groups", *STEPS]
    cells = [heads, ["---"] * len(heads), *([name, protocol, *(results.get(step, "?") for step in STEPS)] for name, protocol, results in rows)]
    return "".join("| " + " | ".join(cell) + " |\n" for cell in cells)


def write(page: pathlib.Path, text: str) -> None:
    """Replaces what stands between the marks of the clients' table."""
    begin, end = "<!-- clients.py: begin -->\n", "<!-- clients.py: end -->\n"
    before = page.read_text()
    if begin not in before:
        sys.exit(f"{page} has no {begin}")
    page.write_text(re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: begin + text + end, before, flags=re.S))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--weir", default="target/release/weir")
    parser.add_argument("--brokers")
    parser.add_argument("--client", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--protocol", choices=["classic", "consumer", "both"], default="classic")
    parser.add_argument("--write", type=pathlib.Path)
    parser.add_argument("--verbose", action="store_true", help="print each step with its seconds")
    args = parser.parse_args()
    subprocess.run([str(HERE / "setup.sh")], check=True)
    weir = None if args.brokers else Weir(args.weir)
    judge = Judge(args.brokers or weir.address)
    log = tempfile.NamedTemporaryFile("w", prefix="weir-clients-", suffix=".log", delete=False)
    rows = []
    for protocol in ["classic", "consumer"] if args.protocol == "both" else [args.protocol]:
        for name in args.client:
            began = time.monotonic()
            scenario = Scenario(name, protocol, judge, weir, log, args.verbose)
            try:
                if protocol in scenario.main.hello["protocols"]:
                    scenario.run()
                    rows.append((scenario.main.hello["client"], protocol, scenario.results))
                    print(f"{name} {protocol}: {time.monotonic() - began:.1f} s", flush=True)
            finally:
                scenario.close()
    text = table(rows)
    print(text)
    if args.write:
        write(args.write, text)
    if weir:
        weir.close()
    if any("FAILED" in results.values() for _, _, results in rows):
        sys.exit(f"what the clients said is in {log.name}")
    os.unlink(log.name)


if __name__ == "__main__":
    main()
