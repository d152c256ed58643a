"""kcat in the scenario of scripts/clients.py. The protocol is in ../driver.py."""
import itertools
import json
import pathlib
import re
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from driver import emit, serve  # noqa: E402

ADDRESS = sys.argv[1]


def kcat(*args: str, text: str = "") -> str:
    run = subprocess.run(["kcat", "-b", ADDRESS, *args], input=text, capture_output=True, text=True, timeout=60)
    if run.returncode:
        raise RuntimeError(f"kcat {' '.join(args)}: {run.stderr[-300:]}")
    return run.stdout


def create(command: dict) -> None:
    # kcat has no such command: asking for a topic makes it, with the broker's num.partitions.
    listed = ""
    for _ in range(50):
        listed = kcat("-L", "-t", command["topic"])
        if f'topic "{command["topic"]}" with {command["partitions"]} partitions' in listed:
            return
    raise RuntimeError(listed)


def runs(command: dict):
    """Flags and standard input of runs of kcat: the headers of a run are those of all its records."""
    for (partition, headers), records in itertools.groupby(command["records"], lambda record: (record[0], record[3])):
        text = "".join(f"{key}\t{value}\n" for _, key, value, _ in records)
        flags = [flag for name, value in headers for flag in ("-H", f"{name}={value}")]
        yield ["-P", "-t", command["topic"], "-p", str(partition), "-K", "\t", *flags], text


def produce(command: dict) -> None:
    for flags, text in runs(command):
        kcat(*flags, "-z", command["codec"], "-X", "enable.idempotence=true", text=text)


def transaction(command: dict) -> None:
    # A run is one transaction, committed at the end of its input. Only a signal aborts one, and by then kcat, which reads
    # its input in large blocks, may not have sent anything.
    for flags, text in runs(command):
        kcat(*flags, "-X", f"transactional.id={command['id']}", text=text)


def consume(command: dict, leaving) -> None:
    options = ["auto.offset.reset=earliest", "auto.commit.interval.ms=50", "heartbeat.interval.ms=500",
               "fetch.wait.max.ms=100", f"client.id={command['client_id']}",
               f"isolation.level={'read_committed' if command['read_committed'] else 'read_uncommitted'}"]
    flags = [flag for option in options for flag in ("-X", option)]
    process = subprocess.Popen(["kcat", "-b", ADDRESS, "-G", command["group"], *flags, "-J", "-u", "-q", command["topic"]],
                               stdout=subprocess.PIPE, text=True)
    stop = threading.Thread(target=lambda: (leaving.wait(), process.terminate()), daemon=True)
    stop.start()
    for line in process.stdout:
        message = json.loads(line)
        headers = message.get("headers", [])
        pairs = [list(pair) for pair in zip(headers[::2], headers[1::2])]
        emit({"record": [message["partition"], message["offset"], message["key"], message["payload"], pairs]})
    if process.wait(30) or not leaving.is_set():
        raise RuntimeError(f"kcat ended with {process.returncode}")


version = subprocess.run(["kcat", "-V"], capture_output=True, text=True).stdout
serve({"client": "kcat " + re.search(r"Version (\S+)", version)[1] + " (librdkafka "
       + re.search(r"librdkafka (\S+)", version)[1] + ")",
       "codecs": ["none", "gzip", "snappy", "lz4", "zstd"], "protocols": ["classic"], "can": ["create", "idempotence", "commit", "read_committed"]},
      {"create": create, "produce": produce, "transaction": transaction, "consume": consume})
