"""From one good request many others: each field in turn gets values that a broker must refuse or bear."""
import copy

TEXT_BYTES_MAX = 249
NO_SUCH_ID = "q83vEjRWeJCrze8SNFZ4kA"
BYTES = ("", "00", "ff00ff00ff00ff00")
INTEGERS = {"byte": 8, "short": 16, "int": 32, "long": 64}


def mutations(schema: list, body: dict, stem: str, path: str = ""):
    """Pairs of a label and a body. The schema is that of Codec.java; fields that the body lacks are set as well. Names begin
    with the stem, so that no other case has them."""
    for field in schema:
        name, at = field["name"], f"{path}{field['name']}"
        present = name in body
        for label, value in values(field, body.get(name), stem):
            yield f"{at} {label}", {**body, name: value}
        if field["type"] != "struct" or not present or not body[name]:
            continue
        inner = body[name][0] if field.get("array") else body[name]
        for label, changed in mutations(field["fields"], inner, stem, f"{at}."):
            rest = copy.deepcopy(body[name][1:]) if field.get("array") else None
            yield label, {**body, name: [changed, *rest] if field.get("array") else changed}


def values(field: dict, now, stem: str):
    """What else a field may be set to."""
    if field["nullable"] and now is not None:
        yield "null", None
    if field.get("array"):
        if now != []:
            yield "empty", []
        if now:
            yield "twice", [*now, copy.deepcopy(now[0])]
    elif field["type"] == "string":
        candidates = {"empty": "", "long": stem + "x" * (TEXT_BYTES_MAX + 1 - len(stem)), "odd": f"{stem} b/\u00e9", "other": f"{stem}-other"}
        yield from ((label, value) for label, value in candidates.items() if value != now)
    elif field["type"] in INTEGERS:
        top = (1 << INTEGERS[field["type"]] - 1) - 1
        yield from ((str(value) if abs(value) < 100 else "max" if value > 0 else "min", value)
                    for value in (-1, 0, 1, 7, -7, top, -top - 1) if value != now)
    elif field["type"] == "boolean":
        yield "not", not now
    elif field["type"] == "uuid":
        yield "none", "AAAAAAAAAAAAAAAAAAAAAA"
        yield "unknown", NO_SUCH_ID
    elif field["type"] == "double":
        yield from ((str(value), value) for value in (-1.0, 0.0, 0.5) if value != now)
    elif field["type"] != "struct":
        yield from ((f"bytes {value or 'empty'}", value) for value in BYTES if value != now)
