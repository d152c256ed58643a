"""Topics, partitions, the cluster and what a cluster of one node has to say of the APIs for more."""
from ..registry import ALONE, END, case
from ..side import Side, Topic, codes, unknown_topic


def new_topic(name: str, partitions: int = 1, replicas: int = 1, configs: tuple = (), assignments: tuple = ()) -> dict:
    return {"name": name, "numPartitions": partitions, "replicationFactor": replicas,
            "assignments": [{"partitionIndex": index, "brokerIds": list(brokers)} for index, brokers in assignments],
            "configs": [{"name": key, "value": value} for key, value in configs]}


@case("CreateTopics")
def creates(side: Side) -> None:
    version = side.version
    there = side.topic(partitions=2)

    def ask(step: str, *topics: dict, validate: bool = False) -> None:
        side.call(step, "CreateTopics", version, {"topics": list(topics), "timeoutMs": 10_000, "validateOnly": validate})
    ask("good", new_topic(side.name("t")))
    ask("with configs", new_topic(side.name("t"), 3, 1, (("retention.ms", "1000"), ("cleanup.policy", "compact"))))
    ask("with the broker's defaults", new_topic(side.name("t"), -1, -1)) if version >= 4 else None
    ask("assigned", new_topic(side.name("t"), -1, -1, (), ((0, (0,)), (1, (0,)))))
    ask("only looked at", new_topic(side.name("t")), validate=True)
    ask("there is one, only looked at", new_topic(there.name), validate=True)
    ask("there is one", new_topic(there.name))
    ask("none")
    name = side.name("t")
    ask("one twice", new_topic(name), new_topic(name))
    ask("one good, one bad", new_topic(side.name("t")), new_topic("a b"))
    for bad in ("", ".", "..", "a b", "a/b", "\u00e9", "x" * 250, "a:b", "a\x00b"):
        ask(f"named {bad[:5]!r}", new_topic(bad))
    ask("named with 249 characters", new_topic((side.name("t") + "x" * 249)[:249]), validate=True)
    ask("an internal one", new_topic("__consumer_offsets"))
    ask("the log of the cluster", new_topic("__cluster_metadata"))
    dotted = side.name("t")
    ask("with a dot", new_topic(f"{dotted}.x"))
    ask("with an underscore in place of a dot", new_topic(f"{dotted}_x"))
    ask("no partition", new_topic(side.name("t"), 0))
    ask("partitions -2", new_topic(side.name("t"), -2))
    ask("no replica", new_topic(side.name("t"), 1, 0))
    ask("replicas -2", new_topic(side.name("t"), 1, -2))
    ask("two replicas", new_topic(side.name("t"), 1, 2))
    ask("100,001 partitions", new_topic(side.name("t"), 100_001), validate=True)
    ask("assigned to an unknown broker", new_topic(side.name("t"), -1, -1, (), ((0, (7,)),)))
    ask("assigned to no broker", new_topic(side.name("t"), -1, -1, (), ((0, ()),)))
    ask("assigned twice to one", new_topic(side.name("t"), -1, -1, (), ((0, (0, 0)),)))
    ask("assigned to broker -1", new_topic(side.name("t"), -1, -1, (), ((0, (-1,)),)))
    ask("assigned with a gap", new_topic(side.name("t"), -1, -1, (), ((0, (0,)), (2, (0,)))))
    ask("assigned from 1", new_topic(side.name("t"), -1, -1, (), ((1, (0,)),)))
    ask("a partition assigned twice", new_topic(side.name("t"), -1, -1, (), ((0, (0,)), (0, (0,)))))
    ask("assigned and counted", new_topic(side.name("t"), 1, -1, (), ((0, (0,)),)))
    ask("assigned and replicated", new_topic(side.name("t"), -1, 1, (), ((0, (0,)),)))
    for key, value in (("odd", "1"), ("", "1"), ("retention.ms", "x"), ("retention.ms", ""), ("retention.ms", None),
                       ("retention.ms", "-2"), ("cleanup.policy", "odd"), ("cleanup.policy", "compact,delete"), ("cleanup.policy", ""),
                       ("compression.type", "odd"), ("min.insync.replicas", "0"), ("min.insync.replicas", "2"), ("segment.bytes", "1"),
                       ("max.message.bytes", "-1"), ("message.timestamp.type", "odd"), ("message.format.version", "2.0"),
                       ("retention.ms", " 5 "), ("retention.ms", "99999999999999999999"), ("preallocate", "yes"), ("preallocate", "TRUE"),
                       ("min.cleanable.dirty.ratio", "2"), ("min.cleanable.dirty.ratio", "0.5"), ("remote.storage.enable", "true"),
                       ("leader.replication.throttled.replicas", "odd"), ("follower.replication.throttled.replicas", "*")):
        ask(f"config {key!r} = {value!r}", new_topic(side.name("t"), 1, 1, ((key, value),)))
    ask("a config twice", new_topic(side.name("t"), 1, 1, (("retention.ms", "1000"), ("retention.ms", "2000"))))


@case("DeleteTopics")
def deletes(side: Side) -> None:
    version, of, more = side.version, side.topic(), side.topic()

    def ask(step: str, *names: "str | None", ids: tuple = ()) -> None:
        body = {"topicNames": list(names), "timeoutMs": 10_000} if version < 6 else {
            "topics": [{"name": name} for name in names] + [{"name": None, "topicId": one} for one in ids], "timeoutMs": 10_000}
        side.call(step, "DeleteTopics", version, body)
    ask("none")
    ask("unknown, empty and odd", side.name("none"), "", "a b")
    ask("one twice", of.name, of.name)
    ask("good", of.name)
    side.until("the topic is gone", lambda: 3 in codes(side.ask("Metadata", 12, {
        "topics": [{"name": of.name}], "allowAutoTopicCreation": False})))
    ask("again", of.name)
    if version >= 6:
        ask("by an unknown id", ids=("q83vEjRWeJCrze8SNFZ4kA",))
        ask("by no id", ids=("AAAAAAAAAAAAAAAAAAAAAA",))
        ask("by an id twice", ids=(more.id, more.id))
        ask("by id and name", more.name, ids=(more.id,))
        side.call("id and name in one", "DeleteTopics", version, {"timeoutMs": 1000, "topics": [{"name": more.name, "topicId": more.id}]})
        ask("by id", ids=(more.id,))


@case("CreatePartitions")
def more_partitions(side: Side) -> None:
    of = side.topic(partitions=2)

    def ask(step: str, *topics: tuple, validate: bool = False) -> None:
        side.call(step, "CreatePartitions", side.version, {"timeoutMs": 10_000, "validateOnly": validate, "topics": [
            {"name": name, "count": count, "assignments": None if brokers is None else [{"brokerIds": list(one)} for one in brokers]}
            for name, count, brokers in topics]})
    ask("only looked at", (of.name, 3, None), validate=True)
    ask("as many as there are", (of.name, 2, None))
    ask("fewer", (of.name, 1, None))
    ask("none", (of.name, 0, None))
    ask("below 0", (of.name, -1, None))
    ask("unknown", (side.name("none"), 3, None))
    ask("no name", ("", 3, None))
    ask("an internal one, fewer", ("__consumer_offsets", 3, None))
    ask("assigned", (of.name, 3, ((0,),)))
    ask("assigned to an unknown broker", (of.name, 4, ((7,),)))
    ask("too many assigned", (of.name, 4, ((0,), (0,))))
    ask("too few assigned", (of.name, 6, ((0,),)))
    ask("none assigned", (of.name, 4, ()))
    ask("assigned to no broker", (of.name, 4, ((),)))
    ask("assigned to two", (of.name, 4, ((0, 0),)))
    ask("one twice", (of.name, 4, None), (of.name, 5, None))
    ask("nothing")
    ask("good", (of.name, 5, None))
    side.serves(of, 5)
    side.call("what there is", "Metadata", 12, {"topics": [{"name": of.name}], "allowAutoTopicCreation": False})


@case("Metadata")
def metadata(side: Side) -> None:
    version, of, other = side.version, side.topic(partitions=3), side.topic()

    def ask(step: str, *topics: Topic, auto: bool = False, by_id: bool = False, **fields) -> None:
        asked = [{"name": None, "topicId": one.id} if by_id else {"name": one.name} for one in topics]
        side.call(step, "Metadata", version, {"topics": asked, "allowAutoTopicCreation": auto, **fields})
    ask("good", of, other)
    ask("one twice", of, of)
    ask("an internal one", Topic("__consumer_offsets"))
    if version >= 1:
        ask("none")
    if version >= 4:
        ask("unknown", unknown_topic())
        for bad in ("", ".", "a b", "x" * 250, "\u00e9"):
            ask(f"named {bad[:5]!r}", Topic(bad))
    for bad in (".", "a b", "x" * 250):
        ask(f"made by itself, named {bad[:5]!r}", Topic(bad), auto=True)
    fresh = Topic(side.name("auto"))
    auto = {"topics": [{"name": fresh.name}], "allowAutoTopicCreation": True}
    side.call("made by itself", "Metadata", version, auto, again={"UNKNOWN_TOPIC_OR_PARTITION", "LEADER_NOT_AVAILABLE"})
    if version >= 8:
        ask("with the operations that are allowed", of, includeTopicAuthorizedOperations=True, includeClusterAuthorizedOperations=True)
    if version >= 12:
        ask("by id", of, by_id=True)
        ask("by an unknown id", unknown_topic(), by_id=True)
        ask("by no id", Topic("x"), by_id=True)
        side.call("by id and name", "Metadata", version, {"topics": [{"name": of.name, "topicId": of.id}]})
        side.call("by id, and another by name", "Metadata", version, {"topics": [
            {"name": None, "topicId": of.id}, {"name": other.name}]})


@case("Metadata", when=ALONE)
def all_topics(side: Side) -> None:
    of = side.topic()
    asked = [] if side.version == 0 else None
    outcome = side.exchange("Metadata", side.version, {"topics": asked, "allowAutoTopicCreation": True}, "main", 5, set())
    if "body" in outcome:
        outcome["body"]["topics"] = [one for one in outcome["body"]["topics"] if one["name"] in (of.name, "__consumer_offsets")]
    side.note("all", outcome)


@case("DescribeTopicPartitions")
def topic_partitions(side: Side) -> None:
    of, other = side.topic(partitions=5), side.topic(partitions=2)

    def ask(step: str, *names: str, limit: int = 2000, cursor: "tuple | None" = None) -> None:
        side.call(step, "DescribeTopicPartitions", side.version, {
            "topics": [{"name": name} for name in names], "responsePartitionLimit": limit,
            "cursor": cursor and {"topicName": cursor[0], "partitionIndex": cursor[1]}})
    ask("good", of.name, other.name)
    ask("out of order", other.name, of.name, limit=3)
    ask("three of them", of.name, other.name, limit=3)
    ask("none of them", of.name, limit=0)
    ask("below 0", of.name, limit=-1)
    ask("from partition 3", of.name, other.name, cursor=(of.name, 3))
    ask("from partition 3, two of them", of.name, other.name, limit=2, cursor=(of.name, 3))
    ask("from a partition that is not", of.name, cursor=(of.name, 9))
    ask("from partition -1", of.name, cursor=(of.name, -1))
    ask("from a topic that is not asked for", of.name, cursor=(other.name, 0))
    ask("from an unknown topic", of.name, cursor=("zzz", 0))
    ask("unknown", side.name("none"), of.name)
    ask("one twice", of.name, of.name)
    ask("no name", "")


@case("DescribeCluster")
def cluster(side: Side) -> None:
    for endpoint in (1, 2, 0, 3, -1):
        for operations in (False, True):
            side.call(f"endpoints {endpoint}, operations {operations}", "DescribeCluster", side.version, {
                "endpointType": endpoint, "includeClusterAuthorizedOperations": operations, "includeFencedBrokers": operations})


@case("FindCoordinator")
def coordinators(side: Side) -> None:
    for kind in (0, 1, 2, 3, -1):
        for key in (side.name("k"), ""):
            side.call(f"kind {kind}, {'a' if key else 'no'} key", "FindCoordinator", side.version, {
                "key": key, "coordinatorKeys": [key], "keyType": kind})
    if side.version >= 4:
        side.call("two keys, one twice", "FindCoordinator", side.version, {"coordinatorKeys": ["a", "b", "a"], "keyType": 0})
        side.call("no key", "FindCoordinator", side.version, {"coordinatorKeys": [], "keyType": 0})


@case("ElectLeaders", when=ALONE)
def elections(side: Side) -> None:
    of = side.topic(partitions=2)
    for kind in (0, 1, 7):
        ask = lambda step, topics: side.call(  # noqa: E731,B023
            f"kind {kind}, {step}", "ElectLeaders", side.version, {"electionType": kind, "timeoutMs": 10_000, "topicPartitions": topics})  # noqa: B023
        ask("good", [{"topic": of.name, "partitions": [0, 1]}])
        ask("an unknown partition", [{"topic": of.name, "partitions": [7, -1]}])
        ask("an unknown topic", [{"topic": "none", "partitions": [0]}])
        ask("one twice", [{"topic": of.name, "partitions": [0, 0]}])
        ask("none", [])
        outcome = side.exchange("ElectLeaders", side.version, {"electionType": kind, "timeoutMs": 10_000, "topicPartitions": None}, "main", 10, set())
        if "body" in outcome:
            outcome["body"]["replicaElectionResults"] = [
                one for one in outcome["body"]["replicaElectionResults"] if one["topic"] == of.name]
        side.note(f"kind {kind}, all", outcome)


@case("AlterPartitionReassignments")
def reassignments(side: Side) -> None:
    of = side.topic(partitions=2)
    for step, name, partition, replicas in (
        ("to where it is", of.name, 0, [0]), ("to an unknown broker", of.name, 0, [7]), ("to no broker", of.name, 0, []),
        ("to one twice", of.name, 0, [0, 0]), ("to broker -1", of.name, 0, [-1]), ("cancelled", of.name, 0, None),
        ("an unknown partition", of.name, 7, [0]), ("an unknown topic", "none", 0, [0]), ("no name", "", 0, [0]),
        ("of an unknown topic cancelled", "none", 0, None), ("to two", of.name, 0, [0, 1]),
    ):
        body = {"timeoutMs": 10_000, "allowReplicationFactorChange": True,
                "topics": [{"name": name, "partitions": [{"partitionIndex": partition, "replicas": replicas}]}]}
        side.call(step, "AlterPartitionReassignments", side.version, body)
        side.call(f"{step}, keeping the count", "AlterPartitionReassignments", side.version, {**body, "allowReplicationFactorChange": False})
    side.call("none", "AlterPartitionReassignments", side.version, {"timeoutMs": 10_000, "topics": []})
    side.call("listed", "ListPartitionReassignments", 0, {"timeoutMs": 10_000, "topics": None})
    side.call("listed, of an unknown topic", "ListPartitionReassignments", 0, {"timeoutMs": 10_000, "topics": [
        {"name": "none", "partitionIndexes": [0]}]})


@case("AlterReplicaLogDirs")
def log_dirs(side: Side) -> None:
    of = side.topic(partitions=2)
    answer = side.ask("DescribeLogDirs", 4, {"topics": [{"topic": of.name, "partitions": [0]}]})
    here = answer["results"][0]["logDir"]
    for step, path, name, partition in (("to where it is", here, of.name, 0), ("elsewhere", "/nowhere", of.name, 0),
                                        ("an unknown partition", here, of.name, 7), ("an unknown topic", here, "none", 0),
                                        ("no path", "", of.name, 0), ("a relative path", "here", of.name, 0)):
        side.call(step, "AlterReplicaLogDirs", side.version, {"dirs": [
            {"path": path, "topics": [{"name": name, "partitions": [partition]}]}]})
    side.call("none", "AlterReplicaLogDirs", side.version, {"dirs": []})


@case("DescribeLogDirs", when=ALONE)
def log_dirs_described(side: Side) -> None:
    of = side.topic(partitions=2, records=3)
    for step, topics in (("good", [{"topic": of.name, "partitions": [0, 1]}]), ("an unknown topic", [{"topic": "none", "partitions": [0]}]),
                         ("an unknown partition", [{"topic": of.name, "partitions": [7, 0]}]), ("none", []),
                         ("one twice", [{"topic": of.name, "partitions": [0, 0]}])):
        side.call(step, "DescribeLogDirs", side.version, {"topics": topics})


@case("DescribeProducers")
def producers(side: Side) -> None:
    of = side.topic(partitions=2, records=1)
    for step, name, partitions in (("none there", of.name, [0, 1]), ("an unknown partition", of.name, [7]), ("an unknown topic", "none", [0]),
                                   ("no name", "", [0]), ("an odd name", "a b", [0]), ("one twice", of.name, [0, 0])):
        side.call(step, "DescribeProducers", side.version, {"topics": [{"name": name, "partitionIndexes": partitions}]})
    side.call("none", "DescribeProducers", side.version, {"topics": []})


@case("DescribeQuorum")
def quorum(side: Side) -> None:
    for step, name, partition in (("good", "__cluster_metadata", 0), ("another partition", "__cluster_metadata", 1),
                                  ("another topic", "none", 0), ("no name", "", 0)):
        side.call(step, "DescribeQuorum", side.version, {"topics": [{"topicName": name, "partitions": [{"partitionIndex": partition}]}]})
    side.call("none", "DescribeQuorum", side.version, {"topics": []})


@case("UpdateFeatures", when=END)
def features(side: Side) -> None:
    ask = lambda step, validate, *updates: side.call(step, "UpdateFeatures", side.version, {  # noqa: E731
        "timeoutMs": 10_000, "validateOnly": validate, "featureUpdates": [
            {"feature": name, "maxVersionLevel": level, "allowDowngrade": kind > 1, "upgradeType": kind} for name, level, kind in updates]})
    ask("none", True)
    for name, levels in (("metadata.version", (27, 28, 99, 0, -1)), ("group.version", (1, 2, -1)), ("transaction.version", (2, 3, -1)),
                         ("odd", (1, 0)), ("", (1,))):
        for level in levels:
            for kind in (1, 2, 0, 9):
                ask(f"{name!r} to {level}, kind {kind}", True, (name, level, kind))
    ask("one twice", True, ("group.version", 1, 1), ("group.version", 1, 1))
    ask("one good, one unknown", True, ("group.version", 1, 1), ("odd", 1, 1))
    ask("to where it is", False, ("group.version", 1, 1))
    if side.version == 2:
        ask("lower", False, ("group.version", 0, 2))


@case("UnregisterBroker", when=END)
def unregisters(side: Side) -> None:
    for broker in (99, -1, 2_147_483_647, 0):
        side.call(f"broker {broker}", "UnregisterBroker", side.version, {"brokerId": broker})
