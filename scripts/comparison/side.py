"""A case on one of the two brokers: its connections, its calls, and what came of each."""
import socket
import struct
import time

from .codec import Codec, CodecError
from .normal import NO_UUID, Normaliser

ANSWER_SECONDS_MAX = 10
READY_SECONDS_MAX = 20
# Names enough that every partition of the coordinators' topics has one.
NAMES_FOR_ALL = 600
LOADING = {"COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR"}
AGAIN_SECONDS_MAX = 5


class Node:
    """A broker under comparison."""

    def __init__(self, name: str, address: str, codec: Codec):
        self.name, self.codec = name, codec
        self.host, port = address.rsplit(":", 1)
        self.port = int(port)


class Link:
    """One connection."""

    def __init__(self, node: Node):
        self.socket = socket.create_connection((node.host, node.port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, frame: bytes) -> None:
        try:
            self.socket.sendall(frame)
        except OSError:
            pass  # Seen by the next receive.

    def receive(self, seconds: float) -> "bytes | None":
        """The next frame; empty if the connection was closed, None if nothing came."""
        self.socket.settimeout(seconds)
        try:
            head = self.exactly(4)
            return self.exactly(struct.unpack(">i", head)[0]) if len(head) == 4 else b""
        except socket.timeout:
            return None
        except OSError:
            return b""

    def exactly(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            more = self.socket.recv(count - len(got))
            if not more:
                return b""
            got += more
        return got

    def close(self) -> None:
        self.socket.close()


def codes(node) -> set:
    """All error codes in an answer."""
    if isinstance(node, dict):
        own = {value for key, value in node.items() if key.endswith("rrorCode") and isinstance(value, int)}
        return own.union(*(codes(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(codes(value) for value in node))
    return set()


class Side:
    """One case on one broker. What `call` and its like bring is kept for the comparison, what `ask` brings is not."""

    def __init__(self, node: Node, case: str, version: "int | None"):
        self.node, self.codec, self.case, self.version = node, node.codec, case, version
        self.normaliser = Normaliser(case, node.port, self.codec.errors)
        self.steps: list = []
        self.covered: set = set()
        self.links: dict = {}
        self.correlation = 0
        self.counts: dict = {}

    # ---- names

    def name(self, kind: str = "n") -> str:
        """A fresh name, the same on both brokers."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return f"{self.case}-{kind}{self.counts[kind]}"

    def learn(self, value, name: str):
        """From here on the comparison shows `name` where this value stands."""
        self.normaliser.learn(value, name)
        return value

    # ---- calls

    def link(self, name: str = "main") -> Link:
        if name not in self.links:
            self.links[name] = Link(self.node)
        return self.links[name]

    def drop(self, name: str = "main") -> None:
        link = self.links.pop(name, None)
        if link:
            link.close()

    def send(self, api: str, version: int, body: dict, link: str = "main", client: "str | None" = "compare") -> None:
        self.correlation += 1
        frame = self.codec.encode(api, version, body, self.correlation, client)
        self.link(link).send(struct.pack(">i", len(frame)) + frame)

    def outcome(self, api: str, version: int, link: str = "main", seconds: float = ANSWER_SECONDS_MAX) -> dict:
        """What came next on a connection: an answer, its end, or nothing."""
        self.covered.add((api, version))
        frame = self.link(link).receive(seconds)
        if frame is None:
            self.drop(link)
            return {"outcome": "no answer"}
        if not frame:
            self.drop(link)
            return {"outcome": "closed"}
        try:
            answer = self.codec.decode(api, version, frame)
        except CodecError as error:
            return {"outcome": f"not to be decoded: {error}"}
        if answer["rest"]:
            return {"outcome": f"{answer['rest']} bytes after the answer"}
        return {"outcome": "answer", "body": answer["body"]}

    def exchange(self, api: str, version: int, body: dict, link: str, seconds: float, again: set) -> dict:
        deadline = time.monotonic() + AGAIN_SECONDS_MAX
        while True:
            self.send(api, version, body, link)
            outcome = self.outcome(api, version, link, seconds)
            names = {self.codec.errors.get(code) for code in codes(outcome.get("body"))}
            if not names & again or time.monotonic() > deadline:
                return outcome
            time.sleep(0.02)

    def ask(self, api: str, version: int, body: dict, link: str = "main", again: "set | tuple" = ()) -> dict:
        """A call whose answer is not compared."""
        outcome = self.exchange(api, version, body, link, ANSWER_SECONDS_MAX, set(again))
        if outcome["outcome"] != "answer":
            raise RuntimeError(f"{api} {version}: {outcome['outcome']}")
        return outcome["body"]

    def call(self, step: str, api: str, version: int, body: dict, link: str = "main", seconds: float = ANSWER_SECONDS_MAX,
             again: "set | tuple" = ()) -> dict:
        """A call whose answer is compared, and returned as it came (empty if none did)."""
        try:
            outcome = self.exchange(api, version, body, link, seconds, set(again))
        except CodecError as error:
            outcome = {"outcome": f"not to be encoded: {error}"}
        return self.note(step, outcome)

    def receive(self, step: str, api: str, version: int, link: str = "main", seconds: float = ANSWER_SECONDS_MAX) -> dict:
        """The answer, compared, to what `send` sent."""
        return self.note(step, self.outcome(api, version, link, seconds))

    def note(self, step: str, outcome: dict) -> dict:
        self.steps.append((step, outcome["outcome"], self.normaliser.normal(outcome.get("body"))))
        return outcome.get("body") or {}

    def raw(self, step: str, frame: bytes, api: str, version: int, seconds: float = 2, sized: bool = True) -> dict:
        """Bytes as they are on a connection of their own, which is then looked at: does it go on?"""
        self.drop("raw")
        self.link("raw").send(struct.pack(">i", len(frame)) + frame if sized else frame)
        return self.receive(step, api, version, "raw", seconds)

    # ---- what many cases want

    def until(self, what: str, look, seconds: float = READY_SECONDS_MAX):
        deadline = time.monotonic() + seconds
        while True:
            seen = look()
            if seen:
                return seen
            if time.monotonic() > deadline:
                raise RuntimeError(f"not within {seconds} s: {what}")
            time.sleep(0.01)

    def coordinators(self) -> None:
        """Has the topics of the coordinators made, and waits until all of their partitions are loaded."""
        names = [f"name-{n}" for n in range(NAMES_FOR_ALL)]
        loading = {code for code, name in self.codec.errors.items() if name in LOADING}
        for kind in (0, 1):
            self.until("a coordinator", lambda: not codes(self.ask(  # noqa: B023
                "FindCoordinator", 4, {"keyType": kind, "coordinatorKeys": ["a"]})) & loading)  # noqa: B023
        groups = [{"groupId": name, "topics": None} for name in names]
        self.until("all groups", lambda: not codes(self.ask("OffsetFetch", 8, {"groups": groups})) & loading)
        self.until("producer ids", lambda: codes(self.ask("InitProducerId", 4, {"transactionalId": None, "transactionTimeoutMs": 1})) == {0})
        self.until("all transactions", lambda: not codes(self.ask("DescribeTransactions", 0, {"transactionalIds": names})) & loading)

    def topic(self, partitions: int = 1, records: int = 0, **configs: str) -> "Topic":
        """A topic that serves, with so many records in partition 0."""
        name = self.name("t")
        body = {"topics": [{"name": name, "numPartitions": partitions, "replicationFactor": 1,
                            "configs": [{"name": key.replace("_", "."), "value": value} for key, value in configs.items()]}],
                "timeoutMs": 10_000}
        answer = self.ask("CreateTopics", 7, body)
        if answer["topics"][0]["errorCode"]:
            raise RuntimeError(f"CreateTopics: {answer}")
        topic = Topic(name, self.learn(answer["topics"][0]["topicId"], f"<id of {name.replace(self.case, '~')}>"))
        self.serves(topic, partitions)
        if records:
            batch = self.codec.batch(*({"key": f"k{n}", "value": f"v{n}"} for n in range(records)))
            self.ask("Produce", 12, produce(topic, batch))
        return topic

    def serves(self, topic: "Topic", partitions: int) -> None:
        parts = [{"partitionIndex": n, "timestamp": -1} for n in range(partitions)]
        body = {"replicaId": -1, "topics": [{"name": topic.name, "partitions": parts}]}
        self.until(f"{topic.name} serves", lambda: codes(self.ask("ListOffsets", 7, body)) == {0})

    def producer_id(self, transactional_id: "str | None" = None, timeout_ms: int = 60_000) -> tuple:
        """Producer id and epoch."""
        body = {"transactionalId": transactional_id, "transactionTimeoutMs": timeout_ms}
        answer = self.ask("InitProducerId", 5, body, again={"CONCURRENT_TRANSACTIONS", "COORDINATOR_LOAD_IN_PROGRESS"})
        if answer["errorCode"]:
            raise RuntimeError(f"InitProducerId: {answer}")
        known = self.counts["producer"] = self.counts.get("producer", 0) + 1
        self.learn(("producer", answer["producerId"]), f"<producer {known}>")
        return answer["producerId"], answer["producerEpoch"]

    def close(self) -> None:
        for link in self.links.values():
            link.close()


class Topic:
    def __init__(self, name: str, topic_id: str = NO_UUID):
        self.name, self.id = name, topic_id


def unknown_topic() -> Topic:
    """An id and a name that no broker knows."""
    return Topic("unknown", "zzzzzzzzTzzzzzzzzzzzzw")


def produce(topic: Topic, batch: "str | None", partition: int = 0, **fields) -> dict:
    return {"transactionalId": None, "acks": -1, "timeoutMs": 5000,
            "topicData": [{"name": topic.name, "topicId": topic.id, "partitionData": [{"index": partition, "records": batch}]}],
            **fields}


def fetch(topic: Topic, offset: int = 0, partition: int = 0, **fields) -> dict:
    part = {"partition": partition, "currentLeaderEpoch": -1, "fetchOffset": offset, "lastFetchedEpoch": -1,
            "logStartOffset": -1, "partitionMaxBytes": 1 << 20}
    return {"replicaId": -1, "maxWaitMs": 0, "minBytes": 0, "maxBytes": 1 << 24, "isolationLevel": 0, "sessionId": 0,
            "sessionEpoch": -1, "topics": [{"topic": topic.name, "topicId": topic.id, "partitions": [part]}], **fields}
