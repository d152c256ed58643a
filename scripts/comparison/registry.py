"""The cases, and how they are run: each on both brokers at once, step by step, many cases beside each other."""
import concurrent.futures
import dataclasses
import threading
import time
import traceback
import typing

from .side import Side

WORKERS = 6
# When a case runs: beside others; alone because it looks at all topics or groups; after these because it changes the broker;
# after all because the broker may be of no use any more.
BESIDE, ALONE, LAST, END = range(4)


@dataclasses.dataclass
class Case:
    name: str
    run: typing.Callable
    api: "str | None"
    versions: "typing.Iterable[int] | None"
    when: int


CASES: list = []


def case(api: "str | None" = None, versions: "typing.Iterable[int] | None" = None, when: int = BESIDE, name: "str | None" = None):
    """A function of a Side that makes calls. With an API it runs at each of its versions (`side.version`), or at those given."""
    def register(run):
        CASES.append(Case(name or run.__name__.replace("_", "-"), run, api, versions, when))
        return run
    return register


@dataclasses.dataclass
class Result:
    """A case at a version: its steps on each broker, and which versions of which APIs it has asked both for."""
    case: str
    version: "int | None"
    steps: dict
    covered: set
    seconds: dict


def instances(advertised: dict) -> list:
    """Each case with each version that it runs at: `advertised` has the versions of both brokers by API."""
    made = []
    for one in CASES:
        versions = [None] if one.api is None else one.versions if one.versions is not None else advertised[one.api]
        made += [(one, version) for version in versions]
    return made


def run_all(nodes: tuple, work: list) -> list:
    """Runs what there is, in order of when it may run."""
    results = []
    for when, workers in ((BESIDE, WORKERS), (ALONE, 1), (LAST, 1), (END, 1)):
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            due = [(one, version) for one, version in work if one.when == when]
            results += pool.map(lambda item: run_case(nodes, *item), due)
    return results


def run_case(nodes: tuple, one: Case, version: "int | None") -> Result:
    name = one.name if version is None else f"{one.name}-v{version}"
    sides = [Side(node, name, version) for node in nodes]
    threads = [threading.Thread(target=run_side, args=(one, side)) for side in sides]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    steps = {side.node.name: side.steps for side in sides}
    return Result(one.name, version, steps, sides[0].covered & sides[1].covered, {side.node.name: side.seconds for side in sides})


def run_side(one: Case, side: Side) -> None:
    began = time.monotonic()
    try:
        one.run(side)
    except Exception as error:  # noqa: BLE001 A case that breaks off on one broker is a difference.
        where = traceback.extract_tb(error.__traceback__)[-1]
        side.steps.append(("the case itself", f"broke off: {error!r} at {where.name}:{where.lineno}", None))
    finally:
        side.close()
        side.seconds = time.monotonic() - began
