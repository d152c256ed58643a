"""Produce, Fetch, ListOffsets and their like: what is in a log, and what is refused."""
from ..registry import case
from ..side import Side, Topic, fetch, produce, unknown_topic

PRODUCE = range(3, 14)
RECORD = {"key": "k", "value": "v"}
# Where the fields of a record batch are, in hex digits.
LENGTH, MAGIC, CRC, ATTRIBUTES, LAST_DELTA, PRODUCER, EPOCH, SEQUENCE, COUNT = (2 * at for at in (8, 16, 17, 21, 23, 43, 51, 53, 57))


def changed(batch: str, at: int, value: str) -> str:
    return batch[:at] + value + batch[at + len(value):]


def latest(side: Side, of: Topic, partition: int = 0) -> None:
    side.call("what is there now", "Fetch", 12, fetch(of, 0, partition))


@case("Produce", versions=PRODUCE)
def produces(side: Side) -> None:
    version, of, batch = side.version, side.topic(partitions=2, retention_ms="-1"), side.codec.batch(RECORD, RECORD)
    ask = lambda step, to, records, part=0, **more: side.call(  # noqa: E731
        step, "Produce", version, produce(to, records, part, **more), seconds=3)
    ask("good", of, batch)
    ask("acks 1", of, batch, acks=1)
    side.call("acks 0", "Produce", version, produce(of, batch, acks=0), seconds=0.3)
    ask("acks 2", of, batch, acks=2)
    ask("acks -2", of, batch, acks=-2)
    ask("unknown topic", unknown_topic(), batch)
    ask("no topic", Topic(""), batch)
    ask("an unknown partition", of, batch, 7)
    ask("partition -1", of, batch, -1)
    ask("no records", of, "")
    ask("null records", of, None)
    ask("two batches", of, batch + batch)
    ask("a batch cut short", of, batch[:-10])
    ask("a head cut short", of, batch[:40])
    ask("bytes after the batch", of, batch + "00")
    ask("a wrong checksum", of, changed(batch, CRC, "00000000"))
    ask("magic 1", of, changed(batch, MAGIC, "01"))
    ask("magic 3", of, changed(batch, MAGIC, "03"))
    ask("an unknown codec", of, side.codec.recrc(changed(batch, ATTRIBUTES, "0007")))
    ask("a codec that the records do not have", side.topic(), side.codec.recrc(changed(batch, ATTRIBUTES, "0001")))
    ask("a control batch", of, side.codec.recrc(changed(batch, ATTRIBUTES, "0020")))
    ask("a transactional batch without an id", of, side.codec.recrc(changed(batch, ATTRIBUTES, "0010")))
    ask("log append time", of, side.codec.recrc(changed(batch, ATTRIBUTES, "0008")))
    ask("a count of 5", of, side.codec.recrc(changed(batch, COUNT, "00000005")))
    ask("a count of 0", of, side.codec.recrc(changed(batch, COUNT, "00000000")))
    ask("a last offset delta of 9", of, side.codec.recrc(changed(batch, LAST_DELTA, "00000009")))
    ask("a base offset", of, side.codec.batch(RECORD, base_offset=1000))
    ask("a length of 5", of, changed(batch, LENGTH, "00000005"))
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        ask(f"codec {codec}", of, side.codec.batch(RECORD, RECORD, compression=codec), 1)
    ask("of 1970", of, side.codec.batch({"value": "v", "timestamp": 0}), 1)
    ask("of the year 2100", of, side.codec.batch({"value": "v", "timestamp": 4_102_444_800_000}), 1)
    ask("of no time", of, side.codec.batch({"value": "v", "timestamp": -1}), 1)
    latest(side, of)
    latest(side, of, 1)
    small = side.topic(max_message_bytes="100")
    ask("too large for the topic", small, side.codec.batch({"value": "v" * 200}))
    compacted = side.topic(cleanup_policy="compact")
    ask("without a key in a compacted topic", compacted, side.codec.batch({"key": "k", "value": "v"}, {"value": "v"}, {"value": "v"}))
    ask("null for a key that is there", compacted, side.codec.batch({"key": "k"}))
    stamped = side.topic(message_timestamp_type="LogAppendTime")
    ask("stamped by the broker", stamped, batch)
    latest(side, stamped)
    ask("two replicas wanted", side.topic(min_insync_replicas="2"), batch)
    several = produce(of, batch)
    several["topicData"][0]["partitionData"] = [{"index": n, "records": batch} for n in (0, 1, 7)]
    side.call("several partitions, one unknown", "Produce", version, several)
    several["topicData"][0]["partitionData"] = [{"index": 0, "records": batch}] * 2
    side.call("one partition twice", "Produce", version, several)


@case("Produce", versions=PRODUCE)
def idempotent_produces(side: Side) -> None:
    version, of = side.version, side.topic()
    producer, epoch = side.producer_id()
    batch = lambda sequence, who=producer, age=epoch, count=1: side.codec.batch(  # noqa: E731
        *[RECORD] * count, producer_id=who, producer_epoch=age, base_sequence=sequence)
    for step, records in {
        "first": batch(0), "second": batch(1, count=3), "second again": batch(1, count=3), "first again": batch(0),
        "a gap": batch(9), "half of the second": batch(1, count=2), "third": batch(4), "a later epoch, not from 0": batch(5, age=epoch + 1),
        "a later epoch": batch(0, age=epoch + 1), "an older epoch": batch(5), "sequence -1": side.codec.recrc(changed(batch(1, age=epoch + 1), SEQUENCE, "ffffffff")),
        "an unknown producer, from 0": batch(0, producer + 1_000_000), "an unknown producer, not from 0": batch(7, producer + 1_000_001),
        "epoch -1": side.codec.recrc(changed(batch(0), EPOCH, "ffff")), "producer -1 with an epoch": side.codec.recrc(
            changed(batch(0), PRODUCER, "f" * 16)),
    }.items():
        side.call(step, "Produce", version, produce(of, records))
    side.call("producers", "DescribeProducers", 0, {"topics": [{"name": of.name, "partitionIndexes": [0]}]})


@case("Fetch")
def fetches(side: Side) -> None:
    version, of = side.version, side.topic(partitions=2, records=3)
    side.ask("Produce", 12, produce(of, side.codec.batch(RECORD, RECORD, RECORD, compression="lz4")))
    ask = lambda step, body: side.call(step, "Fetch", version, body, seconds=3)  # noqa: E731
    part = lambda **fields: {**fetch(of), "topics": [{"topic": of.name, "topicId": of.id, "partitions": [  # noqa: E731
        {**fetch(of)["topics"][0]["partitions"][0], **fields}]}]}
    ask("good", fetch(of))
    ask("inside a batch", fetch(of, 4))
    ask("at the end", fetch(of, 6))
    ask("beyond the end", fetch(of, 7))
    ask("below 0", fetch(of, -1))
    ask("of an empty partition", fetch(of, 0, 1))
    ask("of an unknown partition", fetch(of, 0, 7))
    ask("of partition -1", fetch(of, 0, -1))
    ask("of an unknown topic", fetch(unknown_topic()))
    ask("of one byte of a partition", part(partitionMaxBytes=1))
    ask("of no byte of a partition", part(partitionMaxBytes=0))
    ask("of one byte", fetch(of, maxBytes=1))
    ask("of no byte", fetch(of, maxBytes=0))
    ask("of bytes below 0", fetch(of, maxBytes=-1))
    ask("of 150 bytes", part(partitionMaxBytes=150))
    ask("in leader epoch 0", part(currentLeaderEpoch=0))
    ask("in an unknown leader epoch", part(currentLeaderEpoch=5))
    ask("having fetched epoch 0", part(lastFetchedEpoch=0, fetchOffset=3))
    ask("of committed records", fetch(of, isolationLevel=1))
    ask("of an unknown isolation", fetch(of, isolationLevel=7))
    ask("waiting a little for more", fetch(of, 6, maxWaitMs=50, minBytes=1))
    ask("with what is there, waiting for more", fetch(of, 0, maxWaitMs=50, minBytes=1 << 20))
    ask("by a follower", fetch(of, replicaId=3, replicaState={"replicaId": 3, "replicaEpoch": -1}))
    ask("by a debugging consumer", fetch(of, replicaId=-2, replicaState={"replicaId": -2, "replicaEpoch": -1}))
    ask("of nothing", fetch(of, topics=[]))
    ask("in a rack", fetch(of, rackId="r"))
    twice = fetch(of)
    twice["topics"][0]["partitions"] *= 2
    ask("of one partition twice", twice)


@case("Fetch", versions=range(7, 19))
def fetch_sessions(side: Side) -> None:
    version, of, other = side.version, side.topic(partitions=2, records=3), side.topic(records=2)
    ask = lambda step, body: side.call(step, "Fetch", version, body, seconds=3)  # noqa: E731
    both = fetch(of)
    both["topics"][0]["partitions"].append({**both["topics"][0]["partitions"][0], "partition": 1})
    session = ask("begun", {**both, "sessionEpoch": 0}).get("sessionId", 0)
    at = lambda epoch, body=None, **fields: {**fetch(of, topics=[]), **(body or {}), "sessionId": session, "sessionEpoch": epoch, **fields}  # noqa: E731
    ask("nothing new asked", at(1))
    ask("moved on", at(2, {"topics": fetch(of, 3)["topics"]}))
    ask("nothing to tell", at(3))
    side.ask("Produce", 12, produce(of, side.codec.batch(RECORD), 1))
    ask("what is new", at(4))
    ask("another topic", at(5, {"topics": fetch(other)["topics"]}))
    ask("one forgotten", at(6, forgottenTopicsData=[{"topic": other.name, "topicId": other.id, "partitions": [0]}]))
    ask("one forgotten that is not there", at(7, forgottenTopicsData=[{"topic": other.name, "topicId": other.id, "partitions": [7]}]))
    ask("an unknown partition", at(8, {"topics": fetch(of, 0, 7)["topics"]}))
    ask("the unknown partition again", at(9))
    ask("an unknown topic", at(10, {"topics": fetch(unknown_topic())["topics"]}))
    ask("the unknown topic again", at(11))
    ask("an old epoch", at(3))
    ask("an epoch to come", at(20))
    ask("an unknown session", {**fetch(of), "sessionId": 1, "sessionEpoch": 1})
    ask("closed", at(-1))
    ask("after the end", at(12))
    ask("a session with nothing", fetch(of, topics=[], sessionEpoch=0))
    ask("an id with epoch 0", {**both, "sessionId": 1, "sessionEpoch": 0})
    ask("epoch -2", {**both, "sessionId": 0, "sessionEpoch": -2})


@case("ListOffsets")
def lists(side: Side) -> None:
    of, epochs = side.topic(partitions=2, retention_ms="-1"), side.version >= 4
    for number in range(3):
        batch = side.codec.batch(*({"value": "v", "timestamp": 1_000_000 + 1000 * number + n} for n in (0, 5, 3)))
        side.ask("Produce", 12, produce(of, batch))
    def ask(step: str, timestamp: int, partition: int = 0, to: Topic = of, epoch: int = -1, **fields) -> None:
        parts = [{"partitionIndex": partition, "currentLeaderEpoch": epoch, "timestamp": timestamp}]
        side.call(step, "ListOffsets", side.version, {"replicaId": -1, "isolationLevel": 0, "timeoutMs": 1000,
                                                      "topics": [{"name": to.name, "partitions": parts}], **fields})
    for stamp in (-1, -2, -3, -4, -5, -6, -7, 0, 1_000_000, 1_000_003, 1_000_004, 1_001_000, 1_002_005, 1_002_006, (1 << 63) - 1):
        ask(f"at {stamp}", stamp)
        ask(f"at {stamp} in an empty partition", stamp, 1)
    ask("of committed records", -1, isolationLevel=1)
    ask("of an unknown isolation", -1, isolationLevel=7)
    ask("of an unknown partition", -1, 7)
    ask("of an unknown topic", -1, 0, unknown_topic())
    ask("of no topic", -1, 0, Topic(""))
    ask("by a follower", -1, replicaId=3)
    if epochs:
        ask("in leader epoch 0", -1, epoch=0)
        ask("in an unknown leader epoch", -1, epoch=5)
    parts = [{"partitionIndex": 0, "currentLeaderEpoch": -1, "timestamp": -1}] * 2
    side.call("one partition twice", "ListOffsets", side.version, {
        "replicaId": -1, "isolationLevel": 0, "topics": [{"name": of.name, "partitions": parts}]})


@case("OffsetForLeaderEpoch")
def epochs(side: Side) -> None:
    of = side.topic(partitions=2, records=3)
    for step, partition, current, epoch in (
        ("good", 0, -1, 0), ("of an empty partition", 1, -1, 0), ("an epoch to come", 0, -1, 7), ("epoch -1", 0, -1, -1),
        ("in epoch 0", 0, 0, 0), ("in an unknown epoch", 0, 5, 0), ("an unknown partition", 7, -1, 0),
    ):
        side.call(step, "OffsetForLeaderEpoch", side.version, {"replicaId": -1, "topics": [{"topic": of.name, "partitions": [
            {"partition": partition, "currentLeaderEpoch": current, "leaderEpoch": epoch}]}]})


@case("DeleteRecords")
def deletes_records(side: Side) -> None:
    of, compacted = side.topic(partitions=2, records=5), side.topic(cleanup_policy="compact")
    ask = lambda step, offset, partition=0, to=of: side.call(step, "DeleteRecords", side.version, {  # noqa: E731
        "timeoutMs": 5000, "topics": [{"name": to.name, "partitions": [{"partitionIndex": partition, "offset": offset}]}]})
    ask("up to 2", 2)
    ask("up to 1, which is less", 1)
    ask("beyond the end", 9)
    ask("below 0", -2)
    side.call("a fetch of what is gone", "Fetch", 12, fetch(of, 0))
    side.call("a fetch of what is left", "Fetch", 12, fetch(of, 2))
    side.call("where it begins", "ListOffsets", 7, {"replicaId": -1, "topics": [
        {"name": of.name, "partitions": [{"partitionIndex": 0, "timestamp": -2}]}]})
    ask("all", -1)
    ask("all of an empty partition", -1, 1)
    ask("of an unknown partition", 0, 7)
    ask("of an unknown topic", 0, 0, unknown_topic())
    ask("of a compacted topic", 0, 0, compacted)
    ask("of an internal topic", 0, 0, Topic("__consumer_offsets"))
