"""The Python side of the protocol between scripts/clients.py and a client's program: JSON, one object per line.

The program first prints what it is: {"client", "codecs", "can", "protocols"}. Then each line of its standard input is
{"do": VERB, ...}, answered with one line: {"done": true, ...}, or {"error": TEXT}. The verbs:

    create          topic, partitions
    produce         topic, codec, records: [[partition, key, value, [[header, value]...]]...]; idempotent, acks=all
    transaction     id, topic, records, end: "commit" or "abort"
    groups          -> groups: [id...]
    describe        group -> state, members: {client id: [partition...]} (without "topic-")
    delete_records  topic, partition, offset
    consume         group, topic, client_id, protocol, read_committed: joins the group and prints for each record
                    {"record": [partition, offset, key, value, headers]} once its offset is committed. The next line,
                    whatever it is, makes the member leave, the answer comes, and the program ends.
"""
import json
import sys
import threading
import traceback


def emit(answer: dict) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def serve(hello: dict, verbs: dict) -> None:
    emit(hello)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if command["do"] == "consume":
                leaving = threading.Event()
                threading.Thread(target=lambda: (sys.stdin.readline(), leaving.set()), daemon=True).start()
                verbs["consume"](command, leaving)
                emit({"done": True})
                return
            emit({"done": True, **(verbs[command["do"]](command) or {})})
        except Exception as error:  # noqa: BLE001  Whatever it is, the script tells it.
            traceback.print_exc()
            emit({"error": repr(error)})
