"""What must differ between two brokers, put into words that are the same for both. Everything else is compared as it is.

| what | becomes | why |
|---|---|---|
| names that a case made | `~...` | a case runs under a name of its own |
| values that a case learned (topic, member and producer ids) | the name it gave them | each broker makes its own; who they are is compared |
| other UUIDs, topic ids and producer ids | `<uuid>`, `<id>`, `<producer id>`; "none" stays | each broker makes its own |
| error texts | `<text>`, or null, or empty | they are for people; that there is one is compared |
| error codes | their names | to be read |
| points in time within ten minutes of now | `<now>` | the runs are not at one instant |
| ids of fetch sessions | `<session>`; 0 stays | random |
| the cluster's id, ports and addresses, the log directory | `<cluster>`, `<port>`, `<address>`, `<log directory>` | each broker has its own |
| offsets of the cluster's own log, and the epoch of its features | `<metadata offset>`; 0 stays | it grows with what was done before |
| bytes that a volume has, and has free | `<bytes>`; -1 stays | they change |
| order of the elements of arrays of structs | by their content | the protocol gives it no meaning |
"""
import json
import re
import time

TEXTS = {"errorMessage", "message", "batchIndexErrorMessage", "documentation"}
BYTES_OF_DISK = {"totalBytes", "usableBytes"}
TIMES = {"timestamp", "maxTimestamp", "lastTimestamp", "logAppendTimeMs", "transactionStartTimeMs", "startTimeMs",
         "lastFetchTimestamp", "lastCaughtUpTimestamp"}
NOW_MS = 600_000
NO_UUID = "AAAAAAAAAAAAAAAAAAAAAA"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# Where the runs keep their data (compare.py, kafka.sh).
DIRECTORY = re.compile(r"/\S*(weir-compare-|/node-\d)\S*")
UUID64 = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{22}(?![A-Za-z0-9_-])")
# By the first of these that it has, an element of an array is known in the path of a difference.
NAMES = ("name", "topic", "topicName", "groupId", "key", "resourceName", "memberId", "transactionalId", "user", "groupInstanceId",
         "partitionIndex", "partition", "partitionId", "index", "nodeId", "brokerId", "apiKey", "feature", "entityType", "topicId",
         "baseOffset", "offset", "configSource", "replicaId")


class Normaliser:
    def __init__(self, case: str, port: int, errors: dict):
        self.case, self.port, self.errors = case, port, errors
        self.learned: dict = {}

    def learn(self, value, name: str) -> None:
        self.learned[value] = name

    def normal(self, node, key: str = ""):
        if isinstance(node, dict):
            return {name: self.normal(value, name) for name, value in node.items()}
        if isinstance(node, list):
            elements = [self.normal(value, key) for value in node]
            return by_name(elements) if elements and all(isinstance(e, dict) for e in elements) else elements
        if isinstance(node, str):
            return self.text(node, key)
        if isinstance(node, (int, float)) and not isinstance(node, bool):
            return self.number(node, key)
        return node

    def text(self, node: str, key: str) -> str:
        if key in TEXTS:
            return "<text>" if node else node
        if key == "clusterId":
            return "<cluster>"
        if key in ("logDir", "path") and node.startswith("/"):
            return "<log directory>"
        if node in self.learned:
            return self.learned[node]
        if key == "memberId" and UUID64.fullmatch(node):
            return "<uuid>"
        if key in ("topicId", "directoryId", "id") and UUID64.fullmatch(node):
            return "none" if node == NO_UUID else "<id>"
        text = UUID.sub("<uuid>", node.replace(self.case, "~").replace(f"127.0.0.1:{self.port + 1}", "<controller>"))
        return DIRECTORY.sub("<log directory>", text.replace(f"127.0.0.1:{self.port}", "<address>"))

    def number(self, node, key: str):
        if key.endswith("rrorCode"):
            return self.errors.get(node, node)
        if key == "port" and node == self.port:
            return "<port>"
        if key in ("producerId", "pid") and node >= 0:
            return self.learned.get(("producer", node), "<producer id>")
        if key == "port" and node == self.port + 1:
            return "<controller's port>"
        if key == "finalizedFeaturesEpoch" and node > 0:
            return "<metadata offset>"
        if key in BYTES_OF_DISK and node >= 0:
            return "<bytes>"
        if key == "sessionId" and node != 0:
            return "<session>"
        if key in TIMES and abs(node - time.time() * 1000) < NOW_MS:
            return "<now>"
        return node


def by_name(elements: list) -> dict:
    """An array of structs as a map by what each is known by, so that one more or less does not shift the others."""
    named: dict = {}
    for element in sorted(elements, key=lambda e: json.dumps(e, sort_keys=True)):
        name = next((str(element[n]) for n in NAMES if n in element), "")
        base, count = f"[{name}]", 1
        while (f"{base}#{count}" if count > 1 else base) in named:
            count += 1
        named[f"{base}#{count}" if count > 1 else base] = element
    return named


def differences(kafka, weir, path: str = "") -> list:
    """Paths at which two normal forms differ, with both values; `<absent>` is what one of them has not."""
    if isinstance(kafka, dict) and isinstance(weir, dict):
        found = []
        for name in sorted(kafka.keys() | weir.keys()):
            at = f"{path}{name}" if name.startswith("[") or not path else f"{path}.{name}"
            found += differences(kafka.get(name, "<absent>"), weir.get(name, "<absent>"), at)
        return found
    # True == 1 in Python, and 1 == 1.0.
    return [] if kafka == weir and isinstance(kafka, bool) == isinstance(weir, bool) else [(path, kafka, weir)]
