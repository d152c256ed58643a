#!/usr/bin/env python3
"""Listeners with TLS and logins, by real clients, and attacks on them while a client goes on working.

    scripts/security_test.py [--weir target/release/weir]

1. What must not start does not: an open address without a login, a missing password, a certificate that is none.
2. kcat, confluent-kafka, openssl, and Kafka's Java tools if scripts/kafka.sh has installed them: TLS 1.2 and 1.3, PLAIN,
   SCRAM-SHA-256 and -512, certificates of clients; each with what must be refused.
3. SCRAM users made, changed and deleted with kafka-configs, over a restart.
4. Attacks: floods of connections, silence, trickled bytes, large frames, guessed passwords, garbage, many connections of
   one address. A client that is logged in produces one record after the other meanwhile: no error, no long wait. Memory is
   bounded.
5. Passwords stand in no log, though everything is logged, and in no `weir config show`.

Makes its certificates with openssl. Needs kcat and the PyPI package confluent-kafka (scripts/setup.sh installs them).
Exits with 1 on any fault.
"""
import argparse
import pathlib
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

from weirtest import ROOT, check, free_server_port, until, use_venv, wait_until_serves

use_venv()
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

PASSWORD = "sentinel-Pa55word"
OTHER_PASSWORD = "sentinel-0ther"
KAFKA_LIBS = ROOT / ".cache" / "kafka" / "libs"
# What one attack may add to the broker's memory. Its own buffers under load are a few dozen of these.
RSS_GROWTH_MAX_MIB = 128
WAIT_MAX_SECONDS = 3
SAMPLES_MIN = 50


def openssl(*args: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(["openssl", *args], capture_output=True, text=True, timeout=30, **kwargs)


def make_certificates(directory: pathlib.Path) -> None:
    """ca, server (localhost and 127.0.0.1), client, and a stranger of another authority."""
    def made(result: subprocess.CompletedProcess) -> None:
        if result.returncode != 0:
            sys.exit(f"FAILED: openssl: {result.stderr}")

    def key(name: str) -> str:
        path = str(directory / f"{name}.key")
        made(openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path))
        return path

    for name in ("ca", "other"):
        made(openssl("req", "-x509", "-new", "-key", key(name), "-days", "30", "-subj", f"/CN=weir {name}",
                     "-addext", "basicConstraints=critical,CA:TRUE", "-out", str(directory / f"{name}.pem")))
    for name, authority, extension in (
        ("server", "ca", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ("client", "ca", "extendedKeyUsage=clientAuth"),
        ("stranger", "other", "extendedKeyUsage=clientAuth"),
    ):
        request, extensions = directory / f"{name}.csr", directory / f"{name}.ext"
        extensions.write_text(extension)
        made(openssl("req", "-new", "-key", key(name), "-subj", f"/O=Acme/CN={name}", "-out", str(request)))
        made(openssl("x509", "-req", "-in", str(request), "-CA", str(directory / f"{authority}.pem"),
                     "-CAkey", str(directory / f"{authority}.key"), "-CAcreateserial", "-days", "30",
                     "-extfile", str(extensions), "-out", str(directory / f"{name}.pem")))


class Broker:
    """A `weir broker` with a loopback listener, one with SASL_SSL, one with certificates, and one with SASL_PLAINTEXT."""

    def __init__(self, binary: str, directory: pathlib.Path):
        self.binary, self.directory = binary, directory
        self.ports = [free_server_port() for _ in range(4)]
        self.main, self.network, self.certified, self.clear = (f"127.0.0.1:{port}" for port in self.ports)
        self.log = directory / "broker.log"
        (directory / "password").write_text(PASSWORD + "\n")
        self.config = directory / "weir.yaml"
        self.config.write_text(self.yaml("0.0.0.0"))
        self.start()

    def yaml(self, host: str, protocol: str = "SASL_SSL") -> str:
        d = self.directory
        main, network, certified, clear = self.ports
        tls = f"ssl_certificate_file: {d}/server.pem, ssl_key_file: {d}/server.key"
        sasl = "sasl_mechanisms: [PLAIN, SCRAM-SHA-256, SCRAM-SHA-512], " if protocol.startswith("SASL") else ""
        return f"""
broker:
  listen: 127.0.0.1:{main}
  listeners:
    network: {{listen: "{host}:{network}", security_protocol: {protocol}, {sasl}{tls if protocol.endswith("SSL") else ""}}}
    certified: {{listen: "127.0.0.1:{certified}", security_protocol: SSL, ssl_client_auth: required,
                ssl_client_ca_file: {d}/ca.pem, {tls}}}
    clear: {{listen: "127.0.0.1:{clear}", security_protocol: SASL_PLAINTEXT, sasl_mechanisms: [SCRAM-SHA-256]}}
  users:
    ann: {{password_file: {d}/password}}
  authentication_timeout: 2s
  connections_max: 500
  connections_per_ip_max: 40
logging: {{level: trace, file: {d}/weir.log}}
"""

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([self.binary, "broker", "--config", str(self.config),
                                             "--data-dir", str(self.directory / "data")], stdout=log, stderr=log)
        if not wait_until_serves(self.main, 30, self.process):
            sys.exit(f"FAILED: weir broker does not serve: {self.log.read_text()}")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        check(self.process.wait(15) == 0, "the broker stops cleanly")

    def rss_mib(self) -> float:
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def tls(self) -> dict:
        return {"ssl.ca.location": str(self.directory / "ca.pem")}

    def login(self, mechanism: str, user: str = "ann", password: str = PASSWORD) -> dict:
        return {"bootstrap.servers": f"localhost:{self.ports[1]}", "security.protocol": "SASL_SSL",
                "sasl.mechanism": mechanism, "sasl.username": user, "sasl.password": password,
                "log_level": 0, **self.tls()}

    def certificate(self, name: "str | None") -> dict:
        settings = {"bootstrap.servers": f"localhost:{self.ports[2]}", "security.protocol": "SSL", "log_level": 0,
                    **self.tls()}
        if name:
            settings["ssl.certificate.location"] = str(self.directory / f"{name}.pem")
            settings["ssl.key.location"] = str(self.directory / f"{name}.key")
        return settings


# 1

def refusals(weir: str, broker: Broker) -> None:
    file = broker.directory / "refused.yaml"

    def config_check(text: str, *flags: str) -> subprocess.CompletedProcess:
        file.write_text(text)
        return subprocess.run([weir, "config", "check", "--config", str(file), *flags], capture_output=True, text=True,
                              timeout=30)

    check(config_check(broker.yaml("0.0.0.0")).returncode == 0, "SASL_SSL may be open to other machines")
    for protocol in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT"):
        text = broker.yaml("0.0.0.0", protocol)
        refused = config_check(text)
        said = "WEIR-0815" in refused.stderr and "--insecure-listen" in refused.stderr
        check(refused.returncode != 0 and said, f"{protocol} may not")
        check(config_check(text, "--insecure-listen").returncode == 0, "unless --insecure-listen is said")
        check(config_check(broker.yaml("127.0.0.1", protocol)).returncode == 0, "or it is loopback")
    for code, old, new in (
        ("WEIR-0830", "/password}", "/no-such-file}"),
        ("WEIR-0310", "/server.pem", "/server.key"),
        ("WEIR-0310", "/server.key", "/client.key"),
        ("WEIR-0831", "ssl_client_auth: required", "ssl_client_auth: none"),
        ("WEIR-0802", "security_protocol", "security_protocl"),
    ):
        refused = config_check(broker.yaml("127.0.0.1").replace(old, new))
        check(refused.returncode != 0 and code in refused.stderr, f"{old} -> {new}: {code}")


# 2

def kcat(settings: dict, *args: str, text: str = "") -> subprocess.CompletedProcess:
    address = settings["bootstrap.servers"]
    flags = [flag for key, value in settings.items() if key != "bootstrap.servers" for flag in ("-X", f"{key}={value}")]
    return subprocess.run(["kcat", "-b", address, *flags, *args], input=text, capture_output=True, text=True, timeout=60)


def error_of(settings: dict) -> "KafkaError | None":
    """Why a client does not get in."""
    seen = []
    admin = AdminClient({**settings, "error_cb": seen.append})
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        admin.poll(0.1)
        try:
            admin.list_topics(timeout=0.5)
            return None
        except KafkaException:
            fatal = [error for error in seen if error.code() != KafkaError._ALL_BROKERS_DOWN]
            if fatal:
                return fatal[0]
    return KafkaError(KafkaError._TIMED_OUT)


def clients(broker: Broker) -> None:
    for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        topic = f"by-{mechanism}"
        lines = "".join(f"line {n}\n" for n in range(20_000))
        written = kcat(broker.login(mechanism), "-P", "-t", topic, text=lines)
        read = kcat(broker.login(mechanism), "-C", "-t", topic, "-o", "beginning", "-e", "-q")
        same = sorted(read.stdout.splitlines()) == sorted(lines.splitlines())
        check(written.returncode == 0 and same, f"kcat writes and reads by {mechanism}")
        for user, password in (("ann", "wrong"), ("nobody", PASSWORD)):
            error = error_of(broker.login(mechanism, user, password))
            check(error is not None and error.code() == KafkaError._AUTHENTICATION, f"{user}/{password}: {error}")
    error = error_of({**broker.login("PLAIN"), "bootstrap.servers": broker.clear, "security.protocol": "SASL_PLAINTEXT"})
    check(error is not None, f"a mechanism that is not enabled: {error}")
    check(error_of(broker.certificate("client")) is None, "a client with a certificate gets in")
    check(error_of(broker.certificate(None)) is not None, "one without does not")
    check(error_of(broker.certificate("stranger")) is not None, "nor one with that of a stranger")
    check(error_of({"bootstrap.servers": broker.network}) is not None, "nor one that speaks no TLS")
    check(error_of({"bootstrap.servers": broker.main, "security.protocol": "SSL", **broker.tls()}) is not None,
          "nor one that speaks TLS where there is none")
    other = {**broker.login("PLAIN"), "ssl.ca.location": str(broker.directory / "other.pem")}
    check(error_of(other) is not None, "a client does not trust a broker of another authority")
    group = {**broker.login("SCRAM-SHA-512"), "group.id": "g", "auto.offset.reset": "earliest"}
    consumer = Consumer(group)
    consumer.subscribe(["by-PLAIN"])
    got = until("a consumer in a group reads over SASL_SSL", 30, lambda: consumer.consume(100, 1))
    check(all(message.error() is None for message in got), "a group over SASL_SSL")
    consumer.close()
    for version, is_in in (("-tls1_2", True), ("-tls1_3", True), ("-tls1_1", False)):
        shaken = openssl("s_client", "-connect", f"localhost:{broker.ports[1]}", version, "-cipher", "DEFAULT@SECLEVEL=0",
                         "-CAfile", str(broker.directory / "ca.pem"), "-verify_return_error", input="")
        check((shaken.returncode == 0) == is_in, f"openssl {version}: {'a' if is_in else 'no'} connection")


def java(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run(["java", "-Xmx256m", "-Dlog4j2.disable.jmx=true", "-cp", f"{KAFKA_LIBS}/*", *args],
                          capture_output=True, text=True, timeout=120)


def java_client(broker: Broker, user: str, password: str, mechanism: str) -> subprocess.CompletedProcess:
    module = "plain.PlainLoginModule" if mechanism == "PLAIN" else "scram.ScramLoginModule"
    properties = broker.directory / "client.properties"
    properties.write_text(f"""security.protocol=SASL_SSL
sasl.mechanism={mechanism}
sasl.jaas.config=org.apache.kafka.common.security.{module} required username="{user}" password="{password}";
ssl.truststore.type=PEM
ssl.truststore.location={broker.directory}/ca.pem
""")
    return java("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", f"localhost:{broker.ports[1]}",
                "--command-config", str(properties), "--list")


# 3

def users(broker: Broker) -> None:
    def configs(*args: str) -> subprocess.CompletedProcess:
        return java("kafka.admin.ConfigCommand", "--bootstrap-server", broker.main, "--entity-type", "users",
                    "--entity-name", "bob", *args)

    set_to = f"SCRAM-SHA-512=[iterations=8192,password={OTHER_PASSWORD}]"
    made = configs("--alter", "--add-config", set_to)
    check(made.returncode == 0, f"kafka-configs makes a SCRAM user {made.stderr[-300:]}")
    check("by-PLAIN" in java_client(broker, "bob", OTHER_PASSWORD, "SCRAM-SHA-512").stdout, "kafka-topics logs in as that user")
    check("by-PLAIN" in java_client(broker, "ann", PASSWORD, "PLAIN").stdout, "and as one of the configuration, by PLAIN")
    wrong = java_client(broker, "bob", "wrong", "SCRAM-SHA-512")
    check("Authentication failed" in wrong.stdout + wrong.stderr, f"Java is told why {wrong.stdout[-300:]} {wrong.stderr[-300:]}")
    file = broker.directory / "data" / "kafka" / "weir-scram-users"
    check(file.stat().st_mode & 0o777 == 0o600, "the users' file is private")
    broker.stop()
    broker.start()
    check(error_of(broker.login("SCRAM-SHA-512", "bob", OTHER_PASSWORD)) is None, "the user is there after a restart")
    check(configs("--alter", "--delete-config", "SCRAM-SHA-512").returncode == 0, "kafka-configs deletes the user")
    check(error_of(broker.login("SCRAM-SHA-512", "bob", OTHER_PASSWORD)) is not None, "who then gets in no more")


# 4

class Worker:
    """A client that is logged in, and produces one record after the other until it is stopped."""

    def __init__(self, broker: Broker):
        self.producer = Producer({**broker.login("SCRAM-SHA-256"), "linger.ms": 0, "acks": "all"})
        self.waits_ms: list[float] = []
        self.errors: list[str] = []
        self.running = True
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        while self.running:
            begun = time.monotonic()
            self.producer.produce("worker", b"x", on_delivery=self.delivered)
            if self.producer.flush(WAIT_MAX_SECONDS * 4) > 0:
                self.errors.append("not answered")
            self.waits_ms.append((time.monotonic() - begun) * 1e3)
            time.sleep(0.005)

    def delivered(self, error, _message) -> None:
        if error is not None:
            self.errors.append(str(error))

    def take(self) -> "tuple[list[float], list[str]]":
        waits, self.waits_ms = self.waits_ms, []
        errors, self.errors = self.errors, []
        return sorted(waits), errors

    def stop(self) -> None:
        self.running = False
        self.thread.join()


def frame(api: int, version: int, body: bytes) -> bytes:
    payload = struct.pack(">hhih1s", api, version, 7, 1, b"a") + body
    return struct.pack(">i", len(payload)) + payload


def is_closed(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
        return True
    except (TimeoutError, socket.timeout):
        return False
    except OSError:
        return True


def connect(address: str) -> socket.socket:
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), 10)


def secured(broker: Broker) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(broker.directory / "ca.pem"))
    return context.wrap_socket(connect(broker.network), server_hostname="localhost")


def closed_within(connections: "list[socket.socket]", seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    return all(is_closed(connection, max(0.01, deadline - time.monotonic())) for connection in connections)


def silence(broker: Broker) -> bool:
    return closed_within([connect(broker.network) for _ in range(100)], 15)


def silence_after_tls(broker: Broker) -> bool:
    return closed_within([secured(broker) for _ in range(60)], 15)


def trickle(broker: Broker) -> bool:
    """A byte of a TLS handshake, or of a request, now and then."""
    connections = [connect(broker.network) for _ in range(50)] + [connect(broker.clear) for _ in range(50)]
    hello = b"\x16\x03\x01\x02\x00" + bytes(600)
    request = frame(18, 0, bytes(600))
    for at in range(600):
        sent = 0
        for number, connection in enumerate(connections):
            try:
                connection.sendall(hello[at:at + 1] if number < 50 else request[at:at + 1])
                sent += 1
            except OSError:
                pass
        if not sent:
            break
        time.sleep(0.03)
    return closed_within(connections, 10)


def large_frames(broker: Broker) -> bool:
    connections = []
    for length in (513 << 10, 100 << 20, 2**31 - 1, -1, 0):
        for _ in range(10):
            connection = connect(broker.clear)
            connection.sendall(struct.pack(">i", length) + bytes(1000))
            connections.append(connection)
    return closed_within(connections, 10)


def garbage(broker: Broker) -> bool:
    noise = pathlib.Path("/dev/urandom").open("rb")
    connections = []
    for address in (broker.network, broker.certified, broker.clear, broker.main):
        for _ in range(25):
            connection = connect(address)
            connection.sendall(b"\x00\x00\x01\x00" + noise.read(300))
            connections.append(connection)
    connection = connect(broker.main)
    connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
    return closed_within([*connections, connection], 10)


def before_login(broker: Broker) -> bool:
    """Every request that there is, without a login: none is answered but those of a login."""
    connections = []
    for api in range(0, 90):
        if api in (17, 18):
            continue
        connection = connect(broker.clear)
        connection.sendall(frame(api, 0, bytes(64)))
        connections.append(connection)
    answered = 0
    for connection in connections:
        connection.settimeout(10)
        try:
            answered += len(connection.recv(100))
        except OSError:
            answered += 10_000
    return answered == 0


def guesses(broker: Broker) -> bool:
    """200 wrong passwords, each on a connection of its own. Each waits for its answer."""
    def guess(number: int, took: list) -> None:
        begun = time.monotonic()
        connection = secured(broker)
        connection.settimeout(10)
        connection.sendall(frame(17, 1, struct.pack(">h", 5) + b"PLAIN"))
        connection.recv(1000)
        token = f"\0ann\0guess {number}".encode()
        connection.sendall(frame(36, 0, struct.pack(">i", len(token)) + token))
        answer = connection.recv(1000)
        code = struct.unpack(">h", answer[8:10])[0]
        took.append((time.monotonic() - begun, code, is_closed(connection, 10)))

    took: list = []
    for start in range(0, 200, 25):
        threads = [threading.Thread(target=guess, args=(n, took)) for n in range(start, start + 25)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    return len(took) == 200 and all(seconds >= 0.1 and code == 58 and closed for seconds, code, closed in took)


def flood(broker: Broker) -> bool:
    """More connections than there may be, that ask as far as they may."""
    connections = []
    for number in range(1_500):
        try:
            connection = connect(broker.clear)
            connection.sendall(frame(18, 0, b""))
            connections.append(connection)
        except OSError:
            pass
    return closed_within(connections, 20)


def own_address() -> "str | None":
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address = probe.getsockname()[0]
        except OSError:
            return None
    return None if address.startswith("127.") or address == "0.0.0.0" else address


def many_of_one_address(broker: Broker) -> bool:
    address = own_address()
    if address is None:
        print("SKIPPED: this machine has no address but loopback, so the limit of one address was not met")
        return True
    connections = [connect(f"{address}:{broker.ports[1]}") for _ in range(60)]
    deadline = time.monotonic() + 10
    while (closed := sum(is_closed(connection, 0.005) for connection in connections)) < 20 and time.monotonic() < deadline:
        pass
    [connection.close() for connection in connections]
    return closed == 20


def attacks(broker: Broker) -> None:
    # The client must outlive its futures.
    admin = AdminClient(broker.login("PLAIN"))
    admin.create_topics([NewTopic("worker", 1, 1)])["worker"].result(30)
    worker = Worker(broker)
    time.sleep(2)
    quiet, errors = worker.take()
    check(not errors, "a client that is logged in produces")
    figure = lambda waits, share: waits[min(len(waits) - 1, int(len(waits) * share))]  # noqa: E731
    print(f"    alone: p50 {figure(quiet, .5):.1f} ms, p99 {figure(quiet, .99):.1f} ms")
    for attack in (silence, silence_after_tls, trickle, large_frames, garbage, before_login, guesses, flood,
                   many_of_one_address):
        rss = broker.rss_mib()
        held = attack(broker)
        # Also what comes after an attack is the other client's.
        until("the other client goes on", 30, lambda: len(worker.waits_ms) >= SAMPLES_MIN or worker.errors)
        waits, errors = worker.take()
        check(held, f"{attack.__name__}: an error for everyone who does it")
        p50, p99, worst = figure(waits, .5), figure(waits, .99), waits[-1]
        check(not errors and worst < WAIT_MAX_SECONDS * 1e3,
              f"    and the other client goes on: p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {worst:.0f} ms {errors[:3]}")
        growth = broker.rss_mib() - rss
        check(growth < RSS_GROWTH_MAX_MIB, f"    memory {growth:+.1f} MiB")
    worker.stop()
    check(broker.process.poll() is None, "the broker has lived through all of it")


# 5

def secrets(weir: str, broker: Broker) -> None:
    shown = subprocess.run([weir, "config", "show", "--config", str(broker.config)], capture_output=True, text=True)
    files = [path for path in broker.directory.rglob("*") if path.is_file() and not path.name.endswith((".properties", "password"))]
    for secret in (PASSWORD, OTHER_PASSWORD):
        check(secret not in shown.stdout + shown.stderr, "weir config show prints no password")
        holders = [path.name for path in files if secret.encode() in path.read_bytes()]
        check(not holders, f"no password in logs and data {holders}")
    lines = broker.log.read_text() + "".join(path.read_text() for path in broker.directory.glob("weir.log*"))
    warned = lines.count('"WARN"') + lines.count(" WARN ")
    check(0 < warned < 300, f"thousands of refused connections make few warnings ({warned})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weir", default=str(ROOT / "target" / "release" / "weir"))
    args = parser.parse_args()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="weir-security-"))
    make_certificates(directory)
    broker = Broker(args.weir, directory)
    try:
        refusals(args.weir, broker)
        clients(broker)
        if any(KAFKA_LIBS.glob("kafka-tools-*.jar")) and shutil.which("java"):
            users(broker)
        else:
            print("SKIPPED: Kafka's tools are not installed (scripts/kafka.sh install), so no SCRAM user was made with them")
        attacks(broker)
        secrets(args.weir, broker)
        broker.stop()
    finally:
        if broker.process.poll() is None:
            broker.process.kill()
    shutil.rmtree(directory, ignore_errors=True)
    print("security: all held")


if __name__ == "__main__":
    main()
