"""confluent-kafka (librdkafka) in the scenario of scripts/clients.py. The protocol is in ../driver.py."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from driver import emit, serve  # noqa: E402

import confluent_kafka  # noqa: E402
from confluent_kafka import Consumer, ConsumerGroupState, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

ADDRESS = {"bootstrap.servers": sys.argv[1]}
SECONDS = 30


def send(producer: Producer, topic: str, records: list) -> None:
    faults = []
    for partition, key, value, headers in records:
        producer.produce(topic, value, key, partition, headers=[tuple(header) for header in headers],
                         on_delivery=lambda error, _: faults.append(error) if error else None)
    left = producer.flush(SECONDS)
    if left or faults:
        raise RuntimeError(f"{left} not delivered, {faults[:3]}")


def create(command: dict) -> None:
    admin = AdminClient(ADDRESS)
    admin.create_topics([NewTopic(command["topic"], command["partitions"], 1)])[command["topic"]].result(SECONDS)


def produce(command: dict) -> None:
    producer = Producer({**ADDRESS, "enable.idempotence": True, "linger.ms": 5, "compression.type": command["codec"]})
    send(producer, command["topic"], command["records"])


def transaction(command: dict) -> None:
    producer = Producer({**ADDRESS, "transactional.id": command["id"], "linger.ms": 5})
    producer.init_transactions(SECONDS)
    producer.begin_transaction()
    send(producer, command["topic"], command["records"])
    (producer.commit_transaction if command["end"] == "commit" else producer.abort_transaction)(SECONDS)


def groups(_command: dict) -> dict:
    # The client must outlive its futures, here and below.
    admin = AdminClient(ADDRESS)
    listed = admin.list_consumer_groups().result(SECONDS)
    if listed.errors:
        raise RuntimeError(listed.errors)
    return {"groups": [group.group_id for group in listed.valid]}


def describe(command: dict) -> dict:
    admin = AdminClient(ADDRESS)
    group = admin.describe_consumer_groups([command["group"]])[command["group"]].result(SECONDS)
    names = {ConsumerGroupState.STABLE: "Stable", ConsumerGroupState.EMPTY: "Empty"}
    members = {member.client_id: sorted(part.partition for part in member.assignment.topic_partitions)
               for member in group.members}
    return {"state": names.get(group.state, group.state.name), "members": members}


def delete_records(command: dict) -> None:
    before = TopicPartition(command["topic"], command["partition"], command["offset"])
    admin = AdminClient(ADDRESS)
    for future in admin.delete_records([before]).values():
        future.result(SECONDS)


def consume(command: dict, leaving) -> None:
    config = {**ADDRESS, "group.id": command["group"], "client.id": command["client_id"], "auto.offset.reset": "earliest",
              "enable.auto.commit": False, "fetch.wait.max.ms": 100, "group.protocol": command["protocol"],
              "isolation.level": "read_committed" if command["read_committed"] else "read_uncommitted"}
    if command["protocol"] == "classic":
        config["heartbeat.interval.ms"] = 500
    consumer = Consumer(config)
    consumer.subscribe([command["topic"]])
    while not leaving.is_set():
        messages = consumer.consume(500, 0.1)
        for message in messages:
            if message.error():
                raise RuntimeError(message.error())
        if messages:
            consumer.commit(asynchronous=False)
        for message in messages:
            headers = [[name, value.decode()] for name, value in message.headers() or []]
            emit({"record": [message.partition(), message.offset(), message.key().decode(), message.value().decode(), headers]})
    consumer.close()


serve({"client": f"confluent-kafka {confluent_kafka.__version__} (librdkafka {confluent_kafka.libversion()[0]})",
       "codecs": ["none", "gzip", "snappy", "lz4", "zstd"], "protocols": ["classic", "consumer"],
       "can": ["create", "idempotence", "commit", "abort", "read_committed", "groups", "describe", "delete_records"]},
      {"create": create, "produce": produce, "transaction": transaction, "groups": groups, "describe": describe,
       "delete_records": delete_records, "consume": consume})
