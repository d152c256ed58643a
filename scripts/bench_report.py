"""docs/benchmarks.md from the lines of docs/benchmarks.json.

Pure: `render(lines)` gives the text. Every figure is the median over the rounds; every bar is a ratio
of two medians of the same run, so that it holds on another machine too.
"""
from statistics import median

SYSTEMS = {"weir": "weir broker", "kafka": "Apache Kafka", "kafka-flush": "Apache Kafka, flush.messages=1"}
CLIENTS = {"probe": "bare probe (the limit)", "weir": "weir, `send_batch`", "weir-single": "weir, `send`",
           "franz-go": "franz-go", "rdkafka": "librdkafka"}
PRODUCER_BARS = [("weir", "probe", "at most", 2.0), ("franz-go", "weir", "at least", 5.0), ("rdkafka", "weir", "at least", 8.0)]
CONSUMER_BARS = [("franz-go", "weir", "at least", 2.0), ("rdkafka", "weir", "at least", 6.0)]
# (bytes of a record, records of a batch), acks=all: (against Kafka with fsync, against Kafka without).
BROKER_BARS = {(200, 5000): (2.0, 1.0), (200, 100): (8.0, 1.5), (200, 1): (10.0, 2.0)}
# acks=1, against Kafka.
ACKS_1_BARS = {(200, 5000): 1.2, (200, 100): 2.0, (200, 1): 4.0}
SHAPES = [(200, 5000), (200, 100), (200, 1), (1_000, 1000), (1_000, 100), (1_000, 1), (10_000, 100), (10_000, 1)]
# Where the disk is the limit, this share of a disk probe is wanted; where both cores are busy for more of the time than
# this, they are the limit.
DISK_SHARE_MIN, CPU_BUSY = 0.7, 0.8


class Results:
    def __init__(self, lines: list):
        self.about = next(line for line in lines if line["test"] == "about")
        self.lines = lines

    def median(self, test: str, field: str, **wanted) -> float:
        found = [line[field] for line in self.lines
                 if line["test"] == test and all(line.get(name) == value for name, value in wanted.items())]
        if not found:
            raise SystemExit(f"no runs of {test} with {wanted}")
        return median(found)

    def rate(self, **wanted) -> float:
        found = [line["records"] / line["seconds"] for line in self.lines
                 if line["test"] == "throughput" and all(line.get(name) == value for name, value in wanted.items())]
        return median(found)


def table(head: list, rows: list) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def bar(what: str, value: float, direction: str, limit: float, unit: str = "x") -> list:
    met = value <= limit if direction == "at most" else value >= limit
    return [what, f"{number(value)}{unit}", f"{direction} {number(limit)}{unit}", "met" if met else "**missed**"]


def bars(rows: list) -> str:
    return table(["bar", "measured", "wanted", ""], rows)


def ratio(over: float, under: float) -> float:
    """A short run can take less CPU time than the system's clock shows."""
    return over / under if under else float("inf")


def number(value: float) -> str:
    """Three figures, and thousands separated."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def producer(results: Results) -> str:
    def cost(client: str, system: str) -> float:
        if client == "probe":
            return results.median("throughput", "cpu_seconds_per_million", system=system, acks="all", size=200, batch=5000)
        return results.median("produce", "cpu_seconds_per_million", system=system, client=client)
    rows = [[label, *(number(cost(client, system)) for system in ("weir", "kafka"))] for client, label in CLIENTS.items()]
    checks = [bar(f"{CLIENTS[over]} / {CLIENTS[under]}, on {SYSTEMS[system]}", ratio(cost(over, system), cost(under, system)), direction, limit)
              for over, under, direction, limit in PRODUCER_BARS for system in ("weir", "kafka")]
    return f"""## Producer

CPU seconds of the client process per million records: idempotent, acks=all, making the JSON included. `send` takes one
record per call as the other libraries do; `send_batch` takes 500.

{table(["client", "on weir's broker", "on Apache Kafka"], rows)}

{bars(checks)}
"""


def consumer(results: Results) -> str:
    def cost(client: str, system: str) -> float:
        return results.median("consume", "cpu_seconds_per_million", system=system, client=client)
    names = {"weir": "weir, `poll_each`", "weir-objects": "weir, `poll`", "franz-go": "franz-go", "rdkafka": "librdkafka"}
    clients = tuple(names)
    rows = [[names[client], *(number(cost(client, system)) for system in ("weir", "kafka"))] for client in clients]
    checks = [bar(f"{names[over]} / {names[under]}, on {SYSTEMS[system]}", ratio(cost(over, system), cost(under, system)), direction, limit)
              for over, under, direction, limit in CONSUMER_BARS for system in ("weir", "kafka")]
    return f"""## Consumer

CPU seconds of the client process per million records read from the beginning of 12 partitions, CRC checked. `poll_each` shows
each record where it lies; `poll` makes an object of each, as the other libraries do. The bars are those of `poll_each`.

{table(["client", "from weir's broker", "from Apache Kafka"], rows)}

{bars(checks)}
"""


def shape_name(shape: tuple) -> str:
    size, batch = shape
    return f"{batch:,} x {f'{size} B' if size < 1000 else f'{size // 1000} kB'}"


def broker(results: Results) -> str:
    def rates(acks: str, systems: tuple) -> list:
        return [[shape_name(shape), *(number(results.rate(system=system, acks=acks, size=shape[0], batch=shape[1])) for system in systems)]
                for shape in SHAPES]
    def ratios(shape: tuple, acks: str, rivals: dict) -> list:
        size, batch = shape
        own = results.rate(system="weir", acks=acks, size=size, batch=batch)
        return [bar(f"weir / {SYSTEMS[rival]}, acks={acks}, {shape_name(shape)}",
                    own / results.rate(system=rival, acks=acks, size=size, batch=batch), "at least", limit)
                for rival, limit in rivals.items()]
    checks = []
    for shape, (flushed, plain) in BROKER_BARS.items():
        checks += ratios(shape, "all", {"kafka-flush": flushed, "kafka": plain})
    for shape, limit in ACKS_1_BARS.items():
        checks += ratios(shape, "1", {"kafka": limit})
    own = results.median("throughput", "broker_cpu_seconds_per_million", system="weir", acks="all", size=200, batch=5000)
    checks.append(bar("weir broker, CPU s per million in batches of 5,000", own, "at most", 0.15, " s"))
    def head(systems: tuple) -> list:
        return ["batch", *(SYSTEMS[system] for system in systems)]
    flushed, plain = tuple(SYSTEMS), ("weir", "kafka")
    return f"""## Broker

Records per second from the bare probe: one connection, 8 requests in flight, idempotent, after a warm-up of a million
records in batches of 5,000, 200,000 in batches of 100 and 5,000 one by one. With acks=all weir answers when the records are on disk; Kafka does so only with flush.messages=1, and without it
answers from the page cache.

acks=all:

{table(head(flushed), rates("all", flushed))}

acks=1, where both answer from the page cache:

{table(head(plain), rates("1", plain))}

CPU seconds of the broker process per GB of records, acks=all:

{table(head(flushed), cpu_per_gb(results, flushed))}

{bars(checks)}

### Beside the disk

The disk probe writes the same batches into as many files with the same commits (eight batches each) and does nothing else,
in the better of two ways: a sync of each file, or a journal. Records per second; `busy` is the share of both cores that broker
and load generator used together. Where it is above {CPU_BUSY:.0%} they are the limit, else the disk is.

{beside_the_disk(results)}

### At half load

Milliseconds from the moment a batch of 100 records was due until its answer, acks=all, at half the rate that the same
broker reached in the same round, so each broker at its own rate.

{half_load(results)}
"""


def cpu_per_gb(results: Results, systems: tuple) -> list:
    def cost(system: str, size: int, batch: int) -> float:
        per_million = results.median("throughput", "broker_cpu_seconds_per_million", system=system, acks="all", size=size, batch=batch)
        return per_million * 1e9 / (size * 1e6)
    return [[shape_name(shape), *(number(cost(system, *shape)) for system in systems)] for shape in SHAPES]


def beside_the_disk(results: Results) -> str:
    rows = []
    for shape in SHAPES:
        size, batch = shape
        wanted = {"size": size, "batch": batch}
        disk = max(results.median("disk-log", f"{way}_batches_per_second", **wanted) for way in ("direct", "journal")) * batch
        own = results.rate(system="weir", acks="all", **wanted)
        cpu = sum(results.median("throughput", field, system="weir", acks="all", **wanted)
                  for field in ("broker_cpu_seconds_per_million", "cpu_seconds_per_million"))
        busy = cpu * own / 1e6 / results.about["machine"]["cores"]
        share = own / disk
        verdict = "met" if share >= DISK_SHARE_MIN else "the cores" if busy > CPU_BUSY else "**missed**"
        rows.append([shape_name(shape), number(disk), number(own), f"{share:.2f}x", f"{busy:.0%}", f"at least {DISK_SHARE_MIN}x", verdict])
    return table(["batch", "disk probe", "weir broker", "share", "busy", "wanted", ""], rows)


def half_load(results: Results) -> str:
    rows = [[SYSTEMS[system], number(results.median("half-load", "rate", system=system)),
             *(f"{results.median('half-load', field, system=system):.2f}" for field in ("p50_ms", "p99_ms", "p999_ms"))]
            for system in SYSTEMS]
    return table(["broker", "records/s", "p50", "p99", "p99.9"], rows)


def latency(results: Results) -> str:
    def cells(mode: str, system: str) -> list:
        return [f"{results.median('latency', field, mode=mode, system=system):.2f}" for field in ("p50_ms", "p99_ms")]
    both = [[SYSTEMS[system], *cells("open", system), *cells("one", system)] for system in ("weir", "kafka")]
    own = {(mode, field): results.median("latency", field, mode=mode, system="weir") for mode in ("open", "one") for field in ("p50_ms", "p99_ms")}
    checks = [bar("at 10,000 records/s, p99", own["open", "p99_ms"], "at most", 5.0, " ms"),
              bar("one at a time, p50", own["one", "p50_ms"], "at most", 0.5, " ms"),
              bar("one at a time, p99", own["one", "p99_ms"], "at most", 2.0, " ms")]
    return f"""## Latency, produce to consume

Milliseconds, weir's client at both ends, acks=all. At 10,000 records/s the load is open: a record counts from the moment
it was due. One at a time: the next is sent when the one before was consumed. weir's records are on disk before anyone
reads them; Kafka's are not.

{table(["broker", "10,000/s p50", "p99", "one at a time p50", "p99"], both)}

{bars(checks)}
"""


def idle(results: Results) -> str:
    rows = [[SYSTEMS[system], number(results.median("start", "ready_ms", system=system)), number(results.median("start", "rss_mb", system=system)),
             number(results.median("loaded", "rss_max_mb", system=system))] for system in ("weir", "kafka")]
    checks = [bar("weir broker, ready", results.median("start", "ready_ms", system="weir"), "at most", 50, " ms"),
              bar("weir broker, idle", results.median("start", "rss_mb", system="weir"), "at most", 25, " MB")]
    return f"""## Start and idle

From the start of the process on an empty, formatted directory until it answers a Metadata request; resident memory one
second later, and at its highest over everything above. Kafka runs with a heap of 1 GB.

{table(["broker", "ready, ms", "idle, MB", "at most, MB"], rows)}

{bars(checks)}
"""


def setting(results: Results) -> str:
    about = results.about
    machine, versions = about["machine"], about["versions"]
    small = results.median("disk", "small_write_ms_p50")
    sequential = results.median("disk", "sequential_mb_per_second")
    rows = [["CPU", f"{machine['cpu']}, {machine['cores']} cores"], ["memory", f"{machine['memory_gb']} GB"],
            ["kernel", machine["kernel"]], ["disk", machine["disk"]],
            ["one 4 kB O_DSYNC write, p50", f"{small:.3f} ms"], ["sequential write with fdatasync", f"{sequential:.0f} MB/s"],
            ["weir", versions["weir"]], ["Apache Kafka", f"{versions['kafka']}, {versions['java']}"],
            ["librdkafka", versions["librdkafka"]], ["franz-go", f"{versions['franz-go']}, Go {versions['go']}"], ["rustc", versions["rustc"]]]
    return table(["", ""], rows)


def render(lines: list) -> str:
    results = Results(lines)
    about = results.about
    return f"""# Benchmarks

Measured on {about["date"]} with `{about["command"]}`: {plural(about["rounds"], "round")} in {plural(round(about["seconds"] / 60), "minute")}, the load
generator on the same machine. One system at a time, `sync` before every run, the order of the systems turned in every
round; every figure is the median of the rounds, and any error would have ended the run. Written by
`scripts/bench_report.py` from the runs in [benchmarks.json](benchmarks.json), one per line.

Records are sensor JSON of about 180 bytes under a key of 13, 200 bytes in a batch, from 10,000 devices into 12
partitions, uncompressed. An absolute figure depends on the machine; the bars are ratios within this run.

{setting(results)}

{producer(results)}
{consumer(results)}
{broker(results)}
{latency(results)}
{idle(results)}"""
