#!/usr/bin/env python3
"""Kills and power cuts under acks=all load, and a checker of what two client families saw.

    scripts/reliability.py --kills 50 --power-cuts 50 [--seed S] [--weir target/release/weir] [--json FILE]
    scripts/reliability.py --power-cuts 5 --fsync off        the control: it must lose something

One broker, whose segments are rolled every second, serves idempotent producers and groups of consumers of weir-client and of librdkafka, which stay alive
throughout, while members of their groups come and go. At random moments, also while it starts and recovers, it is
ended with kill -9, or loses its power, or, one time in eleven, is stopped as it should be:

    SIGSTOP, FS_IOC_SHUTDOWN (no log flush) on the ext4 image that holds its data, kill -9, umount, mount (the
    journal is replayed), e2fsck finds it clean, and the broker starts again.

At the end every partition is read, and reliability/src/checker.rs judges the histories. What the file system was not
told to sync is really gone after such a cut: with --fsync off (durability: relaxed) records must be lost, else this
rig proves nothing, and fails. The disk below is not cut: this is about the file system's level, not the hardware's.

Power cuts need root and a loop device. Prints one JSON line. Exit code: 0 good; 1 a promise was broken, or the
control lost nothing; 77 no power cut can be made here.
"""
import argparse
import fcntl
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

from weirtest import ROOT, free_server_port, serves, use_venv

use_venv()
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

TOPIC, PARTITIONS = "reliability", 8
GROUPS = ("rust", "python")
# A third family, whose producers are transactional and whose consumers read what is committed.
TRANSACTIONS, TRANSACTIONS_PARTITIONS = "transactions", 4
CANNOT_CUT = 77
# _IOR('X', 125, __u32), and the flag that loses what the file system's journal has not written.
FS_IOC_SHUTDOWN, NOLOGFLUSH = 0x8004587D, 2
READY_SECONDS_MAX = 30
# A probe that waits longer would itself be what makes a start look slow.
PROBE_SECONDS_MAX = 0.25
RESUME_SECONDS_MAX = 30
STOP_SECONDS_MAX = 10
SLOW_SECONDS = 1.0
# A member that is gone is waited for until its session ends, and that begins anew with each start of the broker: so
# after so many faults there is none until both groups get on.
LULL_AFTER = 25
# Topics that are there at once beside the one under load.
TOPICS_MAX = 20
# Topics that are deleted and made again at once, over and over, each by a thread of its own.
REMADE_TOPICS = 3
# Under load the next fault comes within this after both families were answered again.
LOAD_SECONDS_MAX = 0.6
START_SECONDS_MAX = 0.05


class Failed(Exception):
    """The run cannot go on, or its verdict is bad."""


class Image:
    """An ext4 file system in a file, whose power can be cut."""

    def __init__(self, directory: pathlib.Path, megabytes: int):
        self.image, self.mountpoint = directory / "disk.img", directory / "disk"
        self.mountpoint.mkdir()
        with self.image.open("wb") as file:
            file.truncate(megabytes << 20)
        self.device = None
        try:
            run("mkfs.ext4", "-q", "-F", str(self.image))
            self.device = run("losetup", "--find", "--show", str(self.image)).strip()
            self.mount()
        except (OSError, subprocess.CalledProcessError) as error:
            self.close()
            why = getattr(error, "stderr", None) or error
            print(f"SKIPPED: no power cut can be made here, as that needs root, mkfs.ext4 and a loop device: {why}",
                  file=sys.stderr)
            sys.exit(CANNOT_CUT)

    def mount(self) -> None:
        run("mount", "-t", "ext4", self.device, str(self.mountpoint))

    def unmount(self) -> None:
        run("umount", str(self.mountpoint))

    def shut_down(self) -> None:
        """From now on nothing reaches the disk, and what was not synced is lost."""
        directory = os.open(self.mountpoint, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(directory, FS_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(directory)

    def power_up(self) -> None:
        self.unmount()
        self.mount()
        self.unmount()
        checked = subprocess.run(["e2fsck", "-f", "-n", self.device], capture_output=True, text=True)
        if checked.returncode != 0:
            raise Failed(f"e2fsck after a power cut: {checked.stdout}{checked.stderr}")
        self.mount()

    def close(self) -> None:
        subprocess.run(["umount", str(self.mountpoint)], capture_output=True)
        if self.device:
            subprocess.run(["losetup", "-d", self.device], capture_output=True)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Broker:
    """A `weir broker` that is started again and again on one port and directory."""

    def __init__(self, binary: str, directory: pathlib.Path, data: pathlib.Path, config: str):
        self.port, self.log, self.data = free_server_port(), directory / "broker.log", data
        self.address = f"127.0.0.1:{self.port}"
        self.config = directory / "weir.yaml"
        self.config.write_text(config)
        self.command = [binary, "broker", "--config", str(self.config), "--data-dir", str(data),
                        "--kafka-port", str(self.port)]
        self.process, self.started, self.was_ready = None, 0.0, False

    def start(self) -> None:
        environment = {**os.environ, "LC_ALL": "C", "LANG": "C", "RUST_BACKTRACE": "1"}
        with self.log.open("ab") as log:
            log.write(f"--- start at {time.time():.3f}\n".encode())
            self.started, self.was_ready = time.monotonic(), False
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=environment)

    def wait_until_ready(self) -> float:
        """Returns the seconds from start to the first answer."""
        while not serves(self.address, PROBE_SECONDS_MAX):
            self.check_alive()
            if time.monotonic() - self.started > READY_SECONDS_MAX:
                raise Failed(f"the broker does not serve within {READY_SECONDS_MAX} s: {tail(self.log)}")
            time.sleep(0.001)
        seconds, self.was_ready = time.monotonic() - self.started, True
        if seconds > SLOW_SECONDS:
            print(f"    slow: {seconds:.2f} s from start to the first answer: {tail(self.log)}", file=sys.stderr)
        return seconds

    def check_alive(self) -> None:
        if self.process.poll() is not None:
            raise Failed(f"the broker ended by itself with {self.process.returncode}: {tail(self.log)}")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        """Takes its processor away, as a power cut does; system calls under way go on, and return to nobody.

        Otherwise it would outlive the cut by a moment, and say yes in it: an fdatasync that runs while the file system
        is shut down may succeed without its bytes being there (Linux 6.18: in 13 of 150 cuts under four writers that
        knew nothing of weir; in none of 150 with the writers stopped first).
        """
        self.process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + READY_SECONDS_MAX
        # D: inside a system call, on whose way out the thread stops.
        while not all(state in "TDZX" for state in self.thread_states()):
            if time.monotonic() > deadline:
                raise Failed("the broker cannot be stopped for a power cut")

    def thread_states(self) -> list[str]:
        states = []
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                states.append((task / "stat").read_text().rsplit(")", 1)[1].split()[0])
            except FileNotFoundError:
                pass  # It ended meanwhile.
        return states

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise Failed(f"the broker does not stop within {STOP_SECONDS_MAX} s: {tail(self.log)}") from None


class Client:
    """A load client: told to stop and finish on its standard input, heard on its standard output."""

    def __init__(self, name: str, command: list[str], log: pathlib.Path):
        self.name, self.log = name, log
        self.figures: dict = {}
        self.said: dict = {}
        with log.open("wb") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                                            text=True)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            said = json.loads(line)
            if "acked" in said:
                self.figures = said
            else:
                self.said.update(said)

    def acked(self) -> int:
        return self.figures.get("acked", 0)

    def check_alive(self) -> None:
        if self.process.poll() is not None:
            raise Failed(f"the {self.name} client ended with {self.process.returncode}: {tail(self.log)}")

    def tell(self, word: str) -> None:
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def hear(self, what: str, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while what not in self.said:
            if time.monotonic() > deadline:
                raise Failed(f"the {self.name} client is not {what} within {seconds} s: {tail(self.log)}")
            if what != "drained":
                self.check_alive()
            time.sleep(0.01)
        return self.said[what]

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class TopicChurn:
    """Creates topics and deletes some of them again, for as long as the broker lives and dies."""

    def __init__(self, address: str, seed: int):
        self.admin = AdminClient({"bootstrap.servers": address, "log_level": 2, "reconnect.backoff.ms": 5,
                                  "reconnect.backoff.max.ms": 50})
        self.random, self.stopping = random.Random(seed), threading.Event()
        # What is neither in `there` nor in `gone` was asked for and not answered: it may be either.
        self.there: set[str] = set()
        self.gone: set[str] = set()
        self.thread = threading.Thread(target=self._churn, daemon=True)
        self.thread.start()

    def _churn(self) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            name = f"churn-{number}"
            if self._ask(self.admin.create_topics([NewTopic(name, 2, 1)], request_timeout=5)[name]):
                self.there.add(name)
            if len(self.there) > TOPICS_MAX:
                victim = self.random.choice(sorted(self.there))
                self.there.discard(victim)
                if self._ask(self.admin.delete_topics([victim], request_timeout=5)[victim]):
                    self.gone.add(victim)
            self.stopping.wait(0.02)

    def _ask(self, future) -> bool:
        try:
            future.result(10)
            return True
        except Exception:  # noqa: BLE001 - refused, or unanswered: then it may be either.
            return False

    def wrong(self) -> dict[str, int]:
        """Topics that are not as was answered, by how."""
        self.stopping.set()
        self.thread.join(30)
        known = {name for name, topic in self.admin.list_topics(timeout=10).topics.items() if len(topic.partitions) > 0}
        found = {"lost-topic": len(self.there - known), "undead-topic": len(self.gone & known)}
        return {name: count for name, count in found.items() if count}


class RemadeTopic:
    """Deletes a topic and makes it again at once, with an offset committed in each life: none may be there in the next.

    Each step is asked for until it is answered, whatever happens to the broker meanwhile; so at each question it is known
    which life it is.
    """

    NONE = -1001

    def __init__(self, address: str, number: int):
        config = {"bootstrap.servers": address, "log_level": 2, "reconnect.backoff.ms": 5, "reconnect.backoff.max.ms": 50}
        self.admin = AdminClient(config)
        # Not by the admin client: librdkafka 2.x aborts if the broker goes while that looks for a coordinator.
        self.group = Consumer(config | {"group.id": f"again-group-{number}", "enable.auto.commit": False})
        self.name = f"again-{number}"
        self.lives, self.inherited, self.lost = 0, [], []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._live, daemon=True)
        self.thread.start()

    def _live(self) -> None:
        while self._until(lambda: self._create(), KafkaError.TOPIC_ALREADY_EXISTS):
            self.lives += 1
            if self._until(lambda: self._look(self.NONE, self.inherited)):
                # Another value in each life, so that what is found tells whose it is.
                self._until(lambda: self.group.commit(offsets=[self._place(self.lives)], asynchronous=False))
            if self._until(lambda: self._look(self.lives, self.lost)):
                self._until(lambda: self._delete(), KafkaError.UNKNOWN_TOPIC_OR_PART)

    def _place(self, offset: int = 0) -> TopicPartition:
        return TopicPartition(self.name, 0, offset)

    def _create(self) -> None:
        self.admin.create_topics([NewTopic(self.name, 1, 1)], request_timeout=10)[self.name].result(15)

    def _delete(self) -> None:
        self.admin.delete_topics([self.name], request_timeout=10)[self.name].result(15)

    def _look(self, wanted: int, wrong: list) -> None:
        """Compares the committed offset with the one that must be there."""
        found = self.group.committed([self._place()], timeout=10)[0]
        if found.error:
            raise KafkaException(found.error)
        if found.offset != wanted:
            wrong.append((self.lives, found.offset))

    def _until(self, ask, also: "int | None" = None) -> bool:
        """Asks until the answer is yes, or the error that says that it was yes before. False: it is time to stop."""
        while not self.stopping.is_set():
            try:
                ask()
                return True
            except KafkaException as error:
                if also is not None and error.args[0].code() == also:
                    return True
            except Exception:  # noqa: BLE001 - unanswered.
                pass
            self.stopping.wait(0.005)
        return False

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(30)


def tail(log: pathlib.Path) -> str:
    return "\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:])


class Rig:
    """One run."""

    def __init__(self, args: argparse.Namespace, directory: pathlib.Path):
        self.args, self.directory = args, directory
        self.random = random.Random(args.seed)
        self.image = Image(directory, args.image_mb) if args.power_cuts else None
        data = (self.image.mountpoint if self.image else directory) / "data"
        self.broker = Broker(args.weir, directory, data, "{}\n")
        self.clients: list[Client] = []
        self.ready_ms: list[float] = []
        self.moments = {"load": 0, "start": 0, "recovery": 0}
        self.stops = (args.kills + args.power_cuts) // 10
        self.restarts = (directory / "rig.ndjson").open("w")

    def history(self, name: str) -> str:
        return str(self.directory / f"{name}.ndjson")

    def start_clients(self) -> None:
        address, rate = self.broker.address, str(self.args.rate)
        admin = AdminClient({"bootstrap.servers": address})
        # Segments are rolled every second, so that cuts come in the middle of that too.
        topic = NewTopic(TOPIC, PARTITIONS, 1, config={"segment.bytes": "1048576", "segment.ms": "1000"})
        admin.create_topics([topic])[TOPIC].result(30)
        rust = [self.args.rig, "load", "--brokers", address, "--topic", TOPIC, "--partitions", str(PARTITIONS),
                "--name", "rust", "--history", self.history("rust"), "--rate", rate]
        def python(script: str, name: str, topic: str, partitions: int) -> list:
            return [sys.executable, str(ROOT / "scripts" / script), address, topic, str(partitions), name, self.history(name), rate]
        commands = {"rust": rust, "python": python("reliability_client.py", "python", TOPIC, PARTITIONS)}
        if self.has_transactions():
            topic = NewTopic(TRANSACTIONS, TRANSACTIONS_PARTITIONS, 1, config={"segment.bytes": "1048576", "segment.ms": "1000"})
            admin.create_topics([topic])[TRANSACTIONS].result(30)
            commands[TRANSACTIONS] = python("reliability_transactions.py", TRANSACTIONS, TRANSACTIONS, TRANSACTIONS_PARTITIONS)
        self.topics = TopicChurn(address, self.args.seed)
        self.remade = [RemadeTopic(address, number) for number in range(REMADE_TOPICS)]
        for name, command in commands.items():
            self.clients.append(Client(name, command, self.directory / f"{name}.log"))

    def has_transactions(self) -> bool:
        """The control is about records: transactions that lose some do not get over it."""
        return self.args.fsync == "on"

    def wait_for_acks(self) -> None:
        """Until both families were answered by the broker that runs now."""
        before = [client.acked() for client in self.clients]
        deadline = time.monotonic() + RESUME_SECONDS_MAX
        while not all(client.acked() > acked for client, acked in zip(self.clients, before)):
            for client in self.clients:
                client.check_alive()
            self.broker.check_alive()
            if time.monotonic() > deadline:
                silent = [c.name for c, acked in zip(self.clients, before) if c.acked() <= acked]
                raise Failed(f"no record of {silent} was acknowledged for {RESUME_SECONDS_MAX} s: "
                             + "".join(tail(client.log) for client in self.clients) + tail(self.broker.log))
            time.sleep(0.005)

    def wait_until_ready(self) -> None:
        """Notes how long the start took, once."""
        if not self.broker.was_ready:
            self.ready_ms.append(1000 * self.broker.wait_until_ready())

    def wait_for_groups(self) -> None:
        """Until both groups have committed something again."""
        before = [client.figures["commits"] for client in self.clients]
        deadline = time.monotonic() + RESUME_SECONDS_MAX
        while not all(client.figures["commits"] > commits for client, commits in zip(self.clients, before)):
            self.broker.check_alive()
            for client in self.clients:
                client.check_alive()
            if time.monotonic() > deadline:
                stuck = [c.name for c, commits in zip(self.clients, before) if c.figures["commits"] <= commits]
                raise Failed(f"the groups {stuck} commit nothing for {RESUME_SECONDS_MAX} s")
            time.sleep(0.01)

    def wait_for_moment(self) -> None:
        """Until the moment of the next fault."""
        # The control is about what load loses.
        weights = [70, 15, 15] if self.args.fsync == "on" else [100, 0, 0]
        moment = self.random.choices(["load", "start", "recovery"], weights)[0]
        self.moments[moment] += 1
        if moment == "load":
            self.wait_until_ready()
            self.wait_for_acks()
            time.sleep(self.random.uniform(0, LOAD_SECONDS_MAX))
            return
        usual = percentile(self.ready_ms, 50) / 1000 if self.ready_ms else START_SECONDS_MAX
        after = self.random.uniform(0, START_SECONDS_MAX if moment == "start" else usual)
        time.sleep(max(0.0, self.broker.started + after - time.monotonic()))

    def start(self) -> None:
        """With a commit journal that goes round within a second, or one that does not in the life of a broker here."""
        durability = "strict" if self.args.fsync == "on" else "relaxed"
        journal = self.random.choice(["1MiB", "64MiB"])
        self.broker.config.write_text(f"broker:\n  durability: {durability}\n  journal_bytes_max: {journal}\n")
        self.broker.start()

    def fault(self, kind: str) -> None:
        self.wait_for_moment()
        self.broker.check_alive()
        if kind == "cut":
            self.broker.freeze()
            self.image.shut_down()
        if kind == "stop":
            self.broker.stop()
        else:
            self.broker.kill()
        if kind == "cut":
            self.image.power_up()
        self.restarts.write(json.dumps({"op": "restart", "kind": kind}) + "\n")
        self.start()

    def run(self) -> dict:
        faults = ["kill"] * self.args.kills + ["cut"] * self.args.power_cuts
        # What a clean stop leaves must not be believed after the next cut.
        faults += ["stop"] * self.stops
        self.random.shuffle(faults)
        self.start()
        self.broker.wait_until_ready()
        self.start_clients()
        self.wait_for_acks()
        began = time.monotonic()
        for number, kind in enumerate(faults, 1):
            self.fault(kind)
            if number % LULL_AFTER == 0:
                self.wait_until_ready()
                self.wait_for_groups()
            if number % 10 == 0:
                print(f"    {number} of {len(faults)}, {time.monotonic() - began:.0f} s, "
                      f"{sum(client.acked() for client in self.clients)} acknowledged", file=sys.stderr, flush=True)
        self.wait_until_ready()
        self.wait_for_acks()
        seconds = time.monotonic() - began
        self.restarts.close()
        drained = self.settle()
        verdict = self.check()
        verdict["anomalies"] |= self.topics.wrong()
        self.judge_remade(verdict)
        return self.result(seconds, drained, verdict)

    def judge_remade(self, verdict: dict) -> None:
        for topic in self.remade:
            topic.stop()
            for name, found in [("inherited-offset", topic.inherited), ("lost-commit", topic.lost)]:
                if found:
                    verdict["anomalies"][name] = verdict["anomalies"].get(name, 0) + len(found)
                    verdict["examples"].append(f"{name}: {topic.name}, (life, offset found): {found[:5]}")

    def settle(self) -> dict[str, bool]:
        # The control breaks the clients' world; whether they get over it is not its question.
        patience = 150 if self.args.fsync == "on" else 20
        drained = {}
        for word, what in [("stop", "settled"), ("finish", "drained")]:
            for client in self.clients:
                client.tell(word)
            for client in self.clients:
                drained[client.name] = client.hear(what, patience)
        return drained

    def check(self) -> dict:
        run(self.args.rig, "read", "--brokers", self.broker.address, "--topic", TOPIC, "--partitions", str(PARTITIONS),
            "--groups", ",".join(GROUPS), "--history", self.history("final"))
        verdict = self.checked(*GROUPS, "rig", "final")
        if self.has_transactions():
            transactions = self.checked(TRANSACTIONS, "rig")
            verdict["transactions"] = transactions["figures"]
            for name, count in transactions["anomalies"].items():
                verdict["anomalies"][name] = verdict["anomalies"].get(name, 0) + count
            verdict["incomplete"] += transactions["incomplete"]
            verdict["examples"] += transactions["examples"]
        return verdict

    def checked(self, *names: str) -> dict:
        checked = subprocess.run([self.args.rig, "check", *map(self.history, names)], capture_output=True, text=True)
        if checked.returncode not in (0, 1):
            raise Failed(f"the checker failed: {checked.stderr}")
        return json.loads(checked.stdout)

    def result(self, seconds: float, drained: dict, verdict: dict) -> dict:
        count = verdict["anomalies"].get
        return {
            "seed": self.args.seed, "commit": self.args.commit, "fsync": self.args.fsync,
            "kills": self.args.kills, "power_cuts": self.args.power_cuts, "stops": self.stops, "moments": self.moments,
            "seconds": round(seconds, 1), "file_system": "ext4" if self.image else file_system(self.directory),
            **verdict["figures"], "transactions": verdict.get("transactions"), "topics_created": len(self.topics.there | self.topics.gone),
            "topics_deleted": len(self.topics.gone), "topics_made_again": sum(topic.lives for topic in self.remade),
            "lost": count("lost-write", 0) + count("unseen", 0), "anomalies": verdict["anomalies"],
            "incomplete": verdict["incomplete"], "drained": drained,
            "ready_ms_p50": round(percentile(self.ready_ms, 50), 1), "ready_ms_max": round(max(self.ready_ms), 1),
            "examples": verdict["examples"],
        }

    def close(self) -> None:
        for client in self.clients:
            client.kill()
        if self.broker.process and self.broker.process.poll() is None:
            self.broker.process.kill()
            self.broker.process.wait()
        if self.image:
            self.image.close()


def percentile(values: list[float], percent: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


def commit() -> str:
    told = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    return told.stdout.strip() or "unknown"


def file_system(directory: pathlib.Path) -> str:
    return run("stat", "-f", "-c", "%T", str(directory)).strip()


def faults_of(result: dict) -> list[str]:
    """What is wrong with a run."""
    if result["fsync"] == "off":
        if result["lost"] == 0:
            return ["with fsync off nothing acknowledged was lost: this rig proves nothing"]
        return []
    wrong = [f"{count} x {name}" for name, count in result["anomalies"].items()] + result["incomplete"]
    if result["unknown"] or result["failed"]:
        wrong.append(f"{result['unknown'] + result['failed']} sends were not acknowledged in the end")
    wrong += [f"the {name} group has not read to the end" for name, drained in result["drained"].items() if not drained]
    return wrong


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weir", default=str(ROOT / "target/release/weir"))
    parser.add_argument("--rig", help="the program of reliability/; it is built if this is not given")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--power-cuts", type=int, default=0)
    parser.add_argument("--fsync", choices=["on", "off"], default="on")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--rate", type=int, default=1_000, help="records per second of each of the four producers")
    parser.add_argument("--image-mb", type=int, default=4_096)
    parser.add_argument("--commit", default=commit(), help="what the broker was built from, for the result")
    parser.add_argument("--json", type=pathlib.Path, help="also append the result to this file")
    parser.add_argument("--keep", action="store_true", help="keep histories and logs of a good run too")
    args = parser.parse_args()
    if args.kills + args.power_cuts == 0:
        parser.error("no faults: give --kills N or --power-cuts N")
    args.rig = args.rig or build_rig()
    return args


def build_rig() -> str:
    target = ROOT / "target" / "reliability"
    subprocess.run(["cargo", "build", "--release", "--quiet", "--manifest-path", str(ROOT / "reliability/Cargo.toml"),
                    "--target-dir", str(target)], check=True)
    return str(target / "release" / "reliability")


def main() -> None:
    args = arguments()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="weir-reliability-"))
    print(f"    seed {args.seed}, in {directory}", file=sys.stderr, flush=True)
    rig, wrong = None, ["it did not end"]
    try:
        rig = Rig(args, directory)
        result = rig.run()
        wrong = faults_of(result)
        examples = result.pop("examples")
        print(json.dumps(result))
        if args.json:
            with args.json.open("a") as file:
                file.write(json.dumps(result) + "\n")
        for line in examples if wrong else []:
            print(f"    {line}", file=sys.stderr)
    except Failed as error:
        wrong = [str(error)]
    finally:
        if rig:
            rig.close()
        if not wrong and not args.keep:
            shutil.rmtree(directory, ignore_errors=True)
    for fault in wrong:
        print(f"FAILED: {fault} (seed {args.seed}, histories in {directory})", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
