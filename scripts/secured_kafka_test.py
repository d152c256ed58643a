#!/usr/bin/env python3
"""weir's client on an Apache Kafka that asks who is there: TLS, client certificates, SASL PLAIN and SCRAM.

    scripts/secured_kafka_test.py [--weir target/release/weir]

1. `weir topics`, `weir produce` and `weir tail` by each way of getting in; and what must not get in, with what it says.
2. `weir up --brokers` over SASL_SSL with SCRAM: an event through the gateway is read back from Kafka.

Makes its certificates with openssl. Needs Java 17 and Maven (scripts/kafka.sh install) and confluent-kafka
(scripts/setup.sh). Exits with 1 on any fault.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

from weirtest import ROOT, WeirUp, check, free_server_port, until, use_venv, wait_until_serves

use_venv()
from confluent_kafka import KafkaException  # noqa: E402
from confluent_kafka.admin import (  # noqa: E402
    AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion)
from security_test import make_certificates  # noqa: E402

KAFKA = str(ROOT / "scripts" / "kafka.sh")
PASSWORD, WRONG = "sentinel-Pa55word", "sentinel-wr0ng"
LINES = [f"line {n}" for n in range(2_000)]


class Kafka:
    """One node: in the clear for this script alone, with certificates, with logins over TLS, and with logins in the clear."""

    def __init__(self, directory: pathlib.Path):
        self.port = free_server_port()
        self.ports = {name: free_server_port() for name in ("CERTIFIED", "LOGIN", "CLEAR")}
        subprocess.run([KAFKA, "prepare", str(self.port)], check=True)
        properties = ROOT / ".cache" / "kafka" / f"node-{self.port}" / "server.properties"
        with properties.open("a") as file:
            file.write(self.properties(directory))
        self.log = directory / "kafka.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([KAFKA, "run", str(self.port)], stdout=log, stderr=log)
        if not wait_until_serves(f"127.0.0.1:{self.port}", 60, self.process):
            sys.exit(f"FAILED: Kafka does not serve: {self.log.read_text(errors='replace')[-2000:]}")

    def properties(self, directory: pathlib.Path) -> str:
        """Of two values of a key the later counts."""
        addresses = [f"{name}://localhost:{port}" for name, port in self.ports.items()]
        # Its certificate names 127.0.0.1 and localhost, and no other address of this machine.
        bound = [address.replace("LOGIN://localhost", "LOGIN://0.0.0.0") for address in addresses]
        plain = f"PLAINTEXT://127.0.0.1:{self.port}"
        (directory / "server.pair.pem").write_text((directory / "server.key").read_text() + (directory / "server.pem").read_text())
        jaas = "org.apache.kafka.common.security"
        logins = "".join(f"""
listener.name.{name}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.{name}.plain.sasl.jaas.config={jaas}.plain.PlainLoginModule required user_ann="{PASSWORD}";
listener.name.{name}.scram-sha-256.sasl.jaas.config={jaas}.scram.ScramLoginModule required;
listener.name.{name}.scram-sha-512.sasl.jaas.config={jaas}.scram.ScramLoginModule required;
""" for name in ("login", "clear"))
        return f"""
listeners={",".join([plain, *bound, f"CONTROLLER://127.0.0.1:{self.port + 1}"])}
advertised.listeners={",".join([plain, *addresses])}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,CERTIFIED:SSL,LOGIN:SASL_SSL,CLEAR:SASL_PLAINTEXT
inter.broker.listener.name=PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={directory}/server.pair.pem
ssl.truststore.type=PEM
ssl.truststore.location={directory}/ca.pem
listener.name.certified.ssl.client.auth=required
{logins}"""

    def make_user(self, name: str) -> None:
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{self.port}"})

        # Kafka 4.1 takes one mechanism of a user in a request, and none before its metadata is there.
        def made(mechanism: ScramMechanism) -> bool:
            change = UserScramCredentialUpsertion(name, ScramCredentialInfo(mechanism, 8192), PASSWORD.encode())
            try:
                for future in admin.alter_user_scram_credentials([change]).values():
                    future.result(20)
                return True
            except KafkaException as error:
                print(f"not yet: {error}", flush=True)
                return False
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            until("Kafka takes a SCRAM user", 30, lambda: made(mechanism))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        subprocess.run([KAFKA, "stop", str(self.port)], check=True)


class Client:
    """weir's commands with a weir.yaml of their own."""

    def __init__(self, weir: str, directory: pathlib.Path):
        self.weir, self.directory = weir, directory

    def yaml(self, kafka: Kafka, way: dict) -> str:
        host = way.get("host", "localhost")
        settings = {"brokers": f"{host}:{kafka.ports[way['listener']]}", **way["settings"]}
        return "kafka:\n" + "".join(f"  {key}: {value}\n" for key, value in settings.items())

    def run(self, kafka: Kafka, way: dict, *args: str, text: str = "") -> subprocess.CompletedProcess:
        (self.directory / "weir.yaml").write_text(self.yaml(kafka, way))
        return subprocess.run([self.weir, *args], cwd=self.directory, input=text, capture_output=True, text=True, timeout=90)


def ways(directory: pathlib.Path) -> "tuple[dict, dict]":
    """What gets in, and what does not with a word of what it says."""
    d = directory
    (d / "password").write_text(PASSWORD + "\n")
    (d / "wrong").write_text(WRONG + "\n")
    tls = {"security_protocol": "SASL_SSL", "ssl_ca_file": f"{d}/ca.pem"}

    def login(mechanism: str, password: str = "password", user: str = "ann", **more) -> dict:
        return {"sasl_mechanism": mechanism, "sasl_username": user, "sasl_password_file": f"{d}/{password}", **more}

    certified = {"security_protocol": "SSL", "ssl_ca_file": f"{d}/ca.pem"}
    own = {"ssl_certificate_file": f"{d}/client.pem", "ssl_key_file": f"{d}/client.key"}
    good = {f"{protocol} {mechanism}": {"listener": listener, "settings": login(mechanism, **more)}
            for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
            for protocol, listener, more in (("SASL_SSL", "LOGIN", tls),
                                             ("SASL_PLAINTEXT", "CLEAR", {"security_protocol": "SASL_PLAINTEXT"}))}
    good["a client's certificate"] = {"listener": "CERTIFIED", "settings": {**certified, **own}}
    stranger = {"ssl_certificate_file": f"{d}/stranger.pem", "ssl_key_file": f"{d}/stranger.key"}
    bad = {
        "a wrong password (SCRAM)": ({"listener": "LOGIN", "settings": login("SCRAM-SHA-512", "wrong", **tls)}, "authenticat"),
        "a wrong password (PLAIN)": ({"listener": "LOGIN", "settings": login("PLAIN", "wrong", **tls)}, "authenticat"),
        "an unknown user": ({"listener": "LOGIN", "settings": login("SCRAM-SHA-256", user="nobody", **tls)}, "authenticat"),
        "a broker of another authority": (
            {"listener": "LOGIN", "settings": login("PLAIN", **{**tls, "ssl_ca_file": f"{d}/other.pem"})}, "certificate"),
        "a broker by a name that its certificate has not": (
            {"listener": "LOGIN", "host": "127.0.0.2", "settings": login("PLAIN", **tls)}, "certificate"),
        "no certificate where one is asked for": ({"listener": "CERTIFIED", "settings": certified}, "certificate"),
        "the certificate of a stranger": ({"listener": "CERTIFIED", "settings": {**certified, **stranger}}, "certificate"),
        "TLS where there is none": ({"listener": "CLEAR", "settings": certified}, "TLS"),
        "no TLS where there is some": ({"listener": "LOGIN", "settings": {"security_protocol": "PLAINTEXT"}}, ""),
    }
    return good, bad


def commands(client: Client, kafka: Kafka, good: dict, bad: dict) -> None:
    for number, (name, way) in enumerate(good.items()):
        topic = f"by-{number}"
        created = client.run(kafka, way, "topics", "--create", topic)
        check(created.returncode == 0, f"{name}: a topic is made {created.stderr[-300:]}")
        written = client.run(kafka, way, "produce", topic, text="".join(line + "\n" for line in LINES))
        check(written.returncode == 0, f"{name}: records are written {written.stderr[-300:]}")
        read = client.run(kafka, way, "tail", topic, "--from-beginning", "--exit", "--json")
        values = sorted(json.loads(line)["value"] for line in read.stdout.splitlines())
        check(read.returncode == 0 and values == sorted(LINES), f"{name}: and read, each once {read.stderr[-300:]}")
    for name, (way, word) in bad.items():
        refused = client.run(kafka, way, "topics")
        said = refused.stderr.strip()
        check(refused.returncode != 0 and word.lower() in said.lower(), f"{name} does not get in: {said.splitlines()[:2]}")
        check(PASSWORD not in said and WRONG not in said, "and no password is told")


def main_job(weir: str, client: Client, kafka: Kafka, way: dict) -> None:
    up = WeirUp(weir, config=client.yaml(kafka, way))
    try:
        body = json.dumps({"type": "drone.heartbeat", "source": "secured", "data": {"drone_id": 7}}).encode()
        answer = json.load(urllib.request.urlopen(urllib.request.Request(f"{up.gateway}/v1/events", body), timeout=30))
        check(answer.get("status") == "accepted", f"an event is accepted on a secured cluster: {answer}")
        read = client.run(kafka, way, "tail", "drone-events", "--from-beginning", "--exit", "--json")
        check('"secured' in read.stdout.replace("\\", ""), f"and is in its topic {read.stdout[-300:]} {read.stderr[-300:]}")
    finally:
        up.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weir", default=str(ROOT / "target" / "release" / "weir"))
    weir = str(pathlib.Path(parser.parse_args().weir).resolve())
    subprocess.run([KAFKA, "install"], check=True)
    with tempfile.TemporaryDirectory(prefix="weir-secured-") as name:
        directory = pathlib.Path(name)
        make_certificates(directory)
        kafka = Kafka(directory)
        try:
            kafka.make_user("ann")
            good, bad = ways(directory)
            client = Client(weir, directory)
            commands(client, kafka, good, bad)
            main_job(weir, client, kafka, good["SASL_SSL SCRAM-SHA-512"])
        finally:
            kafka.stop()


if __name__ == "__main__":
    main()
