"""Groups of KIP-848, step by step, and their meeting with classic ones."""
from ..registry import ALONE, case
from ..side import Side, Topic
from . import groups
from .fields import commit
from .offsets import fetch_offsets

JOIN, LEAVE, LEAVE_STATIC = 0, -1, -2


def beat(group: str, member: str, epoch: int, topics: "list | None" = None, owned: "list | None" = None, **fields) -> dict:
    """A heartbeat; a join names topics and owns nothing."""
    return {"groupId": group, "memberId": member, "memberEpoch": epoch, "instanceId": None, "rackId": None,
            "rebalanceTimeoutMs": 30_000 if epoch == JOIN else -1, "subscribedTopicNames": topics, "subscribedTopicRegex": None,
            "serverAssignor": None,
            "topicPartitions": [] if epoch == JOIN else owned, **fields}


def owning(of: Topic, *partitions: int) -> list:
    return [{"topicId": of.id, "partitions": list(partitions)}]


def describe(side: Side, step: str, *names: str, version: int = 1) -> None:
    side.call(f"{step}: described", "ConsumerGroupDescribe", version, {"groupIds": list(names), "includeAuthorizedOperations": False})


def heartbeat(side: Side, step: str, *args, version: "int | None" = None, **fields) -> dict:
    """Kafka works a new assignment out beside the request, so it may come one heartbeat later: joins are asked twice."""
    return side.call(step, "ConsumerGroupHeartbeat", side.version if version is None else version, beat(*args, **fields))


def stable(side: Side, group: str, of: Topic, name: str = "m-1", version: int = 1) -> int:
    """Joins alone, takes what it is assigned, and returns its epoch."""
    answer = side.ask("ConsumerGroupHeartbeat", version, beat(group, name, JOIN, [of.name]))
    epoch = answer["memberEpoch"]
    side.ask("ConsumerGroupHeartbeat", version, beat(group, name, epoch, None, owning(of, *range(4))[:0]))
    return epoch


@case("ConsumerGroupHeartbeat")
def two_members(side: Side) -> None:
    group, of = side.name("g"), side.topic(partitions=4)
    answer = heartbeat(side, "first joins", group, "m-1", JOIN, [of.name])
    epoch = answer.get("memberEpoch", 1)
    heartbeat(side, "first owns what it was given", group, "m-1", epoch, None, owning(of, 0, 1, 2, 3))
    heartbeat(side, "first says nothing new", group, "m-1", epoch)
    describe(side, "one member", group)
    answer = heartbeat(side, "second joins", group, "m-2", JOIN, [of.name])
    second = answer.get("memberEpoch", 2)
    answer = heartbeat(side, "first hears of it", group, "m-1", epoch, None, owning(of, 0, 1, 2, 3))
    describe(side, "while first gives up", group)
    kept = [one["partitions"] for one in (answer.get("assignment") or {}).get("topicPartitions", [])]
    answer = heartbeat(side, "first has given up", group, "m-1", epoch, None, owning(of, *(kept[0] if kept else (0, 1))))
    first = answer.get("memberEpoch", 2)
    answer = heartbeat(side, "second gets the rest", group, "m-2", second)
    describe(side, "both own", group)
    heartbeat(side, "an older epoch", group, "m-1", first - 1)
    heartbeat(side, "an older epoch, owning what it has", group, "m-1", first - 1, None, owning(of, *(kept[0] if kept else (0, 1))))
    heartbeat(side, "a much older epoch", group, "m-1", first - 2 if first > 2 else 7)
    heartbeat(side, "a later epoch", group, "m-1", first + 5)
    heartbeat(side, "an unknown member", group, "m-9", 3)
    side.call("first commits", "OffsetCommit", 9, commit(group, of, 1, "m-1", first))
    side.call("first commits in an older epoch", "OffsetCommit", 9, commit(group, of, 1, "m-1", first - 1))
    side.call("first commits in an older epoch, version 8", "OffsetCommit", 8, commit(group, of, 1, "m-1", first - 1))
    side.call("nobody commits", "OffsetCommit", 9, commit(group, of, 1))
    side.call("first fetches", "OffsetFetch", 9, fetch_offsets(9, group, [(of, (0,))], "m-1", first))
    side.call("first fetches in an older epoch", "OffsetFetch", 9, fetch_offsets(9, group, [(of, (0,))], "m-1", first - 1))
    side.call("nobody fetches", "OffsetFetch", 9, fetch_offsets(9, group, [(of, (0,))]))
    heartbeat(side, "second leaves", group, "m-2", LEAVE)
    heartbeat(side, "second leaves again", group, "m-2", LEAVE)
    heartbeat(side, "first takes over", group, "m-1", first)
    describe(side, "one is left", group)
    heartbeat(side, "first leaves", group, "m-1", LEAVE)
    describe(side, "empty", group)
    side.call("deleted", "DeleteGroups", 2, {"groupsNames": [group]})
    describe(side, "deleted", group)


@case("ConsumerGroupHeartbeat")
def heartbeats_refused(side: Side) -> None:
    of = side.topic(partitions=2)
    group = side.name("g")
    stable(side, group, of)
    for step, args, fields in (
        ("no group", ("", "m", JOIN, [of.name]), {}),
        ("no member", (side.name("r"), "", JOIN, [of.name]), {}),
        ("epoch -3", (group, "m", -3, [of.name]), {}),
        ("leaving a group that is not", (side.name("none"), "m", LEAVE), {}),
        ("leaving as a member that is not", (group, "m-9", LEAVE), {}),
        ("leaving as a static member without an instance", (group, "m-1", LEAVE_STATIC), {}),
        ("a heartbeat in a group that is not", (side.name("none"), "m", 1), {}),
        ("joining without topics", (group, "m-2", JOIN, None), {}),
        ("joining with no topic", (side.name("r"), "m-2", JOIN, []), {}),
        ("joining with topics owned", (group, "m-2", JOIN, [of.name], None), {"topicPartitions": owning(of, 0)}),
        ("joining with null owned", (group, "m-2", JOIN, [of.name]), {"topicPartitions": None}),
        ("joining without a rebalance timeout", (group, "m-2", JOIN, [of.name]), {"rebalanceTimeoutMs": -1}),
        ("joining with a rebalance timeout of 0", (group, "m-2", JOIN, [of.name]), {"rebalanceTimeoutMs": 0}),
        ("joining with an unknown assignor", (group, "m-2", JOIN, [of.name]), {"serverAssignor": "odd"}),
        ("joining with an empty assignor", (group, "m-2", JOIN, [of.name]), {"serverAssignor": ""}),
        ("joining with an empty instance", (group, "m-2", JOIN, [of.name]), {"instanceId": ""}),
        ("joining with an empty rack", (group, "m-2", JOIN, [of.name]), {"rackId": ""}),
        ("joining with an empty member id", (group, "", JOIN, [of.name]), {}),
        ("joining with a bad regular expression", (side.name("r"), "m-2", JOIN, None), {"subscribedTopicRegex": "[", "subscribedTopicNames": []}),
        ("joining with an unknown topic", (side.name("r"), "m-2", JOIN, ["none"]), {}),
        ("joining with an odd topic", (side.name("r"), "m-2", JOIN, ["a b/"]), {}),
        ("joining with an empty topic", (side.name("r"), "m-2", JOIN, [""]), {}),
        ("joining with one topic twice", (side.name("r"), "m-2", JOIN, [of.name, of.name]), {}),
        ("an unknown topic owned", (group, "m-1", 1, None, [{"topicId": "q83vEjRWeJCrze8SNFZ4kA", "partitions": [0]}]), {}),
        ("an unknown partition owned", (group, "m-1", 1, None, owning(of, 7)), {}),
    ):
        heartbeat(side, step, *args, **fields)


@case("ConsumerGroupHeartbeat", versions=[1])
def regular_expression(side: Side) -> None:
    group, of = side.name("g"), side.topic(partitions=2)
    answer = heartbeat(side, "joins", group, "m-1", JOIN, **{"subscribedTopicRegex": f"{of.name[:-1]}.*", "subscribedTopicNames": []})
    known = {"epoch": answer.get("memberEpoch", 1)}

    def matched() -> bool:
        answer = side.ask("ConsumerGroupHeartbeat", 1, beat(group, "m-1", known["epoch"]))
        known["epoch"] = answer["memberEpoch"]
        described = side.ask("ConsumerGroupDescribe", 1, {"groupIds": [group]})["groups"][0]
        return any(member["assignment"]["topicPartitions"] for member in described["members"])
    side.until("the expression is resolved", matched)
    heartbeat(side, "owns what matches", group, "m-1", known["epoch"], None, owning(of, 0, 1))
    describe(side, "matched", group)


@case("ConsumerGroupHeartbeat")
def static_members_of_consumer_groups(side: Side) -> None:
    group, of = side.name("g"), side.topic(partitions=2)
    static = {"instanceId": "i-1"}
    epoch = heartbeat(side, "joins", group, "m-1", JOIN, [of.name], **static).get("memberEpoch", 1)
    heartbeat(side, "owns", group, "m-1", epoch, None, owning(of, 0, 1), **static)
    heartbeat(side, "another process of the instance joins", group, "m-2", JOIN, [of.name], **static)
    heartbeat(side, "leaves for a while", group, "m-1", LEAVE_STATIC, **static)
    describe(side, "away", group)
    epoch = heartbeat(side, "comes back as another member", group, "m-2", JOIN, [of.name], **static).get("memberEpoch", 1)
    describe(side, "back", group)
    heartbeat(side, "the first process heartbeats", group, "m-1", epoch, **static)
    heartbeat(side, "heartbeats", group, "m-2", epoch, **static)
    heartbeat(side, "another instance's name", group, "m-2", epoch, instanceId="i-2")
    heartbeat(side, "leaves for good", group, "m-2", LEAVE, **static)
    describe(side, "empty", group)


@case("ConsumerGroupDescribe")
def describes(side: Side) -> None:
    group, classic, of = side.name("g"), side.name("c"), side.topic(partitions=2)
    stable(side, group, of)
    groups.alone_in(side, classic)
    ask = lambda step, *names, bits=False: side.call(  # noqa: E731
        step, "ConsumerGroupDescribe", side.version, {"groupIds": list(names), "includeAuthorizedOperations": bits})
    ask("good", group)
    ask("with the operations that are allowed", group, bits=True)
    ask("unknown", side.name("none"))
    ask("classic", classic)
    ask("none")
    ask("no name", "")
    ask("one twice", group, group)
    for version in range(7):
        side.call(f"by DescribeGroups {version}", "DescribeGroups", version, {"groups": [group], "includeAuthorizedOperations": False})


@case("ListGroups", when=ALONE, versions=range(4, 6))
def consumer_groups_listed(side: Side) -> None:
    group, of = side.name("g"), side.topic(partitions=2)
    stable(side, group, of)
    for label, fields in {"all": {}, "of type consumer": {"typesFilter": ["Consumer"]}, "of type classic": {"typesFilter": ["classic"]},
                          "stable": {"statesFilter": ["stable"]}, "assigning": {"statesFilter": ["Assigning"]},
                          "reconciling": {"statesFilter": ["reconciling"]}}.items():
        outcome = side.exchange("ListGroups", side.version, {"statesFilter": [], "typesFilter": [], **fields}, "main", 5, set())
        if "body" in outcome:
            outcome["body"]["groups"] = [one for one in outcome["body"]["groups"] if one["groupId"] == group]
        side.note(label, outcome)


@case()
def kinds_meet(side: Side) -> None:
    of = side.topic(partitions=2)
    group = side.name("g")
    stable(side, group, of)
    for version in (0, 3, 5, 9):
        side.call(f"a classic member joins a consumer group, JoinGroup {version}", "JoinGroup", version, groups.join(group), "other", 2)
    side.call("a classic member heartbeats in a consumer group", "Heartbeat", 4, groups.heartbeat(group, "m-1", 1))
    side.call("a classic member syncs in a consumer group", "SyncGroup", 5, groups.sync(group, "m-1", 1))
    side.call("a classic member leaves a consumer group", "LeaveGroup", 5, groups.leave(group, ("m-9", None)))
    classic = side.name("c")
    groups.alone_in(side, classic)
    heartbeat(side, "a consumer member joins a classic group", classic, "m-1", JOIN, [of.name], version=1)
    heartbeat(side, "a consumer member heartbeats in a classic group", classic, "m-1", 1, version=1)
    heartbeat(side, "a consumer member leaves a classic group", classic, "m-1", LEAVE, version=1)
    offsets = side.name("o")
    side.call("offsets alone", "OffsetCommit", 8, commit(offsets, of))
    heartbeat(side, "a consumer member joins a group of offsets alone", offsets, "m-1", JOIN, [of.name], version=1)
    describe(side, "what was a group of offsets alone", offsets)
    side.call("its offsets", "OffsetFetch", 8, fetch_offsets(8, offsets, None))
