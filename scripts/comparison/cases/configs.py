"""Configurations of topics, of the broker, and of the other resources that have some."""
from ..registry import ALONE, LAST, case
from ..side import Side

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = range(4)


def becomes(side: Side, broker: str, value: "str | None") -> None:
    """Waits until the broker takes a new value for what holds: Kafka's does a moment after it has answered."""
    body = {"includeSynonyms": False, "resources": [
        {"resourceType": BROKER, "resourceName": broker, "configurationKeys": ["log.retention.ms"]}]}
    side.until("the value is taken", lambda: [
        one["value"] for one in side.ask("DescribeConfigs", 4, body)["results"][0]["configs"]] in ([value], [] if value is None else 0))


def describe(side: Side, step: str, kind: int, name: str, keys: "list | None" = None, version: "int | None" = None, **fields) -> None:
    side.call(step, "DescribeConfigs", side.version if version is None else version, {
        "includeSynonyms": True, "includeDocumentation": False, **fields,
        "resources": [{"resourceType": kind, "resourceName": name, "configurationKeys": keys}]})


@case("DescribeConfigs", when=ALONE)
def described(side: Side) -> None:
    of, set_there = side.topic(), side.topic(retention_ms="1000", cleanup_policy="compact")
    describe(side, "of a topic", TOPIC, of.name)
    describe(side, "of a topic with its own", TOPIC, set_there.name, ["retention.ms", "cleanup.policy", "segment.bytes"])
    describe(side, "without synonyms", TOPIC, set_there.name, ["retention.ms"], includeSynonyms=False)
    describe(side, "no key", TOPIC, of.name, [])
    describe(side, "an unknown key", TOPIC, of.name, ["odd"])
    describe(side, "a key twice", TOPIC, of.name, ["retention.ms", "retention.ms"])
    for kind, names in ((TOPIC, ("none", "", "a b")), (BROKER, ("7", "-1", "x")), (LOGGER, ("7", "x", "")), (GROUP, ("", "none")),
                        (METRICS, ("", "none")), (0, ("x",)), (1, ("x",)), (3, ("x",)), (64, ("x",)), (-1, ("x",))):
        for name in names:
            describe(side, f"of {name!r} of kind {kind}", kind, name)
    describe(side, "of all brokers", BROKER, "")
    side.call("none", "DescribeConfigs", side.version, {"resources": []})
    one = {"resourceType": TOPIC, "resourceName": of.name, "configurationKeys": ["retention.ms"]}
    side.call("one twice", "DescribeConfigs", side.version, {"resources": [one, one]})


@case("DescribeConfigs", when=ALONE, versions=[1, 4])
def of_the_broker(side: Side) -> None:
    """Every key, its value, where it is from, and whether it can be changed."""
    describe(side, "all keys", BROKER, "0")


@case("DescribeConfigs", when=ALONE, versions=[3, 4])
def documented(side: Side) -> None:
    describe(side, "with documentation", TOPIC, side.topic().name, ["retention.ms", "cleanup.policy"], includeDocumentation=True)


BAD = (("odd", "1"), ("", "1"), ("retention.ms", "x"), ("retention.ms", ""), ("retention.ms", "-2"), ("cleanup.policy", "odd"),
       ("compression.type", "odd"), ("min.insync.replicas", "0"), ("segment.bytes", "1"), ("preallocate", "yes"))


@case("IncrementalAlterConfigs")
def altered_in_part(side: Side) -> None:
    of = side.topic()

    def ask(step: str, name: str, *configs: tuple, kind: int = TOPIC, validate: bool = False) -> None:
        side.call(step, "IncrementalAlterConfigs", side.version, {"validateOnly": validate, "resources": [
            {"resourceType": kind, "resourceName": name, "configs": [
                {"name": key, "configOperation": operation, "value": value} for operation, key, value in configs]}]})
    ask("set", of.name, (SET, "retention.ms", "5000"))
    ask("set, only looked at", of.name, (SET, "retention.ms", "6000"), validate=True)
    ask("set twice", of.name, (SET, "retention.ms", "5000"), (SET, "retention.ms", "6000"))
    ask("set to null", of.name, (SET, "retention.ms", None))
    ask("appended", of.name, (APPEND, "cleanup.policy", "compact"))
    ask("appended again", of.name, (APPEND, "cleanup.policy", "compact"))
    describe(side, "now", TOPIC, of.name, ["retention.ms", "cleanup.policy"], 4)
    ask("subtracted", of.name, (SUBTRACT, "cleanup.policy", "delete"))
    ask("subtracted what is not there", of.name, (SUBTRACT, "cleanup.policy", "odd"))
    ask("subtracted to nothing", of.name, (SUBTRACT, "cleanup.policy", "compact"))
    ask("appended to what is no list", of.name, (APPEND, "retention.ms", "5"))
    ask("deleted", of.name, (DELETE, "retention.ms", None))
    ask("deleted again", of.name, (DELETE, "retention.ms", None))
    ask("deleted an unknown key", of.name, (DELETE, "odd", None))
    ask("an unknown operation", of.name, (7, "retention.ms", "5"))
    ask("nothing", of.name)
    for key, value in BAD:
        ask(f"{key!r} = {value!r}", of.name, (SET, key, value))
    ask("one good, one bad", of.name, (SET, "retention.ms", "7000"), (SET, "odd", "1"))
    describe(side, "at the end", TOPIC, of.name, ["retention.ms", "cleanup.policy"], 4)
    ask("of an unknown topic", "none", (SET, "retention.ms", "5"))
    ask("of no topic", "", (SET, "retention.ms", "5"))
    for kind in (0, 1, 3, 64, -1):
        ask(f"of kind {kind}", of.name, (SET, "retention.ms", "5"), kind=kind)
    one = {"resourceType": TOPIC, "resourceName": of.name, "configs": [{"name": "retention.ms", "configOperation": SET, "value": "1"}]}
    side.call("one resource twice", "IncrementalAlterConfigs", side.version, {"resources": [one, one]})
    side.call("none", "IncrementalAlterConfigs", side.version, {"resources": []})


@case("AlterConfigs")
def altered_whole(side: Side) -> None:
    of = side.topic(cleanup_policy="compact")

    def ask(step: str, name: str, *configs: tuple, kind: int = TOPIC, validate: bool = False) -> None:
        side.call(step, "AlterConfigs", side.version, {"validateOnly": validate, "resources": [
            {"resourceType": kind, "resourceName": name, "configs": [{"name": key, "value": value} for key, value in configs]}]})
    ask("good", of.name, ("retention.ms", "5000"))
    describe(side, "now", TOPIC, of.name, ["retention.ms", "cleanup.policy"], 4)
    ask("only looked at", of.name, ("retention.ms", "6000"), validate=True)
    ask("one twice", of.name, ("retention.ms", "5000"), ("retention.ms", "6000"))
    ask("null", of.name, ("retention.ms", None))
    for key, value in BAD:
        ask(f"{key!r} = {value!r}", of.name, (key, value))
    ask("nothing", of.name)
    describe(side, "at the end", TOPIC, of.name, ["retention.ms", "cleanup.policy"], 4)
    ask("of an unknown topic", "none", ("retention.ms", "5"))
    for kind in (0, 1, 3, 64, -1):
        ask(f"of kind {kind}", of.name, ("retention.ms", "5"), kind=kind)


@case("IncrementalAlterConfigs", when=LAST)
def altered_of_the_broker(side: Side) -> None:
    def ask(step: str, name: str, *configs: tuple, kind: int = BROKER) -> None:
        side.call(step, "IncrementalAlterConfigs", side.version, {"validateOnly": False, "resources": [
            {"resourceType": kind, "resourceName": name, "configs": [
                {"name": key, "configOperation": operation, "value": value} for operation, key, value in configs]}]})
    for name in ("0", ""):
        ask(f"set, of broker {name!r}", name, (SET, "log.retention.ms", "500000"))
        becomes(side, name, "500000")
        describe(side, f"set, of broker {name!r}: now", BROKER, name, ["log.retention.ms"], 4)
        ask(f"deleted, of broker {name!r}", name, (DELETE, "log.retention.ms", None))
        becomes(side, name, None)
        describe(side, f"deleted, of broker {name!r}: now", BROKER, name, ["log.retention.ms"], 4)
        for key, value in (("log.retention.ms", "x"), ("log.dirs", "/a"), ("node.id", "3"), ("message.max.bytes", "-1"), ("num.io.threads", "9"), ("num.io.threads", "100"),
                           ("background.threads", "0"), ("odd", "1")):
            ask(f"{key} = {value}, of broker {name!r}", name, (SET, key, value))
            ask(f"{key} deleted, of broker {name!r}", name, (DELETE, key, None))
    for name in ("7", "-1", "x"):
        ask(f"of broker {name!r}", name, (SET, "log.retention.ms", "500000"))
    ask("the level of a logger", "0", (SET, "kafka.server.KafkaApis", "WARN"), kind=LOGGER)
    group = side.name("g")
    for key, value in (("consumer.session.timeout.ms", "50000"), ("consumer.heartbeat.interval.ms", "x"), ("odd", "1"),
                       ("consumer.session.timeout.ms", "1")):
        ask(f"{key} = {value}, of a group", group, (SET, key, value), kind=GROUP)
    describe(side, "of the group", GROUP, group, ["consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"], 4)
    ask("of no group", "", (SET, "consumer.session.timeout.ms", "50000"), kind=GROUP)
    metrics = side.name("m")
    for key, value in (("interval.ms", "5000"), ("metrics", "a,b"), ("match", "client_id=a"), ("match", "odd"), ("interval.ms", "1"), ("odd", "1")):
        ask(f"{key} = {value}, of client metrics", metrics, (SET, key, value), kind=METRICS)
    describe(side, "of client metrics", METRICS, metrics, None, 4)


@case("ListConfigResources", when=LAST)
def resources(side: Side) -> None:
    of = side.topic()
    side.call("a group with its own", "IncrementalAlterConfigs", 1, {"resources": [{"resourceType": GROUP, "resourceName": side.name("g"), "configs": [
        {"name": "consumer.session.timeout.ms", "configOperation": SET, "value": "50000"}]}]})
    for kinds in ([], [GROUP], [METRICS], [BROKER], [LOGGER], [TOPIC], [0], [7], [GROUP, METRICS], [GROUP, GROUP]):
        outcome = side.exchange("ListConfigResources", side.version, {"resourceTypes": kinds}, "main", 5, set())
        if "body" in outcome:
            mine = (of.name, f"{side.case}-g1", "0", "")
            outcome["body"]["configResources"] = [one for one in outcome["body"]["configResources"] if one["resourceName"] in mine]
        side.note(f"of kinds {kinds}", outcome)
