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
# Batch size: (against Kafka with fsync, against Kafka without).
BROKER_BARS = {5000: (2.0, 1.0), 100: (8.0, 1.5), 1: (10.0, 2.0)}


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
            return results.median("throughput", "cpu_seconds_per_million", system=system, batch=5000)
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
    clients = ("weir", "franz-go", "rdkafka")
    names = {"weir": "weir", "franz-go": "franz-go", "rdkafka": "librdkafka"}
    rows = [[names[client], *(number(cost(client, system)) for system in ("weir", "kafka"))] for client in clients]
    checks = [bar(f"{names[over]} / {names[under]}, on {SYSTEMS[system]}", ratio(cost(over, system), cost(under, system)), direction, limit)
              for over, under, direction, limit in CONSUMER_BARS for system in ("weir", "kafka")]
    return f"""## Consumer

CPU seconds of the client process per million records read from the beginning of 12 partitions, CRC checked.

{table(["client", "from weir's broker", "from Apache Kafka"], rows)}

{bars(checks)}
"""


def broker(results: Results) -> str:
    rows = [[label, *(number(results.rate(system=system, batch=batch)) for batch in BROKER_BARS)] for system, label in SYSTEMS.items()]
    cpu = [[label, *(number(results.median("throughput", "broker_cpu_seconds_per_million", system=system, batch=batch))
                     for batch in BROKER_BARS)] for system, label in SYSTEMS.items()]
    checks = []
    for batch, limits in BROKER_BARS.items():
        own = results.rate(system="weir", batch=batch)
        for rival, limit in zip(("kafka-flush", "kafka"), limits):
            checks.append(bar(f"weir / {SYSTEMS[rival]}, batches of {batch:,}", own / results.rate(system=rival, batch=batch), "at least", limit))
    own = results.median("throughput", "broker_cpu_seconds_per_million", system="weir", batch=5000)
    checks.append(bar("weir broker, CPU s per million in batches of 5,000", own, "at most", 0.15, " s"))
    head = ["broker", *(f"batches of {batch:,}" for batch in BROKER_BARS)]
    return f"""## Broker

Records per second from the bare probe: one connection, 8 requests in flight, idempotent, acks=all, after a warm-up of a
million records. weir answers when the records are on disk; Kafka does so only with flush.messages=1, and without it
answers from the page cache.

{table(head, rows)}

CPU seconds of the broker process per million records:

{table(head, cpu)}

{bars(checks)}
"""


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
    rows = [[SYSTEMS[system], number(results.median("start", "ready_ms", system=system)), number(results.median("start", "rss_mb", system=system))]
            for system in ("weir", "kafka")]
    checks = [bar("weir broker, ready", results.median("start", "ready_ms", system="weir"), "at most", 50, " ms"),
              bar("weir broker, idle", results.median("start", "rss_mb", system="weir"), "at most", 25, " MB")]
    return f"""## Start and idle

From the start of the process on an empty, formatted directory until it answers a Metadata request; resident memory one
second later. Kafka runs with a heap of 1 GB.

{table(["broker", "ready, ms", "idle, MB"], rows)}

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
