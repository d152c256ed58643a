"""Transactions of both versions, step by step, and what their requests are refused for."""
from ..registry import ALONE, case
from ..side import Side, Topic, fetch, produce

BUSY = {"CONCURRENT_TRANSACTIONS"}
RECORD = {"key": "k", "value": "v"}


class Producer:
    """A transactional producer of a case."""

    def __init__(self, side: Side, transactional_id: "str | None" = None):
        self.side, self.name = side, transactional_id or side.name("x")
        self.id, self.epoch = side.producer_id(self.name)
        self.sequence = 0

    def batch(self, count: int = 1, **options) -> str:
        made = self.side.codec.batch(*[RECORD] * count, **{"producer_id": self.id, "producer_epoch": self.epoch,
                                     "base_sequence": self.sequence, "transactional": True, **options})
        self.sequence += count
        return made

    def fields(self, **fields) -> dict:
        return {"transactionalId": self.name, "producerId": self.id, "producerEpoch": self.epoch, **fields}

    def add(self, step: str, of: Topic, version: int = 3, partitions: tuple = (0,), **fields) -> dict:
        topics = [{"name": of.name, "partitions": list(partitions)}]
        body = {"v3AndBelowTransactionalId": self.name, "v3AndBelowProducerId": self.id, "v3AndBelowProducerEpoch": self.epoch,
                "v3AndBelowTopics": topics, **fields} if version < 4 else {
                    "transactions": [self.fields(verifyOnly=False, topics=topics, **fields)]}
        return self.side.call(step, "AddPartitionsToTxn", version, body, again=BUSY)

    def end(self, step: str, committed: bool, version: int = 4, **fields) -> dict:
        answer = self.side.call(step, "EndTxn", version, {**self.fields(committed=committed), **fields}, again=BUSY)
        if version >= 5 and answer.get("errorCode") == 0:
            if answer["producerEpoch"] != self.epoch:
                self.sequence = 0
            self.epoch = answer["producerEpoch"]
        self.settled()
        return answer

    def settled(self) -> None:
        """Waits until no marker is on its way: Kafka writes them after its answer."""
        body = {"transactionalIds": [self.name]}
        self.side.until("the end of the transaction", lambda: not self.side.ask("DescribeTransactions", 0, body)[
            "transactionStates"][0]["transactionState"].startswith("Prepare"))


def describe(side: Side, step: str, name: str) -> None:
    side.call(f"{step}: described", "DescribeTransactions", 0, {"transactionalIds": [name]})


def seen(side: Side, of: Topic) -> None:
    for isolation in (0, 1):
        side.call(f"fetched at isolation {isolation}", "Fetch", 12, fetch(of, isolationLevel=isolation))
    side.call("the last stable offset", "ListOffsets", 7, {"replicaId": -1, "isolationLevel": 1, "topics": [
        {"name": of.name, "partitions": [{"partitionIndex": 0, "timestamp": -1}]}]})


def txn_offsets(producer: Producer, group: str, of: Topic, offset: int = 5, **fields) -> dict:
    parts = [{"partitionIndex": 0, "committedOffset": offset, "committedLeaderEpoch": 0, "committedMetadata": "m"}]
    return producer.fields(groupId=group, generationId=-1, memberId="", groupInstanceId=None,
                           topics=[{"name": of.name, "partitions": parts}], **fields)


def offsets_now(side: Side, step: str, group: str) -> None:
    for stable in (False, True):
        side.call(f"{step}: offsets, stable {stable}", "OffsetFetch", 8, {"requireStable": stable, "groups": [
            {"groupId": group, "topics": None}]})


@case("InitProducerId")
def producer_ids(side: Side) -> None:
    version = side.version
    name = side.name("x")

    def ask(step: str, name: "str | None", timeout: int = 60_000, producer: int = -1, epoch: int = -1) -> dict:
        answer = side.call(step, "InitProducerId", version, {"transactionalId": name, "transactionTimeoutMs": timeout,
                                                             "producerId": producer, "producerEpoch": epoch}, again=BUSY)
        if answer.get("producerId", -1) >= 0:
            side.counts["producer"] = side.counts.get("producer", 0) + 1
            key = ("producer", answer["producerId"])
            side.normaliser.learned.setdefault(key, f"<producer {side.counts['producer']}>")
        return answer
    ask("without a transactional id", None)
    ask("with an empty one", "")
    first = ask("first", name)
    ask("again", name)
    ask("with a timeout of 0", side.name("r"), 0)
    ask("with a timeout below 0", side.name("r"), -1)
    ask("with a timeout of an hour", side.name("r"), 3_600_000)
    ask("without a transactional id, timeout 0", None, 0)
    ask("of 300 characters", side.name("r") + "x" * 300)
    if version >= 3:
        ask("with its id and epoch", name, producer=first.get("producerId", 0), epoch=1)
        ask("with its id and epoch again", name, producer=first.get("producerId", 0), epoch=1)
        ask("with its id and an old epoch", name, producer=first.get("producerId", 0), epoch=0)
        ask("with another id", name, producer=first.get("producerId", 0) + 77_000, epoch=0)
        ask("with an id alone", name, producer=first.get("producerId", 0))
        ask("with an epoch alone", name, epoch=3)
        ask("a new one with an id and epoch", side.name("r"), producer=first.get("producerId", 0), epoch=0)
        ask("no transactional id with an id and epoch", None, producer=first.get("producerId", 0), epoch=0)
    describe(side, "last", name)


@case("AddPartitionsToTxn")
def version_1(side: Side) -> None:
    """Partitions are added by the client, EndTxn keeps the epoch."""
    version, of = side.version, side.topic(partitions=2)
    producer = Producer(side)
    describe(side, "before all", producer.name)
    producer.add("added", of, version)
    producer.add("added again", of, version)
    producer.add("an unknown topic", Topic("unknown"), version)
    producer.add("one of two unknown", of, version, (1, 7))
    producer.add("nothing", of, version, ())
    describe(side, "under way", producer.name)
    side.call("a record", "Produce", 11, produce(of, producer.batch(), transactionalId=producer.name))
    side.call("a record of a partition that was not added", "Produce", 11, produce(
        of, producer.batch(base_sequence=0), 1, transactionalId=producer.name))
    side.call("producers", "DescribeProducers", 0, {"topics": [{"name": of.name, "partitionIndexes": [0]}]})
    seen(side, of)
    old = {"v3AndBelowProducerEpoch": producer.epoch - 1} if version < 4 else {"producerEpoch": producer.epoch - 1}
    other = {"v3AndBelowProducerId": producer.id + 9_000_000} if version < 4 else {"producerId": producer.id + 9_000_000}
    unknown = {"v3AndBelowTransactionalId": "none"} if version < 4 else {"transactionalId": "none"}
    ahead = {"v3AndBelowProducerEpoch": producer.epoch + 1} if version < 4 else {"producerEpoch": producer.epoch + 1}
    for step, fields in {"an old epoch": old, "another producer": other, "an unknown id": unknown, "an epoch to come": ahead}.items():
        if version < 4:
            producer.add(step, of, version, **fields)
        else:
            body = {"transactions": [{**producer.fields(verifyOnly=False, topics=[{"name": of.name, "partitions": [0]}]), **fields}]}
            side.call(step, "AddPartitionsToTxn", version, body)
    producer.end("committed", True)
    producer.end("committed again", True)
    producer.end("aborted after it was committed", False)
    describe(side, "committed", producer.name)
    seen(side, of)
    producer.add("a second one", of, version)
    side.call("a record of the second", "Produce", 11, produce(of, producer.batch(base_sequence=1), transactionalId=producer.name))
    producer.end("aborted", False)
    producer.end("aborted again", False)
    seen(side, of)


@case("AddPartitionsToTxn", versions=range(4, 6))
def batches_of_transactions(side: Side) -> None:
    of = side.topic(partitions=2)
    one, two = Producer(side), Producer(side)
    entry = lambda who, verify, *parts: who.fields(verifyOnly=verify, topics=[{"name": of.name, "partitions": list(parts)}])  # noqa: E731
    ask = lambda step, *entries: side.call(step, "AddPartitionsToTxn", side.version, {"transactions": list(entries)}, again=BUSY)  # noqa: E731
    ask("two, one only verified", entry(one, False, 0), entry(two, True, 0))
    ask("verified, one partition is not there", entry(one, True, 0, 1))
    ask("none")
    ask("one twice", entry(one, False, 0), entry(one, False, 1))


@case("EndTxn")
def ends(side: Side) -> None:
    version, of = side.version, side.topic()
    producer = Producer(side)
    ask = lambda step, **fields: side.call(step, "EndTxn", version, {**producer.fields(committed=True), **fields}, again=BUSY)  # noqa: E731
    ask("nothing has begun")
    ask("nothing has begun, abort", committed=False)
    producer = Producer(side)
    ask("an unknown id", transactionalId="none")
    ask("an empty id", transactionalId="")
    ask("another producer", producerId=producer.id + 9_000_000)
    ask("producer -1", producerId=-1)
    ask("an old epoch", producerEpoch=producer.epoch - 1)
    ask("an epoch to come", producerEpoch=producer.epoch + 1)
    for committed in (True, False):
        if version < 5:
            producer.add("added", of)
        records = produce(of, producer.batch(), transactionalId=producer.name)
        side.call("a record", "Produce", 11 if version < 5 else 12, records, again=BUSY)
        describe(side, "under way", producer.name)
        before = producer.epoch
        producer.end(f"ended, committed {committed}", committed, version)
        ask("again, in the epoch before", producerEpoch=before, committed=committed)
        ask("otherwise, in the epoch before", producerEpoch=before, committed=not committed)
        ask("again, in the epoch now", committed=committed)
        producer.settled()
        producer.id, producer.epoch = side.producer_id(producer.name)
        producer.sequence = 0
        describe(side, "ended", producer.name)
        seen(side, of)


@case("Produce", versions=range(12, 14))
def version_2(side: Side) -> None:
    """Partitions are added by the produce, EndTxn raises the epoch (KIP-890)."""
    version, of = side.version, side.topic(partitions=2)
    producer = Producer(side)
    send = lambda step, part=0, **options: side.call(  # noqa: E731
        step, "Produce", version, produce(of, producer.batch(**options), part, transactionalId=producer.name), again=BUSY)
    send("not from 0", base_sequence=4)
    producer.sequence = 0
    send("first")
    send("second")
    describe(side, "under way", producer.name)
    producer.end("committed", True, 5)
    send("in the next epoch")
    producer.end("aborted", False, 5)
    send("with the old epoch", producer_epoch=producer.epoch - 1)
    side.call("without its transactional id", "Produce", version, produce(of, producer.batch(), 1))
    side.call("with another transactional id", "Produce", version, produce(of, producer.batch(), 1, transactionalId="none"))
    side.call("a plain batch with a transactional id", "Produce", version, produce(
        of, side.codec.batch(RECORD), 1, transactionalId=producer.name))
    seen(side, of)
    describe(side, "at the end", producer.name)


@case()
def fenced(side: Side) -> None:
    of = side.topic()
    old = Producer(side)
    side.call("a record", "Produce", 12, produce(of, old.batch(), transactionalId=old.name))
    young = Producer(side, old.name)
    for version in (9, 11, 12, 13):
        side.call(f"the old one produces, version {version}", "Produce", version, produce(
            of, old.batch(base_sequence=1), transactionalId=old.name))
    for version in range(6):
        side.call(f"the old one ends, version {version}", "EndTxn", version, old.fields(committed=True))
    for version in range(4):
        old.add(f"the old one adds, version {version}", of, version)
    for version in range(5):
        side.call(f"the old one adds offsets, version {version}", "AddOffsetsToTxn", version, old.fields(groupId="g"))
    for version in range(6):
        side.call(f"the old one commits offsets, version {version}", "TxnOffsetCommit", version, txn_offsets(old, side.name("g"), of))
    for version in range(3, 6):
        side.call(f"the old one asks for its epoch, version {version}", "InitProducerId", version, {
            "transactionalId": old.name, "transactionTimeoutMs": 60_000, "producerId": old.id, "producerEpoch": old.epoch})
    describe(side, "at the end", young.name)


@case("AddOffsetsToTxn")
def offsets_added(side: Side) -> None:
    version, of, group = side.version, side.topic(), side.name("g")
    producer = Producer(side)
    ask = lambda step, **fields: side.call(step, "AddOffsetsToTxn", version, {**producer.fields(groupId=group), **fields}, again=BUSY)  # noqa: E731
    ask("an unknown id", transactionalId="none")
    ask("an empty id", transactionalId="")
    ask("another producer", producerId=producer.id + 9_000_000)
    ask("an old epoch", producerEpoch=producer.epoch - 1)
    ask("an epoch to come", producerEpoch=producer.epoch + 1)
    ask("no group", groupId="")
    ask("good")
    ask("again")
    describe(side, "under way", producer.name)
    side.call("offsets", "TxnOffsetCommit", 3, txn_offsets(producer, group, of))
    offsets_now(side, "under way", group)
    producer.end("committed", True)
    offsets_now(side, "committed", group)


@case("TxnOffsetCommit")
def offsets_of_transactions(side: Side) -> None:
    version, of, group = side.version, side.topic(partitions=2), side.name("g")
    producer = Producer(side)
    ask = lambda step, **fields: side.call(step, "TxnOffsetCommit", version, {**txn_offsets(producer, group, of), **fields}, again=BUSY)  # noqa: E731
    if version < 5:
        ask("before the group was added")
        side.call("added", "AddOffsetsToTxn", 3, producer.fields(groupId=group), again=BUSY)
    ask("good")
    offsets_now(side, "under way", group)
    ask("another producer", producerId=producer.id + 9_000_000)
    ask("an old epoch", producerEpoch=producer.epoch - 1)
    ask("an epoch to come", producerEpoch=producer.epoch + 1)
    ask("an unknown id", transactionalId="none")
    ask("no group", groupId="")
    ask("no topic", topics=[])
    ask("an unknown topic", topics=[{"name": "unknown", "partitions": txn_offsets(producer, group, of)["topics"][0]["partitions"]}])
    parts = [{"partitionIndex": n, "committedOffset": 9, "committedLeaderEpoch": -1, "committedMetadata": m}
             for n, m in ((1, "x" * 4097), (1, None), (7, ""))]
    ask("one partition twice, once with too much metadata, one unknown", topics=[{"name": of.name, "partitions": parts}])
    if version >= 3:
        ask("a member that is not", memberId="nobody", generationId=3)
        ask("a generation without a member", generationId=3)
        ask("an instance that is not", groupInstanceId="i")
    offsets_now(side, "under way still", group)
    producer.end("aborted", False, 5 if version >= 5 else 4)
    offsets_now(side, "aborted", group)
    if version < 5:
        side.call("added again", "AddOffsetsToTxn", 3, producer.fields(groupId=group), again=BUSY)
    side.call("good once more", "TxnOffsetCommit", version, txn_offsets(producer, group, of, 6), again=BUSY)
    producer.end("committed", True, 5 if version >= 5 else 4)
    offsets_now(side, "committed", group)


@case("DescribeTransactions")
def transactions_described(side: Side) -> None:
    ask = lambda step, *names: side.call(step, "DescribeTransactions", side.version, {"transactionalIds": list(names)})  # noqa: E731
    producer = Producer(side)
    ask("good", producer.name)
    ask("unknown", "none")
    ask("no name", "")
    ask("none")
    ask("one twice", producer.name, producer.name)


@case("ListTransactions", when=ALONE)
def transactions_listed(side: Side) -> None:
    of = side.topic()
    idle, busy = Producer(side), Producer(side)
    side.call("a record", "Produce", 12, produce(of, busy.batch(), transactionalId=busy.name))

    def ask(step: str, **fields) -> None:
        body = {"stateFilters": [], "producerIdFilters": [], "durationFilter": -1, "transactionalIdPattern": None, **fields}
        outcome = side.exchange("ListTransactions", side.version, body, "main", 5, set())
        if "body" in outcome:
            outcome["body"]["transactionStates"] = [
                one for one in outcome["body"]["transactionStates"] if one["transactionalId"] in (idle.name, busy.name)]
        side.note(step, outcome)

    ask("all")
    for state in ("Ongoing", "ongoing", "Empty", "Dead", "Odd", ""):
        ask(f"in state {state!r}", stateFilters=[state])
    ask("in two states, one unknown", stateFilters=["Ongoing", "Odd"])
    ask("of a producer", producerIdFilters=[busy.id])
    ask("of a producer that is not", producerIdFilters=[busy.id + 9_000_000, -1])
    if side.version >= 1:
        ask("for an hour", durationFilter=3_600_000)
        ask("for no time", durationFilter=0)
        ask("for less than no time", durationFilter=-5)
    if side.version >= 2:
        ask("of a pattern", transactionalIdPattern=f"{busy.name[:-1]}.*")
        ask("of a part of the name", transactionalIdPattern=busy.name[1:-1])
        ask("of an empty pattern", transactionalIdPattern="")
        ask("of a bad pattern", transactionalIdPattern="[")


@case("WriteTxnMarkers")
def markers(side: Side) -> None:
    of = side.topic(partitions=2)
    producer = Producer(side)
    producer.add("added", of)
    side.call("a record", "Produce", 11, produce(of, producer.batch(), transactionalId=producer.name))

    def ask(step: str, epoch: int, partition: int = 0, coordinator: int = 0, topic: str = of.name, who: int = producer.id) -> None:
        side.call(step, "WriteTxnMarkers", side.version, {"markers": [
            {"producerId": who, "producerEpoch": epoch, "transactionResult": False, "coordinatorEpoch": coordinator, "topics": [
                {"name": topic, "partitionIndexes": [partition]}]}]})
    ask("an old epoch", producer.epoch - 1)
    ask("an unknown partition", producer.epoch, 7)
    ask("an unknown topic", producer.epoch, 0, 0, "unknown")
    ask("good", producer.epoch)
    ask("again", producer.epoch)
    ask("a later coordinator", producer.epoch, 0, 5)
    ask("an older coordinator", producer.epoch, 0, 3)
    ask("an unknown producer", 0, 1, 0, of.name, producer.id + 9_000_000)
    side.call("nothing", "WriteTxnMarkers", side.version, {"markers": []})
    seen(side, of)
    side.call("fetched", "Fetch", 12, fetch(of, 0, 1))
