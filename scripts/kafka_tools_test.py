#!/usr/bin/env python3
"""Kafka's own command line tools on weir's broker, or on any Kafka, with a look at what they print.

    scripts/kafka_tools_test.py [--weir target/release/weir]      starts `weir broker` itself
    scripts/kafka_tools_test.py --brokers 127.0.0.1:19092         uses a running Kafka

kafka-topics, -configs, -consumer-groups, -groups, -log-dirs, -delete-records, -transactions, -get-offsets, -producer-perf-test,
-consumer-perf-test, -verifiable-producer, -verifiable-consumer, -console-producer, -console-consumer, -broker-api-versions,
-features, -cluster, -leader-election, -reassign-partitions, -metadata-quorum, -client-metrics, -acls; then the calls of the operations script in the specification of messaging scenarios.

Needs Java 17 and Maven (scripts/kafka.sh install), and the PyPI package confluent-kafka. Exits with 1 on any fault.
"""
import argparse
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

from weirtest import ROOT, check, until, use_venv

use_venv()
from confluent_kafka import Producer  # noqa: E402
from librdkafka import Weir  # noqa: E402

JARS = ROOT / ".cache" / "kafka" / "libs"
# The flags make many short runs cheaper.
JAVA = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dlog4j2.disable.jmx=true", "-cp", f"{JARS}/*"]
CLASSES = {
    "topics": "org.apache.kafka.tools.TopicCommand",
    "configs": "kafka.admin.ConfigCommand",
    "consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "groups": "org.apache.kafka.tools.GroupsCommand",
    "log-dirs": "org.apache.kafka.tools.LogDirsCommand",
    "delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
    "transactions": "org.apache.kafka.tools.TransactionsCommand",
    "get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "producer-perf-test": "org.apache.kafka.tools.ProducerPerformance",
    "consumer-perf-test": "org.apache.kafka.tools.ConsumerPerformance",
    "verifiable-producer": "org.apache.kafka.tools.VerifiableProducer",
    "verifiable-consumer": "org.apache.kafka.tools.VerifiableConsumer",
    "console-producer": "org.apache.kafka.tools.ConsoleProducer",
    "console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "broker-api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
    "features": "org.apache.kafka.tools.FeatureCommand",
    "cluster": "org.apache.kafka.tools.ClusterTool",
    "leader-election": "org.apache.kafka.tools.LeaderElectionCommand",
    "reassign-partitions": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
    "metadata-quorum": "org.apache.kafka.tools.MetadataQuorumCommand",
    "client-metrics": "org.apache.kafka.tools.ClientMetricsCommand",
    "acls": "org.apache.kafka.tools.AclCommand",
}
RECORDS = 500  # of the verifiable producer, and of each run of the console producer a tenth


class Tools:
    def __init__(self, address: str, directory: pathlib.Path):
        self.address, self.directory = address, directory

    def command(self, name: str, *args: str) -> list[str]:
        # The tools do not agree on how the broker is named.
        plain = {"producer-perf-test": [], "cluster": []}
        return [*JAVA, CLASSES[name], *plain.get(name, ["--bootstrap-server", self.address]), *args]

    def run(self, name: str, *args: str, text: str = "", code: int = 0, seconds: float = 60) -> str:
        """What the tool prints on both of its outputs; it must end with this code."""
        run = subprocess.run(self.command(name, *args), input=text, capture_output=True, text=True, timeout=seconds)
        lines = [line for line in (run.stdout + run.stderr).splitlines() if not line.startswith(("WARNING", "OpenJDK", "SLF4J"))]
        if run.returncode != code:
            sys.exit(f"FAILED: kafka-{name} {' '.join(args)}: ended with {run.returncode}\n" + "\n".join(lines[-15:]))
        return "\n".join(lines)

    def file(self, name: str, content: object) -> str:
        path = self.directory / name
        path.write_text(json.dumps(content))
        return str(path)


def rows(text: str, first: str) -> list[dict]:
    """The rows under a heading that begins with this word, each as {column: value}."""
    found, heads = [], None
    for line in text.splitlines():
        cells = line.split()
        if cells and cells[0] == first:
            heads = cells
        elif heads and len(cells) >= len(heads):
            found.append(dict(zip(heads, cells)))
    return found


def topics(tools: Tools, topic: str) -> None:
    said = tools.run("topics", "--create", "--topic", topic, "--partitions", "3", "--config", "retention.ms=3600000",
                     "--config", "segment.bytes=2097152")
    check(f"Created topic {topic}." in said, "kafka-topics --create")
    again = tools.run("topics", "--create", "--topic", topic, code=1)
    check(f"Topic '{topic}' already exists." in again, "  the same again is refused, in words")
    wide = tools.run("topics", "--create", "--topic", f"{topic}-wide", "--replication-factor", "3", code=1)
    check("replication factor" in wide.lower(), "  as are three replicas")
    check(topic in tools.run("topics", "--list").splitlines(), "kafka-topics --list")
    described = tools.run("topics", "--describe", "--topic", topic)
    right = re.search(rf"Topic: {topic}\s+TopicId: \S{{22}}\s+PartitionCount: 3\s+ReplicationFactor: 1\s+Configs: (\S+)", described)
    check(right and {"retention.ms=3600000", "segment.bytes=2097152"} <= set(right[1].split(",")), "kafka-topics --describe: the topic")
    check(len(re.findall(r"Partition: \d+\s+Leader: 0\s+Replicas: 0\s+Isr: 0", described)) == 3, "  and its partitions")
    tools.run("topics", "--alter", "--topic", topic, "--partitions", "4")
    described = tools.run("topics", "--describe", "--topic", topic)
    check("PartitionCount: 4" in described, "kafka-topics --alter --partitions")
    fewer = tools.run("topics", "--alter", "--topic", topic, "--partitions", "2", code=1)
    check("would not be an increase" in fewer, "  fewer are refused")


def configs(tools: Tools, topic: str) -> None:
    entity = ["--entity-type", "topics", "--entity-name", topic]
    said = tools.run("configs", "--alter", *entity, "--add-config", "max.message.bytes=20000,cleanup.policy=delete")
    check(f"Completed updating config for topic {topic}." in said, "kafka-configs --alter --add-config")
    described = tools.run("configs", "--describe", *entity)
    check("max.message.bytes=20000" in described and "retention.ms=3600000" in described, "kafka-configs --describe")
    everything = tools.run("configs", "--describe", "--all", *entity)
    check("min.insync.replicas=1" in everything and "DEFAULT_CONFIG" in everything, "kafka-configs --describe --all")
    tools.run("console-producer", "--topic", topic, text="x" * 30000 + "\n")
    kept = re.findall(rf"{topic}:\d+:(\d+)", tools.run("get-offsets", "--topic", topic))
    check(set(kept) == {"0"}, "  a record above max.message.bytes is refused at once")
    tools.run("configs", "--alter", *entity, "--delete-config", "max.message.bytes")
    described = tools.run("configs", "--describe", *entity)
    check("max.message.bytes" not in described and "retention.ms=3600000" in described, "kafka-configs --alter --delete-config")
    wrong = tools.run("configs", "--alter", *entity, "--add-config", "retention.ms=many", code=1)
    check("Invalid value many for configuration retention.ms" in wrong, "  a wrong value is refused")
    broker = tools.run("configs", "--describe", "--all", "--entity-type", "brokers", "--entity-name", "0")
    check("num.partitions=4" in broker and "STATIC_BROKER_CONFIG" in broker, "kafka-configs of the broker")


def console(tools: Tools, topic: str) -> None:
    lines = [f"h:{n}\tkey-{n}\tline {n}" for n in range(RECORDS // 10)]
    tools.run("console-producer", "--topic", topic, "--property", "parse.key=true", "--property", "parse.headers=true",
              text="\n".join(lines) + "\n")
    read = tools.run("console-consumer", "--topic", topic, "--from-beginning", "--max-messages", str(len(lines)), "--group", "console",
                     "--property", "print.key=true", "--property", "print.headers=true", "--timeout-ms", "20000")
    seen = [line for line in read.splitlines() if line.startswith("h:")]
    check(sorted(seen) == sorted(lines), f"kafka-console-consumer reads the {len(lines)} records of kafka-console-producer, keys and headers too")
    keyed = [f"{n},value" for n in range(RECORDS // 10)]
    tools.run("console-producer", "--topic", topic, "--property", "parse.key=true", "--property", "key.separator=,",
              "--compression-codec", "zstd", "--batch-size", "500", text="\n".join(keyed) + "\n")


def performance(tools: Tools, topic: str) -> None:
    said = tools.run("producer-perf-test", "--topic", topic, "--num-records", "20000", "--record-size", "200", "--throughput", "-1",
                     "--producer-props", f"bootstrap.servers={tools.address}", "acks=all", "compression.type=lz4")
    check("20000 records sent" in said and "99.9th" in said, "kafka-producer-perf-test")
    said = tools.run("consumer-perf-test", "--topic", topic, "--messages", "20000", "--group", f"perf-{topic}", "--timeout", "20000")
    numbers = said.splitlines()[-1].split(", ")
    check(int(numbers[4]) >= 20000, f"kafka-consumer-perf-test reads them ({numbers[4]})")


def verifiable(tools: Tools, topic: str) -> None:
    said = tools.run("verifiable-producer", "--topic", topic, "--max-messages", str(RECORDS), "--acks", "-1", "--repeating-keys", "7")
    events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    sent = {(event["partition"], event["offset"]): event["value"] for event in events if event["name"] == "producer_send_success"}
    check(len(sent) == RECORDS and events[-1]["name"] == "tool_data" and events[-1]["acked"] == RECORDS, f"kafka-verifiable-producer: {RECORDS} acknowledged")
    # It goes on at the end of the topic until it is told to stop.
    out = (tools.directory / "verifiable.out").open("w+")
    process = subprocess.Popen(tools.command("verifiable-consumer", "--topic", topic, "--group-id", f"verifiable-{topic}", "--reset-policy", "earliest",
                                             "--verbose"), stdout=out, stderr=subprocess.DEVNULL)

    def events_of():
        text = pathlib.Path(out.name).read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]

    def committed():
        return sum(part["offset"] for part in {part["partition"]: part for event in events_of() if event["name"] == "offsets_committed"
                                               and event["success"] for part in event["offsets"]}.values())

    until("kafka-verifiable-consumer commits all", 40, lambda: committed() == RECORDS)
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    events = events_of()
    read = {(event["partition"], event["offset"]): event["value"] for event in events if event["name"] == "record_data"}
    check(read == sent, f"kafka-verifiable-consumer reads and commits each of the {RECORDS} as it was written")
    check(events[-1]["name"] == "shutdown_complete", "  and stops when it is told to")


def groups(tools: Tools, topic: str) -> None:
    group = f"verifiable-{topic}"
    check(group in tools.run("consumer-groups", "--list").splitlines(), "kafka-consumer-groups --list")
    states = tools.run("consumer-groups", "--list", "--state")
    check(re.search(rf"{group}\s+Empty", states), "kafka-consumer-groups --list --state")
    check(re.search(rf"{group}\s+Classic\s+consumer", tools.run("groups", "--list")), "kafka-groups --list")
    described = rows(tools.run("consumer-groups", "--describe", "--group", group), "GROUP")
    check(len(described) == 4 and sum(int(row["CURRENT-OFFSET"]) for row in described) == RECORDS
          and all(row["LAG"] == "0" for row in described), "kafka-consumer-groups --describe: offsets and no lag")
    state = tools.run("consumer-groups", "--describe", "--group", group, "--state")
    check(re.search(rf"{group}\s+127\.0\.0\.1:\d+\s+\(0\)\s+Empty\s+0", re.sub(r" +", " ", state)) or "Empty" in state, "kafka-consumer-groups --describe --state")
    dry = tools.run("consumer-groups", "--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--dry-run")
    check(len([row for row in rows(dry, "GROUP") if row["NEW-OFFSET"] == "0"]) == 4, "kafka-consumer-groups --reset-offsets --dry-run")
    described = rows(tools.run("consumer-groups", "--describe", "--group", group), "GROUP")
    check(all(row["LAG"] == "0" for row in described), "  which changes nothing")
    tools.run("consumer-groups", "--reset-offsets", "--group", group, "--topic", f"{topic}:0,1", "--to-offset", "3", "--execute")
    tools.run("consumer-groups", "--reset-offsets", "--group", group, "--topic", f"{topic}:2", "--shift-by", "-2", "--execute")
    stamped = tools.run("consumer-groups", "--reset-offsets", "--group", group, "--topic", f"{topic}:3", "--to-datetime", "2020-01-01T00:00:00.000", "--execute")
    check(rows(stamped, "GROUP")[0]["NEW-OFFSET"] == "0", "  by time: the first record after it")
    described = {row["PARTITION"]: row for row in rows(tools.run("consumer-groups", "--describe", "--group", group), "GROUP")}
    check((described["0"]["CURRENT-OFFSET"], described["1"]["CURRENT-OFFSET"], described["2"]["LAG"], described["3"]["CURRENT-OFFSET"])
          == ("3", "3", "2", "0"), "kafka-consumer-groups --reset-offsets --execute: to an offset, by a shift, to a time")
    gone = tools.run("consumer-groups", "--delete-offsets", "--group", group, "--topic", f"{topic}:0")
    check("Successful" in gone, "kafka-consumer-groups --delete-offsets")
    described = {row["PARTITION"] for row in rows(tools.run("consumer-groups", "--describe", "--group", group), "GROUP")}
    check(described == {"1", "2", "3"}, "  and they are gone")
    deleted = tools.run("consumer-groups", "--delete", "--group", group)
    check("was successful" in deleted, "kafka-consumer-groups --delete")
    check(group not in tools.run("consumer-groups", "--list").splitlines(), "  and it is gone")


def live_group(tools: Tools, topic: str) -> None:
    group = f"live-{topic}"
    process = subprocess.Popen(tools.command("console-consumer", "--topic", topic, "--group", group), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    def members():
        return rows(tools.run("consumer-groups", "--describe", "--group", group, "--members", "--verbose"), "GROUP")
    found = until("the group has a member with partitions", 40, lambda: [row for row in members() if row["#PARTITIONS"] == "4"])
    check(found[0]["CLIENT-ID"] == "console-consumer", "kafka-consumer-groups --describe --members")
    refused = tools.run("consumer-groups", "--delete", "--group", group)
    check("GroupNotEmptyException" in refused, "  a group with members is not deleted")
    refused = tools.run("consumer-groups", "--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute")
    check("inactive" in refused, "  nor are its offsets reset")
    process.send_signal(signal.SIGTERM)
    process.wait(20)


def offsets(tools: Tools, topic: str) -> None:
    latest = tools.run("get-offsets", "--topic", topic)
    ends = {int(part): int(end) for part, end in re.findall(rf"{topic}:(\d+):(\d+)", latest)}
    check(sorted(ends) == [0, 1, 2, 3] and sum(ends.values()) == RECORDS, "kafka-get-offsets")
    asked = tools.file("delete.json", {"version": 1, "partitions": [{"topic": topic, "partition": part, "offset": 5 if part else -1} for part in range(2)]})
    said = tools.run("delete-records", "--offset-json-file", asked)
    lows = dict(re.findall(rf"partition: {topic}-(\d)\s+low_watermark: (\d+)", said))
    check(lows == {"0": str(ends[0]), "1": "5"}, "kafka-delete-records: up to the end, and up to an offset")
    earliest = tools.run("get-offsets", "--topic", topic, "--time", "earliest")
    begins = dict(re.findall(rf"{topic}:(\d+):(\d+)", earliest))
    check(begins == {"0": str(ends[0]), "1": "5", "2": "0", "3": "0"}, "kafka-get-offsets --time earliest")
    beyond = tools.file("beyond.json", {"version": 1, "partitions": [{"topic": topic, "partition": 2, "offset": 10**9}]})
    check("OffsetOutOfRange" in tools.run("delete-records", "--offset-json-file", beyond), "  an offset beyond the end is refused")
    largest = tools.run("get-offsets", "--topic", topic, "--time", "max-timestamp", "--partitions", "2")
    check(re.search(rf"{topic}:2:{ends[2] - 1}", largest) or re.search(rf"{topic}:2:\d+", largest), "kafka-get-offsets --time max-timestamp")
    past = tools.run("get-offsets", "--topic", topic, "--time", str(int(time.time() * 1000) + 3_600_000), "--partitions", "2")
    check(not re.search(rf"{topic}:2:\d", past), "kafka-get-offsets of a time to come: none")


def log_dirs(tools: Tools, topic: str) -> None:
    said = tools.run("log-dirs", "--describe", "--topic-list", topic, "--broker-list", "0")
    told = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    directory = told["brokers"][0]["logDirs"][0]
    sizes = {part["partition"]: part["size"] for part in directory["partitions"]}
    check(directory["error"] is None and sorted(sizes) == [f"{topic}-{n}" for n in range(4)] and all(sizes.values()),
          "kafka-log-dirs --describe: each partition with its bytes")


def transactions(tools: Tools, topic: str) -> None:
    name = f"open-{topic}"
    producer = Producer({"bootstrap.servers": tools.address, "transactional.id": name, "linger.ms": 0})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, "open", partition=2)
    producer.flush(30)
    listed = rows(tools.run("transactions", "list"), "TransactionalId")
    mine = next((row for row in listed if row["TransactionalId"] == name), None)
    check(mine and mine["TransactionState"] == "Ongoing", "kafka-transactions list")
    described = rows(tools.run("transactions", "describe", "--transactional-id", name), "CoordinatorId")
    check(described and described[0]["TransactionState"] == "Ongoing" and described[0]["TopicPartitions"] == f"{topic}-2",
          "kafka-transactions describe")
    producers = rows(tools.run("transactions", "describe-producers", "--topic", topic, "--partition", "2"), "ProducerId")
    open_ones = [row for row in producers if row["CurrentTransactionStartOffset"] != "None"]
    check(len(open_ones) == 1 and open_ones[0]["ProducerId"] == mine["ProducerId"], "kafka-transactions describe-producers")
    start = open_ones[0]["CurrentTransactionStartOffset"]
    tools.run("transactions", "abort", "--topic", topic, "--partition", "2", "--start-offset", start)
    producers = rows(tools.run("transactions", "describe-producers", "--topic", topic, "--partition", "2"), "ProducerId")
    check(all(row["CurrentTransactionStartOffset"] == "None" for row in producers), "kafka-transactions abort")
    seen = tools.run("console-consumer", "--topic", topic, "--partition", "2", "--offset", start, "--isolation-level", "read_committed", "--timeout-ms", "3000")
    check("open" not in seen.splitlines(), "  and nobody sees what it wrote")


def node(tools: Tools, topic: str) -> None:
    versions = tools.run("broker-api-versions")
    check("Produce(0): 0 to 13 [usable: 13]" in versions and "UNSUPPORTED" in versions, "kafka-broker-api-versions")
    features = tools.run("features", "describe")
    check(re.search(r"Feature: transaction\.version.*FinalizedVersionLevel: 2", features), "kafka-features describe")
    for turn in ("", ", and again"):
        said = tools.run("features", "upgrade", "--release-version", "4.1-IV1")
        check("metadata.version was upgraded to 27." in said and "Could not" not in said, f"kafka-features upgrade{turn}")
    cluster = tools.run("cluster", "cluster-id", "--bootstrap-server", tools.address)
    check(re.search(r"Cluster ID: \S{22}", cluster), "kafka-cluster cluster-id")
    if "ElectLeaders(43): UNSUPPORTED" in versions:
        print("SKIPPED: kafka-leader-election: the broker does not advertise ElectLeaders")
        return
    election = tools.run("leader-election", "--election-type", "preferred", "--topic", topic, "--partition", "0")
    check("Valid replica already elected" in election, "kafka-leader-election: the leader is the leader")


def one_node(tools: Tools, topic: str) -> None:
    """What tools of clusters say of one node."""
    plan = tools.file("plan.json", {"version": 1, "partitions": [{"topic": topic, "partition": 0, "replicas": [0]}]})
    tools.run("reassign-partitions", "--reassignment-json-file", plan, "--execute", "--throttle", "1000000")
    verified = tools.run("reassign-partitions", "--reassignment-json-file", plan, "--verify")
    check(f"Reassignment of partition {topic}-0 is completed." in verified, "kafka-reassign-partitions: to where it is")
    check("Clearing broker-level throttles" in verified, "  and its throttles are taken away")
    away = tools.file("away.json", {"version": 1, "partitions": [{"topic": topic, "partition": 0, "replicas": [7]}]})
    refused = tools.run("reassign-partitions", "--reassignment-json-file", away, "--execute", code=1)
    check("7" in refused and "completed" not in refused, "  to a broker that is not there: refused")
    check("No partition reassignments found." in tools.run("reassign-partitions", "--list"), "kafka-reassign-partitions --list")
    status = tools.run("metadata-quorum", "describe", "--status")
    check(re.search(r"LeaderId:\s+0", status) and re.search(r"CurrentVoters:.*\"id\": 0", status), "kafka-metadata-quorum")
    all_of_them = tools.run("leader-election", "--election-type", "preferred", "--all-topic-partitions")
    check("Error" not in all_of_them, "kafka-leader-election --all-topic-partitions")
    gone = tools.run("cluster", "unregister", "--bootstrap-server", tools.address, "--id", "7", code=1)
    check("not currently registered" in gone, "kafka-cluster unregister of a broker that is not there")


def settings(tools: Tools, group: str) -> None:
    """Dynamic configurations of brokers, groups and metrics subscriptions; quotas."""
    everyone, one = ["--entity-type", "brokers", "--entity-default"], ["--entity-type", "brokers", "--entity-name", "0"]
    tools.run("configs", "--alter", *everyone, "--add-config", "log.cleaner.threads=2")
    tools.run("configs", "--alter", *one, "--add-config", "log.cleaner.threads=1")
    said = tools.run("configs", "--describe", *one)
    synonyms = "DYNAMIC_BROKER_CONFIG:log.cleaner.threads=1, DYNAMIC_DEFAULT_BROKER_CONFIG:log.cleaner.threads=2"
    check(synonyms in said, "kafka-configs of one broker and of all")
    tools.run("configs", "--alter", *one, "--delete-config", "log.cleaner.threads")
    tools.run("configs", "--alter", *everyone, "--delete-config", "log.cleaner.threads")
    check("log.cleaner.threads" not in tools.run("configs", "--describe", *one), "  taken away again")
    fixed = tools.run("configs", "--alter", *one, "--add-config", "log.dirs=/elsewhere", code=1)
    check("Cannot update these configs dynamically" in fixed, "  a key of the start is refused")
    of_group = ["--entity-type", "groups", "--entity-name", group]
    tools.run("configs", "--alter", *of_group, "--add-config", "consumer.session.timeout.ms=50000")
    said = tools.run("configs", "--describe", *of_group)
    check("consumer.session.timeout.ms=50000" in said, "kafka-configs of a group")
    tools.run("client-metrics", "--alter", "--name", group, "--metrics", "org.apache.kafka.producer.", "--interval", "5000")
    check(group in tools.run("client-metrics", "--list"), "kafka-client-metrics --list")
    check("interval.ms=5000" in tools.run("client-metrics", "--describe", "--name", group), "kafka-client-metrics --describe")
    tools.run("client-metrics", "--delete", "--name", group)
    check(group not in tools.run("client-metrics", "--list"), "kafka-client-metrics --delete")
    quota = ["--entity-type", "users", "--entity-name", group, "--entity-type", "clients", "--entity-default"]
    tools.run("configs", "--alter", *quota, "--add-config", "producer_byte_rate=1048576,request_percentage=12.5")
    said = tools.run("configs", "--describe", *quota)
    check("producer_byte_rate=1048576" in said and "request_percentage=12.5" in said, "kafka-configs: quotas of a user's clients")
    tools.run("configs", "--alter", *quota, "--delete-config", "producer_byte_rate,request_percentage")
    check("producer_byte_rate" not in tools.run("configs", "--describe", *quota), "  taken away again")


def acls(tools: Tools, topic: str) -> None:
    """On a Kafka this needs an authorizer."""
    rule = ["--allow-principal", "User:ann", "--operation", "Read", "--topic", topic[:9], "--resource-pattern-type", "prefixed"]
    tools.run("acls", "--add", *rule)
    tools.run("acls", "--add", "--deny-principal", "User:bob", "--operation", "Write", "--topic", topic)
    matching = tools.run("acls", "--list", "--topic", topic, "--resource-pattern-type", "match")
    check("User:ann, host=*, operation=READ, permissionType=ALLOW" in matching, "kafka-acls --list: rules by prefix that match")
    check("User:bob, host=*, operation=WRITE, permissionType=DENY" in matching, "  and those of the name")
    tools.run("acls", "--remove", "--force", *rule)
    left = tools.run("acls", "--list")
    check("User:ann" not in left and "User:bob" in left, "kafka-acls --remove")
    tools.run("acls", "--remove", "--force", "--topic", topic)


def operations(tools: Tools, topic: str) -> None:
    """The operations script of the specification: check-groups, reset-offset, monitor-size. Its `--json` of kafka-log-dirs
    is no option of Kafka 4; the output is JSON without it. Its cleanup deletes files under a running broker, which no
    broker survives; kafka-delete-records does it in `offsets`."""
    names = [name for name in tools.run("consumer-groups", "--list").splitlines() if name == "console"]
    check(names, "operations: check-groups lists")
    described = rows(tools.run("consumer-groups", "--group", "console", "--describe"), "GROUP")
    check(sum(int(row["CURRENT-OFFSET"]) for row in described) == RECORDS // 10, "operations: check-groups describes each")
    tools.run("consumer-groups", "--group", "console", "--topic", topic, "--reset-offsets", "--to-offset", "1", "--execute")
    described = rows(tools.run("consumer-groups", "--group", "console", "--describe"), "GROUP")
    check(all(row["CURRENT-OFFSET"] == "1" for row in described if row["TOPIC"] == topic), "operations: reset-offset GROUP TOPIC OFFSET")
    said = tools.run("log-dirs", "--describe")
    told = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    sizes = {part["partition"]: part["size"] for broker in told["brokers"] for place in broker["logDirs"] for part in place["partitions"]}
    check(sizes[f"{topic}-0"] > 0, f"operations: monitor-size sees {len(sizes)} partitions")


def delete(tools: Tools, *names: str) -> None:
    for name in names:
        tools.run("topics", "--delete", "--topic", name)
    check(not set(names) & set(tools.run("topics", "--list").splitlines()), "kafka-topics --delete")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--weir", default="target/release/weir")
    parser.add_argument("--brokers")
    args = parser.parse_args()
    subprocess.run([str(ROOT / "scripts" / "kafka.sh"), "install"], check=True)
    weir = None if args.brokers else Weir(args.weir)
    with tempfile.TemporaryDirectory(prefix="weir-tools-") as directory:
        tools = Tools(args.brokers or weir.address, pathlib.Path(directory))
        stamp = time.time_ns()
        lines, checked = f"lines-{stamp}", f"checked-{stamp}"
        topics(tools, lines)
        configs(tools, lines)
        console(tools, lines)
        operations(tools, lines)
        performance(tools, lines)
        live_group(tools, lines)
        tools.run("topics", "--create", "--topic", checked, "--partitions", "4")
        verifiable(tools, checked)
        groups(tools, checked)
        log_dirs(tools, checked)
        offsets(tools, checked)
        transactions(tools, checked)
        node(tools, checked)
        one_node(tools, checked)
        settings(tools, f"group-{stamp}")
        if weir:
            acls(tools, checked)
        delete(tools, lines, checked)
    if weir:
        weir.close()


if __name__ == "__main__":
    main()
