"""Kafka's message classes (Codec.java) as a process that encodes requests and decodes answers."""
import json
import pathlib
import subprocess
import threading

HERE = pathlib.Path(__file__).resolve().parent


class CodecError(Exception):
    """Kafka's own classes refuse the message."""


class Codec:
    def __init__(self, root: pathlib.Path):
        libs = f"{root}/.cache/kafka/libs/*"
        classes = root / ".cache" / "compare"
        source = HERE / "Codec.java"
        built = classes / "Codec.class"
        if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
            classes.mkdir(parents=True, exist_ok=True)
            subprocess.run(["javac", "-cp", libs, "-d", str(classes), str(source)], check=True)
        command = ["java", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp", f"{classes}:{libs}", "Codec"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
        self.lock = threading.Lock()
        self.schemas: dict = {}
        self.apis = {name: int(key) for key, name in self.ask(op="apis").items()}
        self.errors = {int(code): name for code, name in self.ask(op="errors").items()}

    def ask(self, **request) -> dict:
        line = json.dumps(request)
        with self.lock:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise CodecError(answer["error"])
        return answer

    def key(self, api: str) -> int:
        return self.apis[api]

    def encode(self, api: str, version: int, body: dict, correlation: int, client: "str | None") -> bytes:
        """The request without its length."""
        answer = self.ask(op="encode", api=self.key(api), version=version, body=body, correlation=correlation, client=client)
        return bytes.fromhex(answer["hex"])

    def decode(self, api: str, version: int, answer: bytes) -> dict:
        return self.ask(op="decode", api=self.key(api), version=version, hex=answer.hex())

    def batch(self, *records: dict, **options) -> str:
        """A record batch in hex; each record has key and value as text, timestamp and headers if wanted."""
        return self.ask(op="batch", records=records, **options)["hex"]

    def recrc(self, batch: str) -> str:
        return self.ask(op="recrc", hex=batch)["hex"]

    def schema(self, api: str, version: int) -> list:
        known = self.schemas.get((api, version))
        if known is None:
            known = self.schemas[api, version] = self.ask(op="schema", api=self.key(api), version=version)
        return known

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)
