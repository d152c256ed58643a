#!/usr/bin/env python3
"""What the scripts that test weir from outside share.

    scripts/weirtest.py ready HOST:PORT SECONDS [N]     wait until a Kafka broker serves there, and knows of N (1)
"""
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / ".cache" / "venv" / "bin" / "python"
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 15


def use_venv() -> None:
    """Goes on in the interpreter of scripts/setup.sh, which has librdkafka, if this one has not."""
    try:
        import confluent_kafka  # noqa: F401
    except ImportError:
        if not VENV.exists() or pathlib.Path(sys.executable) == VENV:
            sys.exit("the PyPI package confluent-kafka is missing: run scripts/setup.sh")
        os.execv(VENV, [str(VENV), *sys.argv])


def check(condition: bool, what: str) -> None:
    """Ends the test with exit code 1 unless the fact holds."""
    if not condition:
        sys.exit(f"FAILED: {what}")
    print(f"ok: {what}", flush=True)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def free_server_port() -> int:
    """A port that the system gives to no client: one that connects to it while nobody listens there may otherwise get it
    as its own, be connected to itself, and keep it from its server."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def until(what: str, seconds: float, look):
    """Polls until `look()` gives something true, and returns it."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            sys.exit(f"FAILED: {what}: not within {seconds} s")
        time.sleep(0.05)


def serves(address: str, seconds: float = 2, brokers: int = 1) -> bool:
    """Whether a broker answers Metadata (version 1, no topics) within so many seconds, and names so many brokers in it."""
    host, port = address.rsplit(":", 1)
    body = struct.pack(">hhih", 3, 1, 1, -1) + struct.pack(">i", 0)
    try:
        with socket.create_connection((host, int(port)), seconds) as s:
            s.settimeout(seconds)
            s.sendall(struct.pack(">i", len(body)) + body)
            answer = s.recv(4 + 4 + 4, socket.MSG_WAITALL)
            return len(answer) == 12 and struct.unpack(">i", answer[8:])[0] >= brokers
    except OSError:
        return False


def wait_until_serves(
    address: str, seconds: float, process: "subprocess.Popen | None" = None, brokers: int = 1
) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if serves(address, brokers=brokers):
            return True
        if process and process.poll() is not None:
            return False
        time.sleep(0.002)
    return False


class WeirUp:
    """A `weir up` on free ports with a data directory of its own, which goes when it is closed."""

    def __init__(self, binary: str, *args: str, config: str = "", directory: "str | None" = None):
        self.directory = pathlib.Path(directory or tempfile.mkdtemp(prefix="weir-test-"))
        self.log = self.directory / "weir.log"
        config_file = self.directory / "weir.yaml"
        config_file.write_text(config)
        ports = ["--kafka-port", "0", "--gateway-port", "0", "--console-port", "0"]
        command = [binary, "up", "--config", str(config_file), "--data-dir", str(self.directory / "data")]
        with self.log.open("ab") as log:
            # An earlier run in this directory has said where it was.
            self.log_from = log.tell()
            environment = {**os.environ, "LC_ALL": "C", "LANG": "C"}
            self.process = subprocess.Popen([*command, *ports, *args], stdout=log, stderr=log, env=environment)
        text = until("weir up is ready", START_SECONDS_MAX, self._ready)
        self.kafka = re.search(r"^ *Kafka +(\S+)", text, re.M)[1]
        self.gateway = re.search(r"^ *Gateway +(http://\S+)", text, re.M)[1]
        self.console = re.search(r"^ *Console +(http://\S+)", text, re.M)[1]

    def _ready(self) -> str:
        text = self.log.read_bytes()[self.log_from:].decode(errors="replace")
        if self.process.poll() is not None:
            sys.exit(f"FAILED: weir up ended with {self.process.returncode}:\n{text}")
        return text if re.search(r"ready in \d+ ms", text) else ""

    def stop(self) -> float:
        """Stops it as Ctrl-C does; returns the seconds that took. The data stays until close()."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            sys.exit(f"FAILED: weir does not stop; see {self.log}")
        if code != 0:
            sys.exit(f"FAILED: weir ended with {code}; see {self.log}")
        return time.monotonic() - started

    def close(self) -> None:
        if self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5) or sys.argv[1] != "ready":
        sys.exit(__doc__)
    wanted = int(sys.argv[4]) if len(sys.argv) == 5 else 1
    sys.exit(0 if wait_until_serves(sys.argv[2], float(sys.argv[3]), brokers=wanted) else 1)
