"""What both advertise, and whether all of it was compared."""
from ..registry import case
from ..side import Side


def advertised(nodes: tuple) -> dict:
    """The versions of each API that both brokers advertise, lowest first."""
    ranges = []
    for node in nodes:
        answer = Side(node, "versions", None).ask("ApiVersions", 3, {"clientSoftwareName": "compare", "clientSoftwareVersion": "1"})
        ranges.append({key["apiKey"]: range(key["minVersion"], key["maxVersion"] + 1) for key in answer["apiKeys"]})
    names = {key: name for name, key in nodes[0].codec.apis.items()}
    kafka, weir = ranges
    return {names[key]: [v for v in weir[key] if v in kafka[key]] for key in weir if key in kafka}


def not_covered(versions: dict, results: list) -> list:
    """APIs and versions that weir advertises, and no case has asked both brokers for."""
    covered = set().union(*(result.covered for result in results))
    return [f"no case asks for {api} {version}" for api in versions for version in versions[api] if (api, version) not in covered]


@case("ApiVersions")
def api_versions(side: Side) -> None:
    good = {"clientSoftwareName": "compare", "clientSoftwareVersion": "1.0"}
    side.call("good", "ApiVersions", side.version, good)
    side.call("again on the same connection", "ApiVersions", side.version, good)
    for name in ("", "-a", "a b", "a_", "a" * 300, "\u00e9", ".", "9"):
        side.call(f"software name {name[:5]!r}", "ApiVersions", side.version, {**good, "clientSoftwareName": name})
        side.call(f"software version {name[:5]!r}", "ApiVersions", side.version, {**good, "clientSoftwareVersion": name})
