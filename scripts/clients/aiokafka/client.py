"""aiokafka in the scenario of scripts/clients.py. The protocol is in ../driver.py."""
import asyncio
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from driver import emit, serve  # noqa: E402

import aiokafka  # noqa: E402
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # noqa: E402
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete  # noqa: E402
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment  # noqa: E402

ADDRESS = sys.argv[1]


async def send(producer: AIOKafkaProducer, topic: str, records: list) -> None:
    futures = [await producer.send(topic, value.encode(), key.encode(), partition,
                                   headers=[(name, text.encode()) for name, text in headers])
               for partition, key, value, headers in records]
    await asyncio.gather(*futures)


async def create(command: dict) -> None:
    async with admin() as client:
        answer = await client.create_topics([NewTopic(command["topic"], command["partitions"], 1)])
        fault = [error for error in answer.topic_errors if error[1]]
        if fault:
            raise RuntimeError(fault)


async def produce(command: dict) -> None:
    codec = None if command["codec"] == "none" else command["codec"]
    async with AIOKafkaProducer(bootstrap_servers=ADDRESS, enable_idempotence=True, compression_type=codec) as producer:
        await send(producer, command["topic"], command["records"])


async def transaction(command: dict) -> None:
    async with AIOKafkaProducer(bootstrap_servers=ADDRESS, transactional_id=command["id"]) as producer:
        await producer.begin_transaction()
        await send(producer, command["topic"], command["records"])
        await (producer.commit_transaction if command["end"] == "commit" else producer.abort_transaction)()


async def groups(_command: dict) -> dict:
    async with admin() as client:
        return {"groups": [group[0] for group in await client.list_consumer_groups()]}


async def describe(command: dict) -> dict:
    async with admin() as client:
        answer = (await client.describe_consumer_groups([command["group"]]))[0]
        error, _group, state, _type, _protocol, members, *_ = answer.groups[0]
        if error:
            raise RuntimeError(f"error code {error}")
        found = {}
        for _member, client_id, _host, _metadata, assignment, *_ in members:
            parts = ConsumerProtocolMemberAssignment.decode(assignment).assignment if assignment else []
            found[client_id] = sorted(part for _topic, partitions in parts for part in partitions)
        return {"state": state, "members": found}


async def delete_records(command: dict) -> None:
    async with admin() as client:
        part = TopicPartition(command["topic"], command["partition"])
        await client.delete_records({part: RecordsToDelete(before_offset=command["offset"])})


async def consume(command: dict, leaving) -> None:
    consumer = AIOKafkaConsumer(
        command["topic"], bootstrap_servers=ADDRESS, group_id=command["group"], client_id=command["client_id"],
        auto_offset_reset="earliest", enable_auto_commit=False, fetch_max_wait_ms=100, heartbeat_interval_ms=500,
        isolation_level="read_committed" if command["read_committed"] else "read_uncommitted")
    async with consumer:
        while not leaving.is_set():
            found = await consumer.getmany(timeout_ms=100)
            if found:
                await consumer.commit()
            for part, messages in found.items():
                for message in messages:
                    headers = [[name, value.decode()] for name, value in message.headers]
                    emit({"record": [part.partition, message.offset, message.key.decode(), message.value.decode(), headers]})


class admin:
    """An admin client that is closed at the end."""

    async def __aenter__(self) -> AIOKafkaAdminClient:
        self.client = AIOKafkaAdminClient(bootstrap_servers=ADDRESS)
        await self.client.start()
        return self.client

    async def __aexit__(self, *_error) -> None:
        await self.client.close()


def blocking(verb):
    return lambda *arguments: asyncio.run(verb(*arguments))


serve({"client": f"aiokafka {aiokafka.__version__}", "codecs": ["none", "gzip", "snappy", "lz4", "zstd"],
       "protocols": ["classic"],
       "can": ["create", "idempotence", "commit", "abort", "read_committed", "groups", "describe", "delete_records"]},
      {verb.__name__: blocking(verb)
       for verb in (create, produce, transaction, groups, describe, delete_records, consume)})
