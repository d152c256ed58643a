#!/usr/bin/env python3
"""weir's client on three Apache Kafka nodes that are killed, paused, restarted and cut off under it.

    scripts/cluster_faults.py [--rounds 2] [--seed S] [--port 19192] [--rig target/reliability/release/reliability]

Two idempotent producers (acks=all, five requests in flight) and a group of two consumers, all of weir-client, stay alive
throughout; each node is reached through a proxy of this script. A round has, in an order of chance:

    kill         kill -9 of the node that leads partition 0, and a start on the data it has
    pause        SIGSTOP of a leader for longer than its session with the controller, then SIGCONT: its connections stay
    coordinator  the node that coordinates the group is stopped in order, and comes back
    rolling      one node after the other is stopped in order, and comes back
    cut          every connection to a node ends after requests went in and before their answers came out, five times
    partitions   the topic gets more partitions

After each the load must go on and all replicas be in sync before the next. In the end everything is read, and the checker
of reliability/ judges what was seen: no acknowledged record lost, none twice, in order for each key, nothing skipped by
the group, every send acknowledged. Prints one JSON line. Exit code: 0 good, 1 a promise was broken.
"""
import argparse
import json
import os
import pathlib
import random
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

from weirtest import ROOT, use_venv

use_venv()
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # noqa: E402

from reliability import Client, Failed, build_rig, commit, faults_of, tail  # noqa: E402

TOPIC, PARTITIONS, GROUP = "cluster", 6, "rust"
NODES = (1, 2, 3)
KINDS = ("kill", "pause", "coordinator", "rolling", "cut", "partitions")
# Longer than broker.session.timeout.ms, so that others lead meanwhile.
PAUSE_SECONDS = 10
DOWN_SECONDS = 4
RESUME_SECONDS_MAX = 60
HEALTHY_SECONDS_MAX = 120
CUTS = 5
# What a node has got before the cut it works on, and nobody hears of it.
CUT_AFTER_SECONDS = 0.05
CHUNK_BYTES = 1 << 16


class Proxy:
    """Stands between clients and one node."""

    def __init__(self, port: int, to: int):
        self.to, self.deaf = to, threading.Event()
        self.pairs: set = set()
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", port), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            node = socket.create_connection(("127.0.0.1", self.to), 5)
        except OSError:
            client.close()
            return
        pair = (client, node)
        for end in pair:
            # Before anybody waits: a dead node is told to its clients at once.
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.lock:
            self.pairs.add(pair)
        try:
            self._pump(client, node)
        except OSError:
            pass
        finally:
            with self.lock:
                self.pairs.discard(pair)
            for end in pair:
                end.close()

    def _pump(self, client: socket.socket, node: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, node)
            selector.register(node, selectors.EVENT_READ, client)
            while True:
                for key, _ in selector.select():
                    chunk = key.fileobj.recv(CHUNK_BYTES)
                    if not chunk:
                        return
                    if key.fileobj is client or not self.deaf.is_set():
                        key.data.sendall(chunk)

    def cut(self) -> int:
        """Ends all connections; what the node answers in the last moments is lost. Returns how many there were."""
        self.deaf.set()
        time.sleep(CUT_AFTER_SECONDS)
        with self.lock:
            pairs = list(self.pairs)
        for pair in pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.deaf.clear()
        return len(pairs)


class Cluster:
    """Three nodes of scripts/kafka.sh behind proxies."""

    def __init__(self, port: int):
        self.port = port
        self.tool("start", str(port))
        self.proxies = {node: Proxy(self.port_of(node) + 3, self.port_of(node)) for node in NODES}
        self.brokers = ",".join(f"127.0.0.1:{self.port_of(node) + 3}" for node in NODES)
        # By the proxies too: the addresses that nodes tell are those.
        self.admin = AdminClient({"bootstrap.servers": self.brokers, "log_level": 2})

    def tool(self, *arguments: str) -> str:
        done = subprocess.run([str(ROOT / "scripts/kafka.sh"), "cluster", *arguments], capture_output=True, text=True,
                              env={**os.environ, "KAFKA_PROXIED": "1"})
        if done.returncode != 0:
            raise Failed(f"kafka.sh cluster {arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def port_of(self, node: int) -> int:
        return self.port + 10 * (node - 1)

    def signal(self, node: int, name: str) -> None:
        self.tool("signal", str(self.port), str(node), name)

    def restart(self, node: int) -> None:
        self.tool("restart", str(self.port), str(node))

    def stop_in_order(self, node: int) -> None:
        pid = int((ROOT / ".cache/kafka" / f"node-{self.port_of(node)}" / "pid").read_text())
        self.signal(node, "TERM")
        deadline = time.monotonic() + HEALTHY_SECONDS_MAX
        while pathlib.Path(f"/proc/{pid}/cmdline").exists():
            if time.monotonic() > deadline:
                raise Failed(f"node {node} does not stop")
            time.sleep(0.05)

    def leader(self, partition: int) -> int:
        return self.admin.list_topics(TOPIC, timeout=20).topics[TOPIC].partitions[partition].leader

    def coordinator(self) -> int:
        return self.admin.describe_consumer_groups([GROUP])[GROUP].result(20).coordinator.id

    def wait_until_healthy(self) -> None:
        """Until every replica of every partition is in sync."""
        deadline = time.monotonic() + HEALTHY_SECONDS_MAX
        while True:
            try:
                topics = self.admin.list_topics(timeout=5).topics.values()
                lag = [len(p.isrs) for topic in topics for p in topic.partitions.values() if len(p.isrs) < len(NODES)]
                if not lag:
                    return
            except Exception:  # noqa: BLE001 - asked again.
                pass
            if time.monotonic() > deadline:
                raise Failed("the nodes do not get in sync again")
            time.sleep(0.2)

    def close(self) -> None:
        self.tool("stop", str(self.port))


class Run:
    """One run."""

    def __init__(self, args: argparse.Namespace, directory: pathlib.Path):
        self.args, self.directory = args, directory
        self.random = random.Random(args.seed)
        self.partition_count = PARTITIONS
        self.resume_ms: dict[str, list[int]] = {kind: [] for kind in KINDS}
        self.client = None
        self.cluster = Cluster(args.port)

    def history(self, name: str) -> str:
        return str(self.directory / f"{name}.ndjson")

    def start_load(self) -> None:
        topic = NewTopic(TOPIC, PARTITIONS, len(NODES))
        self.cluster.admin.create_topics([topic])[TOPIC].result(30)
        self.cluster.wait_until_healthy()
        command = [self.args.rig, "load", "--brokers", self.cluster.brokers, "--topic", TOPIC, "--partitions",
                   str(PARTITIONS), "--name", GROUP, "--history", self.history(GROUP), "--rate", str(self.args.rate)]
        self.client = Client(GROUP, command, self.directory / "load.log")

    def wait_for(self, figure: str) -> float:
        """Until the load has got on in this; seconds."""
        before, began = self.client.figures.get(figure, 0), time.monotonic()
        while self.client.figures.get(figure, 0) <= before:
            self.client.check_alive()
            if time.monotonic() - began > RESUME_SECONDS_MAX:
                raise Failed(f"no {figure} for {RESUME_SECONDS_MAX} s: {tail(self.client.log)}")
            time.sleep(0.005)
        return time.monotonic() - began

    def kill(self) -> None:
        node = self.cluster.leader(0)
        self.cluster.signal(node, "KILL")
        self.down(node)

    def pause(self) -> None:
        node = self.cluster.leader(self.random.randrange(PARTITIONS))
        self.cluster.signal(node, "STOP")
        time.sleep(PAUSE_SECONDS)
        self.cluster.signal(node, "CONT")

    def coordinator(self) -> None:
        node = self.cluster.coordinator()
        self.cluster.stop_in_order(node)
        self.down(node)

    def rolling(self) -> None:
        for node in NODES:
            self.cluster.stop_in_order(node)
            self.cluster.restart(node)
            self.cluster.wait_until_healthy()

    def cut(self) -> None:
        for _ in range(CUTS):
            node = self.cluster.leader(self.random.randrange(PARTITIONS))
            if self.cluster.proxies[node].cut() == 0:
                raise Failed(f"there was no connection to cut to node {node}, which leads a partition")
            self.wait_for("acked")

    def partitions(self) -> None:
        self.partition_count += 2
        self.cluster.admin.create_partitions([NewPartitions(TOPIC, self.partition_count)])[TOPIC].result(30)

    def down(self, node: int) -> None:
        """The load goes on while the node is away."""
        time.sleep(DOWN_SECONDS)
        self.wait_for("acked")
        self.cluster.restart(node)

    def fault(self, kind: str) -> None:
        began = time.monotonic()
        getattr(self, kind)()
        self.resume_ms[kind].append(round(1000 * self.wait_for("acked")))
        self.cluster.wait_until_healthy()
        self.wait_for("polled")
        self.wait_for("commits")
        print(f"    {kind}: {time.monotonic() - began:.0f} s, {self.client.acked()} acknowledged", file=sys.stderr,
              flush=True)

    def run(self) -> dict:
        self.start_load()
        for figure in ("acked", "polled", "commits"):
            self.wait_for(figure)
        began = time.monotonic()
        for _ in range(self.args.rounds):
            for kind in self.random.sample(KINDS, len(KINDS)):
                self.fault(kind)
        seconds = time.monotonic() - began
        self.client.tell("stop")
        self.client.hear("settled", 150)
        self.client.tell("finish")
        drained = {GROUP: self.client.hear("drained", 150)}
        return {"seed": self.args.seed, "commit": self.args.commit, "fsync": "on", "rounds": self.args.rounds,
                "seconds": round(seconds, 1), "resume_ms": self.resume_ms, "drained": drained, **self.verdict()}

    def verdict(self) -> dict:
        rig = self.args.rig
        subprocess.run([rig, "read", "--brokers", self.cluster.brokers, "--topic", TOPIC, "--partitions",
                        str(PARTITIONS), "--groups", GROUP, "--history", self.history("final")], check=True)
        checked = subprocess.run([rig, "check", self.history(GROUP), self.history("final")], capture_output=True,
                                 text=True)
        if checked.returncode not in (0, 1):
            raise Failed(f"the checker failed: {checked.stderr}")
        verdict = json.loads(checked.stdout)
        return {**verdict.pop("figures"), **verdict}

    def close(self) -> None:
        if self.client:
            self.client.kill()
        self.cluster.close()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--port", type=int, default=19192)
    parser.add_argument("--rate", type=int, default=500, help="records per second of each of the two producers")
    parser.add_argument("--rig", help="the program of reliability/; it is built if this is not given")
    parser.add_argument("--commit", default=commit(), help="what the client was built from, for the result")
    args = parser.parse_args()
    args.rig = args.rig or build_rig()
    return args


def main() -> None:
    args = arguments()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="weir-cluster-"))
    print(f"    seed {args.seed}, in {directory}", file=sys.stderr, flush=True)
    run, wrong = None, ["it did not end"]
    try:
        run = Run(args, directory)
        result = run.run()
        wrong = faults_of(result)
        examples = result.pop("examples")
        print(json.dumps(result))
        for line in examples if wrong else []:
            print(f"    {line}", file=sys.stderr)
    except Failed as error:
        wrong = [str(error)]
    finally:
        if run:
            run.close()
        if not wrong:
            shutil.rmtree(directory, ignore_errors=True)
    for fault in wrong:
        print(f"FAILED: {fault} (seed {args.seed}, histories in {directory})", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
