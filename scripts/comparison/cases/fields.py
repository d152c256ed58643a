"""Each API at each version: one good request, and then one for each value that a field should not have (mutations.py).

A body is made anew for each request where the request changes something; else all share the topics and groups of the case.
"""
import re

from ..mutations import mutations
from ..registry import ALONE, BESIDE, case
from ..side import Side, Topic, fetch, produce

# Fields whose other values make a broker wait, or are compared elsewhere, step by step.
NOT_CHANGED = {
    "Fetch": r"maxWaitMs|minBytes|replicaId|replicaState",
    "JoinGroup": r"sessionTimeoutMs (max|7|1)$|rebalanceTimeoutMs (0|-1|-7|min|1|7)$",
    "CreateTopics": r"timeoutMs|topics\.numPartitions (max|7)$|topics\.assignments\.brokerIds",
    "CreatePartitions": r"timeoutMs|validateOnly|topics\.count max$",
    "DeleteTopics": r"timeoutMs",
    "DeleteRecords": r"timeoutMs",
    "ElectLeaders": r"timeoutMs",
    "AlterPartitionReassignments": r"timeoutMs",
    "Produce": r"timeoutMs|acks 0",
    "UpdateFeatures": r"timeoutMs",
    "UnregisterBroker": r"brokerId 0$",
}
SECONDS = 3


def made(side: Side, what: str, make):
    """Made once for a case."""
    kept = side.__dict__.setdefault("made", {})
    if what not in kept:
        kept[what] = make()
    return kept[what]


def topic(side: Side) -> Topic:
    return made(side, "topic", lambda: side.topic(partitions=2, records=3))


def group_with_offset(side: Side) -> str:
    def make() -> str:
        group = side.name("g")
        side.ask("OffsetCommit", 8, commit(group, topic(side)))
        return group
    return made(side, "group", make)


def commit(group: str, of: Topic, offset: int = 2, member: str = "", epoch: int = -1, **fields) -> dict:
    partition = {"partitionIndex": 0, "committedOffset": offset, "committedLeaderEpoch": 0, "committedMetadata": "m"}
    return {"groupId": group, "generationIdOrMemberEpoch": epoch, "memberId": member, "retentionTimeMs": -1,
            "topics": [{"name": of.name, "topicId": of.id, "partitions": [partition]}], **fields}


def transaction(side: Side) -> tuple:
    """A transactional id with its producer, one for the case."""
    def make() -> tuple:
        transactional = side.name("x")
        return (transactional, *side.producer_id(transactional))
    return made(side, "transaction", make)


def offset_fetch(side: Side) -> dict:
    group, of = group_with_offset(side), topic(side)
    asked = [{"name": of.name, "topicId": of.id, "partitionIndexes": [0, 1]}]
    if side.version < 8:
        return {"groupId": group, "topics": asked}
    return {"groups": [{"groupId": group, "memberId": None, "memberEpoch": -1, "topics": asked}], "requireStable": True}


def find_coordinator(side: Side) -> dict:
    if side.version < 4:
        return {"key": side.name("g"), "keyType": 0}
    return {"keyType": 0, "coordinatorKeys": [side.name("g")]}


def join(side: Side) -> dict:
    return {"groupId": side.name("g"), "sessionTimeoutMs": 30_000, "rebalanceTimeoutMs": 30_000, "memberId": "",
            "groupInstanceId": None, "protocolType": "consumer", "protocols": [{"name": "range", "metadata": "000000000000ffffffff"}]}


def member_of(side: Side, api: str) -> dict:
    """A request of a member that the group does not have."""
    body = {"groupId": group_with_offset(side), "generationId": 1, "memberId": "nobody", "groupInstanceId": None}
    if api == "LeaveGroup":
        return {"groupId": body["groupId"], "memberId": "nobody", "members": [{"memberId": "nobody", "groupInstanceId": None, "reason": "r"}]}
    if api == "SyncGroup":
        body.update(protocolType="consumer", protocolName="range", assignments=[{"memberId": "nobody", "assignment": "00"}])
    return body


def create_topics(side: Side) -> dict:
    return {"timeoutMs": 10_000, "validateOnly": False, "topics": [
        {"name": side.name("t"), "numPartitions": 1, "replicationFactor": 1, "assignments": [], "configs": [
            {"name": "retention.ms", "value": "60000"}]}]}


def assigned_topics(side: Side) -> dict:
    return {"timeoutMs": 10_000, "validateOnly": True, "topics": [
        {"name": side.name("t"), "numPartitions": -1, "replicationFactor": -1, "assignments": [
            {"partitionIndex": 0, "brokerIds": [0]}], "configs": []}]}


def delete_topics(side: Side) -> dict:
    of = topic(side)
    if side.version < 6:
        return {"topicNames": [side.name("none")], "timeoutMs": 10_000}
    return {"topics": [{"name": None, "topicId": "q83vEjRWeJCrze8SNFZ4kA"}, {"name": side.name("none")}], "timeoutMs": 10_000} if of else {}


def add_partitions(side: Side) -> dict:
    transactional, producer, epoch = transaction(side)
    topics = [{"name": topic(side).name, "partitions": [0]}]
    one = {"transactionalId": transactional, "producerId": producer, "producerEpoch": epoch, "verifyOnly": True, "topics": topics}
    if side.version > 3:
        return {"transactions": [one]}
    return {"v3AndBelowTransactionalId": transactional, "v3AndBelowProducerId": producer, "v3AndBelowProducerEpoch": epoch,
            "v3AndBelowTopics": topics}


def of_transaction(side: Side, **fields) -> dict:
    transactional, producer, epoch = transaction(side)
    return {"transactionalId": transactional, "producerId": producer, "producerEpoch": epoch, **fields}


def consumer_heartbeat(side: Side) -> dict:
    return {"groupId": side.name("g"), "memberId": "m-1", "memberEpoch": 0, "instanceId": None, "rackId": None,
            "rebalanceTimeoutMs": 30_000, "subscribedTopicNames": [topic(side).name], "subscribedTopicRegex": None,
            "serverAssignor": None, "topicPartitions": []}


def acl(side: Side) -> dict:
    return {"resourceType": 2, "resourceName": side.name("t"), "resourcePatternType": 3, "principal": "User:a", "host": "*",
            "operation": 3, "permissionType": 3}


def acl_filter(side: Side) -> dict:
    return {"resourceTypeFilter": 2, "resourceNameFilter": side.name("none"), "patternTypeFilter": 3, "principalFilter": "User:a",
            "hostFilter": "*", "operation": 3, "permissionType": 3}


def altered(side: Side, operation: "int | None" = None) -> dict:
    config = {"name": "retention.ms", "value": "60000"}
    if operation is not None:
        config["configOperation"] = operation
    return {"validateOnly": False, "resources": [{"resourceType": 2, "resourceName": topic(side).name, "configs": [config]}]}


def quotas(side: Side) -> dict:
    entity = [{"entityType": "user", "entityName": side.name("u")}]
    return {"validateOnly": True, "entries": [{"entity": entity, "ops": [{"key": "producer_byte_rate", "value": 1000.0, "remove": False}]}]}


GOOD = {
    "Produce": lambda side: produce(side.topic(partitions=1) if side.version < 13 else topic(side),
                                    side.codec.batch({"key": "k", "value": "v"})),
    "Fetch": lambda side: fetch(topic(side), forgottenTopicsData=[
        {"topic": topic(side).name, "topicId": topic(side).id, "partitions": [1]}]),
    "ListOffsets": lambda side: {"replicaId": -1, "isolationLevel": 0, "timeoutMs": 1000, "topics": [
        {"name": topic(side).name, "partitions": [{"partitionIndex": 0, "currentLeaderEpoch": -1, "timestamp": -1}]}]},
    "Metadata": lambda side: {"topics": [{"name": topic(side).name}], "allowAutoTopicCreation": False,
                              "includeTopicAuthorizedOperations": False, "includeClusterAuthorizedOperations": False},
    "OffsetCommit": lambda side: commit(side.name("g"), topic(side)),
    "OffsetFetch": offset_fetch,
    "FindCoordinator": find_coordinator,
    "JoinGroup": join,
    "Heartbeat": lambda side: member_of(side, "Heartbeat"),
    "LeaveGroup": lambda side: member_of(side, "LeaveGroup"),
    "SyncGroup": lambda side: member_of(side, "SyncGroup"),
    "DescribeGroups": lambda side: {"groups": [group_with_offset(side)], "includeAuthorizedOperations": False},
    "SaslHandshake": lambda side: {"mechanism": "PLAIN"},
    "SaslAuthenticate": lambda side: {"authBytes": "00"},
    "CreateTopics": create_topics,
    "DeleteTopics": delete_topics,
    "DeleteRecords": lambda side: {"timeoutMs": 10_000, "topics": [
        {"name": topic(side).name, "partitions": [{"partitionIndex": 0, "offset": 0}]}]},
    "InitProducerId": lambda side: {"transactionalId": side.name("x"), "transactionTimeoutMs": 60_000, "producerId": -1,
                                    "producerEpoch": -1},
    "OffsetForLeaderEpoch": lambda side: {"replicaId": -1, "topics": [
        {"topic": topic(side).name, "partitions": [{"partition": 0, "currentLeaderEpoch": -1, "leaderEpoch": 0}]}]},
    "AddPartitionsToTxn": add_partitions,
    "AddOffsetsToTxn": lambda side: of_transaction(side, groupId=side.name("g")),
    "EndTxn": lambda side: of_transaction(side, committed=True),
    "WriteTxnMarkers": lambda side: {"markers": [
        {"producerId": 987_654, "producerEpoch": 3, "transactionResult": False, "coordinatorEpoch": 0, "topics": [
            {"name": topic(side).name, "partitionIndexes": [1]}]}]},
    "TxnOffsetCommit": lambda side: of_transaction(
        side, groupId=side.name("g"), generationId=-1, memberId="", groupInstanceId=None, topics=[
            {"name": topic(side).name, "partitions": [
                {"partitionIndex": 0, "committedOffset": 1, "committedLeaderEpoch": 0, "committedMetadata": "m"}]}]),
    "DescribeAcls": acl_filter,
    "CreateAcls": lambda side: {"creations": [acl(side)]},
    "DeleteAcls": lambda side: {"filters": [acl_filter(side)]},
    "DescribeConfigs": lambda side: {"includeSynonyms": False, "includeDocumentation": False, "resources": [
        {"resourceType": 2, "resourceName": topic(side).name, "configurationKeys": ["retention.ms"]}]},
    "AlterConfigs": altered,
    "AlterReplicaLogDirs": lambda side: {"dirs": [{"path": "/nowhere", "topics": [{"name": topic(side).name, "partitions": [0]}]}]},
    "DescribeLogDirs": lambda side: {"topics": [{"topic": topic(side).name, "partitions": [0]}]},
    "CreatePartitions": lambda side: {"timeoutMs": 10_000, "validateOnly": True, "topics": [
        {"name": topic(side).name, "count": 3, "assignments": [{"brokerIds": [0]}]}]},
    "DeleteGroups": lambda side: {"groupsNames": [side.name("g")]},
    "ElectLeaders": lambda side: {"electionType": 0, "timeoutMs": 10_000, "topicPartitions": [
        {"topic": topic(side).name, "partitions": [0]}]},
    "IncrementalAlterConfigs": lambda side: altered(side, 0),
    "AlterPartitionReassignments": lambda side: {"timeoutMs": 10_000, "topics": [
        {"name": topic(side).name, "partitions": [{"partitionIndex": 0, "replicas": [0]}]}]},
    "ListPartitionReassignments": lambda side: {"timeoutMs": 10_000, "topics": [
        {"name": topic(side).name, "partitionIndexes": [0]}]},
    "OffsetDelete": lambda side: {"groupId": group_with_offset(side), "topics": [
        {"name": topic(side).name, "partitions": [{"partitionIndex": 1}]}]},
    "DescribeClientQuotas": lambda side: {"strict": False, "components": [
        {"entityType": "user", "matchType": 0, "match": side.name("u")}]},
    "AlterClientQuotas": quotas,
    "DescribeUserScramCredentials": lambda side: {"users": [{"name": side.name("u")}]},
    "AlterUserScramCredentials": lambda side: {"deletions": [{"name": side.name("u"), "mechanism": 1}], "upsertions": [
        {"name": side.name("u"), "mechanism": 1, "iterations": 4096, "salt": "00" * 16, "saltedPassword": "01" * 32}]},
    "DescribeQuorum": lambda side: {"topics": [{"topicName": "__cluster_metadata", "partitions": [{"partitionIndex": 0}]}]},
    "UpdateFeatures": lambda side: {"timeoutMs": 10_000, "validateOnly": True, "featureUpdates": [
        {"feature": "group.version", "maxVersionLevel": 1, "allowDowngrade": False, "upgradeType": 1}]},
    "DescribeCluster": lambda side: {"includeClusterAuthorizedOperations": False, "endpointType": 1, "includeFencedBrokers": False},
    "DescribeProducers": lambda side: {"topics": [{"name": topic(side).name, "partitionIndexes": [0]}]},
    "UnregisterBroker": lambda side: {"brokerId": 99},
    "DescribeTransactions": lambda side: {"transactionalIds": [transaction(side)[0]]},
    "ConsumerGroupHeartbeat": consumer_heartbeat,
    "ConsumerGroupDescribe": lambda side: {"groupIds": [group_with_offset(side)], "includeAuthorizedOperations": False},
    "DescribeTopicPartitions": lambda side: {"topics": [{"name": topic(side).name}], "responsePartitionLimit": 2000,
                                             "cursor": {"topicName": topic(side).name, "partitionIndex": 0}},
}
# These answer with all there is when a field is empty or null, so nothing else may make or remove anything meanwhile.
OF_ALL = {"Metadata", "DescribeLogDirs", "DescribeConfigs", "DescribeAcls", "DeleteAcls", "DescribeClientQuotas", "ElectLeaders",
          "DescribeUserScramCredentials", "DescribeTopicPartitions", "ListPartitionReassignments", "AlterConfigs",
          "IncrementalAlterConfigs", "DescribeProducers"}
# Names that cases make (`Side.name`, and topics that the brokers have for themselves.
OF_A_CASE = re.compile(r"__|[A-Za-z-]+(-v\d+)?-[a-z]+\d|name-\d")


def only_own(side: Side, node):
    """An answer without the topics, users and the like of other cases, where all are told."""
    if isinstance(node, dict):
        return {name: only_own(side, value) for name, value in node.items()}
    if not isinstance(node, list):
        return node
    names = [next((one[name] for name in ("name", "topic", "topicName", "user") if isinstance(one, dict) and one.get(name)), "") for one in node]
    return [only_own(side, one) for one, name in zip(node, names) if name.startswith(side.case) or not OF_A_CASE.match(name)]


def each_field(api: str, good):
    def ask(side: Side, step: str, body: dict) -> None:
        outcome = side.exchange(api, side.version, body, "main", SECONDS, set())
        if api in OF_ALL and "body" in outcome:
            outcome["body"] = only_own(side, outcome["body"])
        side.note(step, outcome)

    def run(side: Side) -> None:
        ask(side, "good", good(side))
        schema = side.codec.schema(api, side.version)
        skipped = re.compile(NOT_CHANGED.get(api, r"(?!)"))
        # The same mutations of each new body: their labels do not depend on names.
        labels = [label for label, _ in mutations(schema, good(side), side.case)]
        for number, label in enumerate(labels):
            if not skipped.match(label):
                ask(side, label, list(mutations(schema, good(side), side.case))[number][1])
    return run


for name, body_of in GOOD.items():
    versions = range(3, 14) if name == "Produce" else None
    case(name, versions=versions, when=ALONE if name in OF_ALL else BESIDE, name=f"fields-{name}")(each_field(name, body_of))
