"""The list of differences that are meant (differences.toml), held against what was seen, and the table made from it.

An entry has what a reader of docs/compatibility.md wants to know, `request`, `kafka`, `weir`, `why`, and `at`: where it is
seen. Each place has `case` (and may have `version`, `step`, `path`, `kafka`, `weir`), with * for anything. A difference in
no place is a fault, and so is a place with no difference, but for what `sometimes` is so (Kafka's answer hangs on others').
"""
import collections
import dataclasses
import fnmatch
import json
import pathlib
import re
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
LIST = HERE / "differences.toml"
BEGIN, END = "<!-- compare.py: begin -->", "<!-- compare.py: end -->"


@dataclasses.dataclass(frozen=True)
class Difference:
    """One value that the brokers answered differently."""
    case: str
    version: "int | None"
    step: str
    path: str
    kafka: str
    weir: str

    def __str__(self) -> str:
        version = "" if self.version is None else f" v{self.version}"
        return f"{self.case}{version} | {self.step} | {self.path}: kafka {self.kafka}, weir {self.weir}"


def entries() -> list:
    return tomllib.loads(LIST.read_text())["difference"] if LIST.exists() else []


def as_text(value) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def matches(place: dict, seen: Difference) -> bool:
    versions = place.get("version")
    if versions is not None and seen.version not in (versions if isinstance(versions, list) else [versions]):
        return False
    return all(like(place[key], getattr(seen, key)) for key in ("case", "step", "path", "kafka", "weir") if key in place)


def like(pattern, text: str) -> bool:
    """As fnmatch, but [ ] are themselves."""
    if isinstance(pattern, list):
        return any(like(one, text) for one in pattern)
    return fnmatch.fnmatchcase(text, str(pattern).replace("[", "\0").replace("]", "[]]").replace("\0", "[[]"))


def judge(seen: list, ran: "set | None") -> list:
    """What is wrong: differences that are not listed, and places of the list where none is. `ran` has the names of the cases
    that ran if not all did."""
    faults, used = [], collections.Counter()
    places = [(number, place) for number, entry in enumerate(entries()) for place in entry["at"]]
    for one in seen:
        found = [index for index, (_, place) in enumerate(places) if matches(place, one)]
        used.update(found)
        if not found:
            faults.append(str(one))
    for index, (number, place) in enumerate(places):
        if not used[index] and not place.get("sometimes") and (ran is None or any(like(place["case"], name) for name in ran)):
            faults.append(f"listed, but no longer so: {entries()[number]['request']}: {place}")
    return faults


def table() -> str:
    rows = ["| request | Kafka | weir | why |", "|---|---|---|---|"]
    rows += [f"| {e['request']} | {e['kafka']} | {e['weir']} | {e['why']} |" for e in entries()]
    return "\n".join(rows)


def document(page: pathlib.Path, write: bool) -> list:
    """Holds the page's table against the list, or makes it anew."""
    text = page.read_text()
    wanted = f"{BEGIN}\n{table()}\n{END}"
    found = re.search(re.escape(BEGIN) + r".*?" + re.escape(END), text, re.S)
    if not found:
        return [f"{page.name} has no table between {BEGIN} and {END}"]
    if found[0] == wanted:
        return []
    if write:
        page.write_text(text.replace(found[0], wanted))
        return []
    return [f"the table in {page.name} is not that of {LIST.name}: run scripts/compare.py --write-table"]
