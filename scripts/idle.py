#!/usr/bin/env python3
"""10,000 idle connections and 1,000 groups on weir's broker: what they cost in memory, and others in time.

    scripts/idle.py [--weir target/release/weir] [--connections 10000] [--groups 1000] [--seconds 10]
                    [--no-bars]

Prints the broker's resident memory, and the p50 and p99 of produce (acks=all) and of produce to consume, one record at a
time, three times: alone, beside the connections, beside connections and groups. Each connection has asked for the API
versions and is silent from then on; each group has a member that sends heartbeats and a committed offset. At the end every
connection must still answer, and every group must be there with its member. It fails when the p99 beside them is above
20 ms and five times what it was alone, unless --no-bars says that the machine is no place to judge times.

Needs as many open files as connections and a third more (`ulimit -Hn`; the broker keeps a quarter for its logs): 14,000 for
10,000. It fails when they are fewer.
Needs the PyPI package confluent-kafka (scripts/setup.sh installs it).
"""
import argparse
import asyncio
import pathlib
import resource
import struct
import sys
import threading
import time

from librdkafka import Weir
from weirtest import check, use_venv

use_venv()
from confluent_kafka import Consumer, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic  # noqa: E402

TOPIC = "beside"
HEARTBEAT_SECONDS = 3.0
LINES = 20  # connections that the groups' members share
OTHERS = 50  # connections that are not idle: the lines, the measuring clients


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def request(key: int, version: int, body: bytes) -> bytes:
    head = struct.pack(">hhi", key, version, 1) + text("idle")
    return struct.pack(">i", len(head) + len(body)) + head + body


async def ask(stream: tuple, key: int, version: int, body: bytes) -> bytes:
    """The body of the answer, behind the correlation id. The versions used here have no tagged fields."""
    reader, writer = stream
    writer.write(request(key, version, body))
    size = struct.unpack(">i", await reader.readexactly(4))[0]
    return (await reader.readexactly(size))[4:]


async def connect(address: str) -> tuple:
    host, port = address.rsplit(":", 1)
    return await asyncio.open_connection(host, int(port), limit=4096)


async def versions(stream: tuple) -> bool:
    return struct.unpack(">h", (await ask(stream, 18, 0, b""))[:2])[0] == 0


class Line:
    """A connection that many members share: a member is not bound to one."""

    def __init__(self):
        self.turn = asyncio.Lock()

    async def ask(self, key: int, version: int, body: bytes) -> bytes:
        async with self.turn:
            return await ask(self.stream, key, version, body)


class Group:
    """A classic group of one member, over the bare protocol: a thousand clients would measure themselves."""

    def __init__(self, number: int, line: "Line"):
        self.name, self.line = f"idle-{number}", line

    async def join(self) -> None:
        await self.line.ask(10, 0, text(self.name))
        subscription = struct.pack(">hi", 0, 1) + text(TOPIC) + struct.pack(">i", -1)
        protocols = struct.pack(">i", 1) + text("range") + struct.pack(">i", len(subscription)) + subscription
        # JoinGroup 2: group, session and rebalance timeout, member, protocol type, protocols.
        answer = await self.line.ask(11, 2, text(self.name) + struct.pack(">ii", 30_000, 30_000) + text("") + text("consumer") + protocols)
        error, self.generation = struct.unpack_from(">hi", answer, 4)
        if error:
            raise OSError(f"JoinGroup: error {error}")
        at = 10
        at += 2 + struct.unpack_from(">h", answer, at)[0]  # protocol
        at += 2 + struct.unpack_from(">h", answer, at)[0]  # leader
        self.member = answer[at + 2:at + 2 + struct.unpack_from(">h", answer, at)[0]].decode()
        assignment = struct.pack(">hi", 0, 1) + text(TOPIC) + struct.pack(">iii", 1, 0, -1)
        place = text(self.name) + struct.pack(">i", self.generation) + text(self.member)
        answer = await self.line.ask(14, 1, place + struct.pack(">i", 1) + text(self.member) + struct.pack(">i", len(assignment)) + assignment)
        if struct.unpack_from(">h", answer, 4)[0]:
            raise OSError("SyncGroup fails")
        # OffsetCommit 2: retention, then topics.
        offsets = struct.pack(">q", -1) + struct.pack(">i", 1) + text(TOPIC) + struct.pack(">iiq", 1, 0, 0) + text("")
        answer = await self.line.ask(8, 2, place + offsets)
        if struct.unpack(">h", answer[-2:])[0]:
            raise OSError("OffsetCommit fails")

    async def heartbeats(self) -> None:
        place = text(self.name) + struct.pack(">i", self.generation) + text(self.member)
        while True:
            answer = await self.line.ask(12, 1, place)
            if struct.unpack_from(">h", answer, 4)[0]:
                raise OSError(f"{self.name}: heartbeat: error {struct.unpack_from('>h', answer, 4)[0]}")
            await asyncio.sleep(HEARTBEAT_SECONDS)


class Idle(threading.Thread):
    """The event loop that holds the connections and sends the groups' heartbeats, beside the measuring thread."""

    def __init__(self, address: str):
        super().__init__(daemon=True)
        self.address, self.loop = address, asyncio.new_event_loop()
        self.streams: list = []
        self.groups: list[Group] = []
        self.beats: list = []

    def run(self) -> None:
        self.loop.run_forever()

    def do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(300)

    async def open(self, count: int) -> None:
        while len(self.streams) < count:
            batch = await asyncio.gather(*(connect(self.address) for _ in range(min(100, count - len(self.streams)))))
            if not all(await asyncio.gather(*(versions(stream) for stream in batch))):
                raise OSError("ApiVersions fails")
            self.streams += batch

    async def join(self, count: int) -> None:
        lines = [Line() for _ in range(LINES)]
        for line in lines:
            line.stream = await connect(self.address)
        self.groups = [Group(number, lines[number % LINES]) for number in range(count)]
        for at in range(0, count, 50):
            await asyncio.gather(*(group.join() for group in self.groups[at:at + 50]))
            for group in self.groups[at:at + 50]:
                self.beats.append(self.loop.create_task(group.heartbeats()))
                await asyncio.sleep(HEARTBEAT_SECONDS / count)

    async def alive(self) -> int:
        """How many of the silent connections still answer."""
        answers = 0
        for at in range(0, len(self.streams), 200):
            found = await asyncio.gather(*(versions(stream) for stream in self.streams[at:at + 200]), return_exceptions=True)
            answers += sum(answer is True for answer in found)
        return answers

    async def faults(self) -> list:
        return [repr(beat.exception()) for beat in self.beats if beat.done()]

    async def close(self) -> None:
        for beat in self.beats:
            beat.cancel()
        for _, writer in [*self.streams, *{group.line.stream for group in self.groups}]:
            writer.close()


class Times:
    """One record at a time: until it is acknowledged, and until a reader has it."""

    def __init__(self, address: str):
        admin = AdminClient({"bootstrap.servers": address})
        admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(30)
        self.producer = Producer({"bootstrap.servers": address, "linger.ms": 0, "acks": "all", "log_level": 0})
        self.consumer = Consumer({"bootstrap.servers": address, "group.id": "times", "fetch.wait.max.ms": 500, "fetch.queue.backoff.ms": 0,
                                  "log_level": 0})
        self.consumer.assign([TopicPartition(TOPIC, 0, 0)])
        self.number = 0

    def measure(self, seconds: float) -> dict:
        """Milliseconds: {what: (p50, p99)}."""
        acked, read = [], []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.number += 1
            done: list = []
            began = time.perf_counter()
            self.producer.produce(TOPIC, str(self.number).ljust(200), partition=0,
                                  on_delivery=lambda error, _: done.append((error, time.perf_counter())))
            while not done:
                self.producer.poll(1)
            message = self.consumer.poll(10)
            ended = time.perf_counter()
            if done[0][0] or message is None or message.error() or int(message.value()) != self.number:
                sys.exit(f"FAILED: record {self.number}: {done[0][0]}, read {message and (message.error() or message.value())}")
            acked.append(1000 * (done[0][1] - began))
            read.append(1000 * (ended - began))
        return {"produce": percentiles(acked), "to consume": percentiles(read)}


def percentiles(times: list) -> tuple:
    times.sort()
    return times[len(times) // 2], times[len(times) * 99 // 100]


def connections_max(address: str) -> int:
    admin = AdminClient({"bootstrap.servers": address})
    resource_of_broker = ConfigResource(ConfigResource.Type.BROKER, "0")
    return int(admin.describe_configs([resource_of_broker])[resource_of_broker].result(30)["max.connections"].value)


def resident_mb(pid: int) -> float:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--weir", default="target/release/weir")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--no-bars", action="store_true", help="print times, judge none")
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    weir = Weir(args.weir)
    taken = connections_max(weir.address)
    connections = args.connections
    check(connections + OTHERS <= min(taken, hard), f"{connections} idle connections and {OTHERS} others: the broker takes {taken}, {hard} files may be open")
    times, idle = Times(weir.address), Idle(weir.address)
    idle.start()
    times.measure(1)  # Warms up.
    rows = []

    def look(what: str) -> None:
        rows.append((what, resident_mb(weir.process.pid), times.measure(args.seconds)))
        print(f"{what:42} {rows[-1][1]:7.1f} MB" + "".join(f"   {name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms" for name, (p50, p99) in rows[-1][2].items()), flush=True)

    look("alone")
    began = time.monotonic()
    idle.do(idle.open(connections))
    print(f"    {connections} connections opened in {time.monotonic() - began:.1f} s")
    look(f"{connections} connections")
    began = time.monotonic()
    idle.do(idle.join(args.groups))
    print(f"    {args.groups} groups joined in {time.monotonic() - began:.1f} s")
    look(f"{connections} connections, {args.groups} groups")
    check(idle.do(idle.alive()) == connections, f"all {connections} connections still answer")
    faults = idle.do(idle.faults())
    check(not faults, f"every heartbeat was answered {faults[:3] or ''}".strip())
    admin = AdminClient({"bootstrap.servers": weir.address, "log_level": 0})
    stable = [group for group in admin.list_consumer_groups().result(30).valid if group.group_id.startswith("idle-") and group.state.name == "STABLE"]
    check(len(stable) == args.groups, f"{len(stable)} groups are stable")
    for name in ("produce", "to consume"):
        before, after = rows[0][2][name][1], rows[-1][2][name][1]
        check(args.no_bars or after <= max(20, 5 * before), f"p99 of {name}: {after:.2f} ms beside them, {before:.2f} ms alone")
    times.consumer.close()
    idle.do(idle.close())
    weir.close()


if __name__ == "__main__":
    main()
