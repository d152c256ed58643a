"""ACLs, quotas and logins, on a listener without authentication."""
from ..registry import ALONE, case
from ..side import Side

UNKNOWN, ANY = 0, 1


def acl(name: str, **fields) -> dict:
    return {"resourceType": 2, "resourceName": name, "resourcePatternType": 3, "principal": "User:a", "host": "*", "operation": 3,
            "permissionType": 3, **fields}


def acl_filter(name: "str | None", **fields) -> dict:
    return {"resourceTypeFilter": 2, "resourceNameFilter": name, "patternTypeFilter": 3, "principalFilter": None, "hostFilter": None,
            "operation": ANY, "permissionType": ANY, **fields}


@case("CreateAcls")
def acls(side: Side) -> None:
    name = side.name("t")
    side.call("made", "CreateAcls", side.version, {"creations": [acl(name)]})
    side.call("none", "CreateAcls", side.version, {"creations": []})
    side.call("described", "DescribeAcls", side.version, acl_filter(name))
    side.call("deleted", "DeleteAcls", side.version, {"filters": [acl_filter(name)]})


@case("AlterClientQuotas", when=ALONE)
def quotas(side: Side) -> None:
    version, user = side.version, side.name("u")

    def ask(step: str, entity: list, *ops: tuple, validate: bool = False) -> None:
        side.call(step, "AlterClientQuotas", version, {"validateOnly": validate, "entries": [
            {"entity": [{"entityType": kind, "entityName": name} for kind, name in entity],
             "ops": [{"key": key, "value": value, "remove": remove} for key, value, remove in ops]}]})

    def told(step: str, *components: tuple, strict: bool = False) -> None:
        side.call(step, "DescribeClientQuotas", version, {"strict": strict, "components": [
            {"entityType": kind, "matchType": how, "match": what} for kind, how, what in components]})
    rate = ("producer_byte_rate", 1000.0, False)
    ask("set", [("user", user)], rate)
    ask("only looked at", [("user", user)], ("producer_byte_rate", 7.0, False), validate=True)
    ask("of user and client", [("user", user), ("client-id", "c")], ("consumer_byte_rate", 5.5, False))
    ask("of the default client of a user", [("user", user), ("client-id", None)], ("request_percentage", 50.0, False))
    mine = {"strict": False, "components": [{"entityType": "user", "matchType": 0, "match": user}]}
    side.until("the quotas hold", lambda: len(side.ask("DescribeClientQuotas", version, mine)["entries"]) == 3)
    told("exactly", ("user", 0, user))
    told("exactly, strictly", ("user", 0, user), strict=True)
    told("of user and client", ("user", 0, user), ("client-id", 0, "c"))
    told("of the default client", ("user", 0, user), ("client-id", 1, None))
    told("of any client", ("user", 0, user), ("client-id", 2, None))
    told("a kind twice", ("user", 0, user), ("user", 0, user))
    told("an unknown kind", ("odd", 0, "x"))
    told("an empty kind", ("", 0, "x"))
    told("an unknown way to match", ("user", 7, "x"))
    told("exactly nothing", ("user", 0, None))
    told("the default with a name", ("user", 1, "x"))
    told("any with a name", ("user", 2, "x"))
    told("ip and user", ("ip", 0, "127.0.0.1"), ("user", 0, user))
    for key, value in (("producer_byte_rate", 0.0), ("producer_byte_rate", -1.0), ("odd", 1.0), ("", 1.0), ("connection_creation_rate", 5.0),
                       ("producer_byte_rate", 0.5), ("request_percentage", 0.5), ("controller_mutation_rate", 0.5), ("controller_mutation_rate", 2.5)):
        ask(f"{key} {value}", [("user", side.name("u"))], (key, value, False))
    ask("a key twice", [("user", side.name("u"))], rate, ("producer_byte_rate", 2.0, False))
    ask("no key", [("user", side.name("u"))])
    ask("no entity", [], rate)
    ask("an unknown entity", [("odd", "x")], rate)
    ask("an entity twice", [("user", user), ("user", user)], rate)
    ask("an empty name", [("user", "")], rate)
    ask("an empty client", [("client-id", "")], rate)
    ask("of ip and user", [("ip", "127.0.0.1"), ("user", user)], ("connection_creation_rate", 5.0, False))
    ask("of an ip", [("ip", "127.0.0.9")], ("connection_creation_rate", 5.0, False))
    ask("of an ip, a rate of bytes", [("ip", "127.0.0.9")], rate)
    ask("of an ip, a part", [("ip", "127.0.0.9")], ("connection_creation_rate", 5.5, False))
    ask("removed of the ip", [("ip", "127.0.0.9")], ("connection_creation_rate", 0.0, True))
    ask("removed", [("user", user)], ("producer_byte_rate", 0.0, True))
    ask("removed again", [("user", user)], ("producer_byte_rate", 0.0, True))
    told("what is left", ("user", 0, user))


@case("AlterUserScramCredentials", when=ALONE)
def scram(side: Side) -> None:
    user = side.name("u")
    salt, password = "00" * 16, {1: "01" * 32, 2: "01" * 64}

    def ask(step: str, upsert: tuple = (), delete: tuple = ()) -> None:
        side.call(step, "AlterUserScramCredentials", side.version, {
            "deletions": [{"name": name, "mechanism": kind} for name, kind in delete],
            "upsertions": [{"name": name, "mechanism": kind, "iterations": rounds, "salt": with_salt, "saltedPassword": secret}
                           for name, kind, rounds, with_salt, secret in upsert]})

    def told(step: str, *names: str) -> None:
        side.call(step, "DescribeUserScramCredentials", side.version, {"users": [{"name": name} for name in names]})
    ask("set", ((user, 1, 4096, salt, password[1]), (user, 2, 8192, salt, password[2])))
    told("told", user)
    told("unknown", side.name("none"))
    told("one twice", user, user)
    told("no name", "")
    ask("too few rounds", ((side.name("r"), 1, 4095, salt, password[1]),))
    ask("too many rounds", ((side.name("r"), 1, 16_385, salt, password[1]),))
    ask("no name", (("", 1, 4096, salt, password[1]),))
    ask("an unknown mechanism", ((side.name("r"), 3, 4096, salt, password[1]),))
    ask("mechanism 0", ((side.name("r"), 0, 4096, salt, password[1]),))
    ask("no salt", ((side.name("r"), 1, 4096, "", password[1]),))
    ask("no password", ((side.name("r"), 1, 4096, salt, ""),))
    ask("one twice", ((side.name("r"), 1, 4096, salt, password[1]),) * 2)
    ask("set and deleted at once", ((user, 1, 4096, salt, password[1]),), ((user, 1),))
    ask("set one, deleted another mechanism", ((user, 1, 5000, salt, password[1]),), ((user, 2),))
    told("told again", user)
    ask("deleted", (), ((user, 1),))
    ask("deleted again", (), ((user, 1),))
    ask("deleted of nobody", (), (("", 1),))
    ask("nothing")
    told("at the end", user)


@case("SaslHandshake")
def handshakes(side: Side) -> None:
    for mechanism in ("PLAIN", "SCRAM-SHA-256", "odd", ""):
        side.call(f"mechanism {mechanism!r}", "SaslHandshake", side.version, {"mechanism": mechanism})
