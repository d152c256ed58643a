"""Classic groups, step by step: join, sync, heartbeat, leave, static members, and commits in each state."""
from ..registry import ALONE, case
from ..side import Side
from .fields import commit

# Kafka reads what members of type consumer say, so it must be a subscription: version 0, of no topic, no data of its own.
NO_TOPIC = "0000" + "00000000" + "ffffffff"
RANGE, ROUND_ROBIN = {"name": "range", "metadata": NO_TOPIC}, {"name": "roundrobin", "metadata": NO_TOPIC}
LATEST = {"JoinGroup": 9, "SyncGroup": 5, "Heartbeat": 4, "LeaveGroup": 5, "DescribeGroups": 6}


def join(group: str, member: str = "", instance: "str | None" = None, protocols: tuple = (RANGE,), **fields) -> dict:
    return {"groupId": group, "sessionTimeoutMs": 30_000, "rebalanceTimeoutMs": 30_000, "memberId": member, "groupInstanceId": instance,
            "protocolType": "consumer", "protocols": list(protocols), "reason": "r", **fields}


def sync(group: str, member: str, generation: int, assigned: tuple = (), instance: "str | None" = None, **fields) -> dict:
    return {"groupId": group, "generationId": generation, "memberId": member, "groupInstanceId": instance,
            "protocolType": "consumer", "protocolName": "range",
            "assignments": [{"memberId": who, "assignment": f"0{n}"} for n, who in enumerate(assigned)], **fields}


def heartbeat(group: str, member: str, generation: int, instance: "str | None" = None) -> dict:
    return {"groupId": group, "generationId": generation, "memberId": member, "groupInstanceId": instance}


def leave(group: str, *members: tuple) -> dict:
    return {"groupId": group, "memberId": members[0][0] if members else "", "members": [
        {"memberId": member, "groupInstanceId": instance, "reason": "r"} for member, instance in members]}


def describe(side: Side, step: str, group: str, version: int = LATEST["DescribeGroups"]) -> None:
    # Kafka describes what is in its log already, which may be a moment old.
    side.call(f"{step}: described", "DescribeGroups", version, {"groups": [group], "includeAuthorizedOperations": False},
              again={"GROUP_ID_NOT_FOUND"} if step != "deleted" else ())


def joined(side: Side, group: str, name: str, version: int = LATEST["JoinGroup"], step: "str | None" = None, **fields) -> str:
    """The id of a member whose first join is under way or done: from version 4 on the broker first names the member."""
    step = step or f"{name} joins"
    body = join(group, **fields)
    if version < 4 or fields.get("instance"):
        answer = side.call(step, "JoinGroup", version, body)
        return side.learn(answer.get("memberId", ""), f"<{name}>")
    answer = side.ask("JoinGroup", version, body)
    side.learn(answer["memberId"], f"<{name}>")
    side.note(f"{step} without an id", {"outcome": "answer", "body": answer})
    return answer["memberId"]


def alone_in(side: Side, group: str, name: str = "first", version: int = LATEST["JoinGroup"], instance: "str | None" = None) -> str:
    """A member that is the only one, stable in generation 1."""
    member = joined(side, group, name, version, instance=instance)
    if version >= 4 and not instance:
        side.call(f"{name} joins", "JoinGroup", version, join(group, member))
    side.call(f"{name} syncs", "SyncGroup", LATEST["SyncGroup"], sync(group, member, 1, (member,), instance))
    return member


@case("JoinGroup")
def group_of_two_joins(side: Side) -> None:
    version, group = side.version, side.name("g")
    first = joined(side, group, "first", version)
    if version >= 4:
        side.call("first joins", "JoinGroup", version, join(group, first))
    describe(side, "waiting for the sync", group)
    side.call("first heartbeats before it has synced", "Heartbeat", 4, heartbeat(group, first, 1))
    side.call("first commits before it has synced", "OffsetCommit", 8, commit(group, side.topic(), 1, first, 1))
    side.call("first syncs", "SyncGroup", 5, sync(group, first, 1, (first,)))
    describe(side, "stable", group)
    side.call("first joins again, and leads", "JoinGroup", version, join(group, first))
    side.call("first syncs again", "SyncGroup", 5, sync(group, first, 2, (first,)))
    # A second member waits until the first has come back.
    if version < 4:
        side.send("JoinGroup", version, join(group), "second")
        side.until("a rebalance", lambda: side.ask("Heartbeat", 4, heartbeat(group, first, 2))["errorCode"] == 27)
    else:
        second = joined(side, group, "second", version)
        side.send("JoinGroup", version, join(group, second), "second")
        side.until("a rebalance", lambda: side.ask("Heartbeat", 4, heartbeat(group, first, 2))["errorCode"] == 27)
    describe(side, "rebalancing", group)
    side.call("first commits while rebalancing", "OffsetCommit", 8, commit(group, side.topic(), 1, first, 2))
    side.call("first joins for the second", "JoinGroup", version, join(group, first, protocols=(RANGE, ROUND_ROBIN)))
    answer = side.outcome("JoinGroup", version, "second")
    second = side.learn(answer["body"]["memberId"], "<second>")
    side.note("second has joined", answer)
    side.send("SyncGroup", 5, sync(group, second, 3), "second")
    side.call("first syncs for both", "SyncGroup", 5, sync(group, first, 3, (first, second)))
    side.receive("second has synced", "SyncGroup", 5, "second")
    describe(side, "stable with two", group)
    side.call("second, a follower, joins again unchanged", "JoinGroup", version, join(group, second))
    side.call("second leaves", "LeaveGroup", 5, leave(group, (second, None)))
    side.call("first heartbeats", "Heartbeat", 4, heartbeat(group, first, 3))
    side.call("first leaves", "LeaveGroup", 5, leave(group, (first, None)))
    describe(side, "empty", group)
    side.call("first leaves again", "LeaveGroup", 5, leave(group, (first, None)))
    side.call("first heartbeats after it left", "Heartbeat", 4, heartbeat(group, first, 3))


@case("JoinGroup")
def join_refused(side: Side) -> None:
    version, group = side.version, side.name("g")
    alone_in(side, group)
    cases = {
        "another protocol type": {"protocolType": "connect"},
        "an empty protocol type": {"protocolType": ""},
        "no protocol": {"protocols": []},
        "a protocol that no other has": {"protocols": [{"name": "sticky", "metadata": ""}]},
        "an unknown member": {"memberId": "nobody"},
        "a session of 10 ms": {"sessionTimeoutMs": 10},
        "a session of a day": {"sessionTimeoutMs": 86_400_000},
        "an unknown member and instance": {"memberId": "nobody", "groupInstanceId": "nobody"},
        "an empty instance": {"groupInstanceId": ""},
        "an instance of odd characters": {"groupInstanceId": "a b/"},
        "an instance of 300 characters": {"groupInstanceId": "i" * 300},
        "an instance named .": {"groupInstanceId": "."},
        "no group": {"groupId": ""},
        "the same protocol twice": {"protocols": [RANGE, RANGE]},
    }
    for step, fields in cases.items():
        if "groupInstanceId" in fields and version < 5:
            continue
        group_of_its_own = side.name("r")
        if step in ("an empty instance", "an instance of 300 characters"):
            fields = {**fields, "groupId": group_of_its_own}
        side.call(step, "JoinGroup", version, {**join(group), **fields}, "other", 2)


@case("SyncGroup")
def sync_of_each_version(side: Side) -> None:
    version, group = side.version, side.name("g")
    first = joined(side, group, "first")
    side.call("first joins", "JoinGroup", 9, join(group, first))
    for step, fields in {
        "an unknown member": {"memberId": "nobody"}, "an older generation": {"generationId": 0},
        "a later generation": {"generationId": 2}, "an unknown group": {"groupId": side.name("none")}, "no group": {"groupId": ""},
        "another protocol type": {"protocolType": "connect"}, "another protocol": {"protocolName": "sticky"},
        "no member": {"memberId": ""}, "an instance that is not": {"groupInstanceId": "i"},
        "no protocol type": {"protocolType": None}, "no protocol": {"protocolName": None},
    }.items():
        side.call(step, "SyncGroup", version, {**sync(group, first, 1, (first,)), **fields})
    side.call("good", "SyncGroup", version, sync(group, first, 1, (first, "nobody")))
    side.call("again", "SyncGroup", version, sync(group, first, 1))
    describe(side, "stable", group)


@case("Heartbeat")
def heartbeat_of_each_version(side: Side) -> None:
    version, group = side.version, side.name("g")
    member = alone_in(side, group)
    for step, body in {
        "good": heartbeat(group, member, 1), "an older generation": heartbeat(group, member, 0),
        "a later generation": heartbeat(group, member, 2), "generation -1": heartbeat(group, member, -1),
        "an unknown member": heartbeat(group, "nobody", 1), "no member": heartbeat(group, "", 1),
        "an unknown group": heartbeat(side.name("none"), member, 1), "no group": heartbeat("", member, 1),
        "an instance that is not": heartbeat(group, member, 1, "i"),
    }.items():
        side.call(step, "Heartbeat", version, body)


@case("LeaveGroup")
def leave_of_each_version(side: Side) -> None:
    version, group = side.version, side.name("g")
    member = alone_in(side, group)
    side.call("an unknown member", "LeaveGroup", version, leave(group, ("nobody", None)))
    side.call("an unknown group", "LeaveGroup", version, leave(side.name("none"), (member, None)))
    side.call("no group", "LeaveGroup", version, leave("", (member, None)))
    if version >= 3:
        side.call("nobody", "LeaveGroup", version, leave(group))
        side.call("an unknown instance", "LeaveGroup", version, leave(group, ("", "i")))
        side.call("an unknown member and instance", "LeaveGroup", version, leave(group, ("nobody", "i")))
        side.call("no member", "LeaveGroup", version, leave(group, ("", None)))
        side.call("one twice, and one unknown", "LeaveGroup", version, leave(group, (member, None), (member, None), ("nobody", None)))
    else:
        side.call("good", "LeaveGroup", version, leave(group, (member, None)))
    describe(side, "empty", group)


@case("JoinGroup", versions=range(5, 10))
def static_members(side: Side) -> None:
    version, group = side.version, side.name("g")
    member = alone_in(side, group, "static", version, "i-1")
    describe(side, "stable", group)
    side.call("heartbeats", "Heartbeat", 4, heartbeat(group, member, 1, "i-1"))
    side.call("heartbeats as another instance", "Heartbeat", 4, heartbeat(group, member, 1, "i-2"))
    side.call("heartbeats as another member of the instance", "Heartbeat", 4, heartbeat(group, "nobody", 1, "i-1"))
    later = joined(side, group, "static, restarted", version, instance="i-1", step="joins after a restart")
    side.call("syncs after a restart", "SyncGroup", 5, sync(group, later, 1, (), "i-1"))
    describe(side, "stable after a restart", group)
    side.call("the first process heartbeats", "Heartbeat", 4, heartbeat(group, member, 1, "i-1"))
    side.call("the first process syncs", "SyncGroup", 5, sync(group, member, 1, (), "i-1"))
    side.call("the first process commits", "OffsetCommit", 8, commit(group, side.topic(), 1, member, 1, groupInstanceId="i-1"))
    side.call("the first process joins", "JoinGroup", version, join(group, member, "i-1"))
    side.call("the first process leaves", "LeaveGroup", 5, leave(group, (member, "i-1")))
    changed = joined(side, group, "static, changed", version, instance="i-1", step="joins with another protocol",
                     protocols=(ROUND_ROBIN,))
    describe(side, "after another protocol", group)
    side.call("leaves by its instance", "LeaveGroup", 5, leave(group, ("", "i-1")))
    side.call("heartbeats after it left", "Heartbeat", 4, heartbeat(group, changed, 2, "i-1"))
    describe(side, "empty", group)


@case("DescribeGroups")
def describe_groups(side: Side) -> None:
    version, group, offsets = side.version, side.name("g"), side.name("o")
    alone_in(side, group)
    side.call("a group of offsets alone", "OffsetCommit", 8, commit(offsets, side.topic()))
    ask = lambda step, *groups, bits=False: side.call(  # noqa: E731
        step, "DescribeGroups", version, {"groups": list(groups), "includeAuthorizedOperations": bits})
    ask("stable", group)
    ask("with the operations that are allowed", group, bits=True)
    ask("of offsets alone", offsets)
    ask("unknown", side.name("none"))
    ask("none")
    ask("one twice", group, group)
    ask("several", group, offsets, side.name("none"))


@case("ListGroups", when=ALONE)
def list_groups(side: Side) -> None:
    version, group, offsets = side.version, side.name("g"), side.name("o")
    member = alone_in(side, group)
    side.call("a group of offsets alone", "OffsetCommit", 8, commit(offsets, side.topic()))
    mine = {group, offsets}

    def ask(step: str, **fields) -> None:
        outcome = side.exchange("ListGroups", version, {"statesFilter": [], "typesFilter": [], **fields}, "main", 5, set())
        body = outcome.get("body")
        if body:
            body["groups"] = [one for one in body["groups"] if one["groupId"] in mine]
        side.note(step, outcome)

    ask("all")
    for state in ("Stable", "stable", "Empty", "Dead", "Odd", ""):
        ask(f"in state {state!r}", statesFilter=[state])
    for kind in ("classic", "Classic", "consumer", "share", "odd", ""):
        ask(f"of type {kind!r}", typesFilter=[kind])
    ask("of two states", statesFilter=["Stable", "Empty"])
    ask("of state and type", statesFilter=["Stable"], typesFilter=["classic"])
    side.call("leaves", "LeaveGroup", 5, leave(group, (member, None)))
    ask("after it left")


@case("DeleteGroups")
def delete_groups(side: Side) -> None:
    version, group, offsets = side.version, side.name("g"), side.name("o")
    member = alone_in(side, group)
    side.call("a group of offsets alone", "OffsetCommit", 8, commit(offsets, side.topic()))
    ask = lambda step, *groups: side.call(step, "DeleteGroups", version, {"groupsNames": list(groups)})  # noqa: E731
    ask("with a member, of offsets, unknown", group, offsets, side.name("none"))
    ask("again", offsets)
    ask("none")
    side.call("leaves", "LeaveGroup", 5, leave(group, (member, None)))
    ask("one twice", group, group)
    describe(side, "deleted", group)
