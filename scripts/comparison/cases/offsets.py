"""Committed offsets: commit, fetch and delete, by members and by others."""
from ..registry import case
from ..side import Side, Topic, unknown_topic
from .fields import commit
from .groups import alone_in


def fetch_offsets(version: int, group: str, topics: "list | None", member: "str | None" = None, epoch: int = -1, stable: bool = False) -> dict:
    asked = None if topics is None else [
        {"name": one.name, "topicId": one.id, "partitionIndexes": list(partitions)} for one, partitions in topics]
    if version < 8:
        return {"groupId": group, "topics": asked, "requireStable": stable}
    return {"groups": [{"groupId": group, "memberId": member, "memberEpoch": epoch, "topics": asked}], "requireStable": stable}


@case("OffsetCommit")
def commits(side: Side) -> None:
    version, group, of = side.version, side.name("g"), side.topic(partitions=2)
    ask = lambda step, body: side.call(step, "OffsetCommit", version, body)  # noqa: E731
    ask("of no member", commit(group, of))
    ask("of an unknown topic", commit(group, unknown_topic()))
    ask("of a topic without a name", commit(group, Topic("", of.id)))
    ask("below 0", commit(group, of, -5))
    ask("of no group", commit("", of))
    ask("of a member that is not", commit(side.name("g"), of, 1, "nobody", 3))
    ask("of a generation without a member", commit(side.name("g"), of, 1, "", 3))
    ask("of a member without a generation", commit(group, of, 1, "nobody", -1))
    two = commit(group, of)
    two["topics"][0]["partitions"] = [
        {"partitionIndex": n, "committedOffset": 1, "committedLeaderEpoch": -1, "committedMetadata": m}
        for n, m in ((0, None), (1, "x" * 4096), (1, "x" * 4097), (2, ""), (-1, ""))]
    ask("of several partitions, one twice, two unknown, metadata null and too long", two)
    ask("of no topic", {**commit(group, of), "topics": []})
    ask("with a time to keep it", commit(group, of, retentionTimeMs=1000))
    side.call("fetched", "OffsetFetch", 8, fetch_offsets(8, group, [(of, (0, 1))]))
    live = side.name("live")
    member = alone_in(side, live)
    ask("of a member", commit(live, of, 7, member, 1))
    ask("of an older generation", commit(live, of, 8, member, 0))
    ask("of a later generation", commit(live, of, 8, member, 2))
    ask("of no member where there is one", commit(live, of, 8))
    ask("of an unknown member where there is one", commit(live, of, 8, "nobody", 1))
    ask("of an instance that is not", commit(live, of, 8, member, 1, groupInstanceId="i"))
    side.call("fetched of the group that lives", "OffsetFetch", 8, fetch_offsets(8, live, [(of, (0, 1))]))


@case("OffsetFetch")
def offset_fetches(side: Side) -> None:
    version, group, of = side.version, side.name("g"), side.topic(partitions=2)
    side.call("committed", "OffsetCommit", 8, commit(group, of))
    ask = lambda step, *args, **more: side.call(step, "OffsetFetch", version, fetch_offsets(version, *args, **more))  # noqa: E731
    ask("good", group, [(of, (0, 1))])
    ask("of an unknown partition", group, [(of, (7, -1))])
    ask("of an unknown topic", group, [(unknown_topic(), (0,))])
    ask("of an unknown group", side.name("none"), [(of, (0,))])
    ask("of no group", "", [(of, (0,))])
    ask("of no topic", group, [])
    ask("of a topic twice", group, [(of, (0,)), (of, (0,))])
    ask("of a partition twice", group, [(of, (0, 0))])
    if version >= 2:
        ask("of all topics", group, None)
        ask("of all topics of an unknown group", side.name("none"), None)
    if version >= 7:
        ask("of what is stable", group, [(of, (0, 1))], stable=True)
    if version >= 8:
        side.call("of several groups", "OffsetFetch", version, {"requireStable": False, "groups": [
            {"groupId": one, "memberId": None, "memberEpoch": -1, "topics": None} for one in (group, side.name("none"), "", group)]})
        side.call("of nobody", "OffsetFetch", version, {"groups": [], "requireStable": False})
    if version >= 9:
        ask("of a member that is not", group, [(of, (0,))], member="nobody", epoch=1)
        live = side.name("live")
        member = alone_in(side, live)
        ask("of a member", live, [(of, (0,))], member=member, epoch=1)
        ask("of a member of another generation", live, [(of, (0,))], member=member, epoch=2)


@case("OffsetDelete")
def offset_deletes(side: Side) -> None:
    group, of = side.name("g"), side.topic(partitions=2)
    delete = lambda step, to, *topics: side.call(step, "OffsetDelete", side.version, {"groupId": to, "topics": [  # noqa: E731
        {"name": one.name, "partitions": [{"partitionIndex": n} for n in parts]} for one, parts in topics]})
    side.call("committed", "OffsetCommit", 8, commit(group, of))
    delete("unknown", group, (of, (1, 7, -1)), (unknown_topic(), (0,)))
    delete("of an unknown group", side.name("none"), (of, (0,)))
    delete("of no group", "", (of, (0,)))
    delete("nothing", group)
    live = side.name("live")
    alone_in(side, live)
    delete("of a group with a member", live, (of, (0,)))
    delete("good, one twice", group, (of, (0, 0)))
    side.call("fetched", "OffsetFetch", 8, fetch_offsets(8, group, None))
