"""Bytes that are no good request, on connections of their own."""
import struct

from ..registry import case
from ..side import Side, produce

VERSIONS_1 = struct.pack(">hhih", 18, 1, 7, -1)


def header(api: int, version: int, client: bytes = b"\x00\x01c") -> bytes:
    return struct.pack(">hhi", api, version, 7) + client


@case()
def frames(side: Side) -> None:
    raw = lambda step, frame, **more: side.raw(step, frame, "ApiVersions", 0, **more)  # noqa: E731
    raw("good", VERSIONS_1[:2] + b"\x00\x00" + VERSIONS_1[4:])
    raw("ApiVersions of a version that is not", header(18, 99) + b"\x00\xff\xff")
    raw("ApiVersions of version -1", header(18, -1))
    raw("an unknown API", header(999, 0))
    raw("API -1", header(-1, 0))
    raw("LeaderAndIsr, which has been removed", header(4, 0))
    raw("an API of the controller", header(62, 0))
    raw("Metadata of a version that is not", header(3, 99))
    raw("Metadata of version -1", header(3, -1))
    raw("Fetch 3, which has been removed", header(1, 3))
    raw("length 0", b"")
    raw("a length below 0", struct.pack(">i", -1) + b"\x00" * 16, sized=False)
    raw("a length of 2 GB", struct.pack(">i", 0x7FFFFFFF) + b"\x00" * 16, sized=False)
    raw("a length of 100 MB and 1", struct.pack(">i", (100 << 20) + 1) + b"\x00" * 16, sized=False)
    raw("a header cut short", header(18, 0)[:6])
    raw("a client id cut short", struct.pack(">hhih", 18, 0, 7, 100) + b"ab")
    raw("a client id of length -2", struct.pack(">hhih", 18, 0, 7, -2))
    raw("a client id that is no UTF-8", struct.pack(">hhih", 18, 0, 7, 2) + b"\xff\xfe")
    raw("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", sized=False)
    raw("bytes after the body of ApiVersions 0", header(18, 0) + b"\x00\x01\x02")


@case("Metadata")
def frame_of_metadata(side: Side) -> None:
    # Topics: a count alone, in both encodings, and nothing behind it.
    flexible = side.version >= 9
    head = header(3, side.version) + (b"\x00" if flexible else b"")
    counts = {"huge": b"\xff\xff\xff\xff\x07", "of 3": b"\x04", "bad varint": b"\xff" * 6} if flexible else {
        "huge": struct.pack(">i", 0x7FFFFFFF), "of 3": struct.pack(">i", 3), "below null": struct.pack(">i", -5)}
    for label, count in counts.items():
        side.raw(f"a count {label}", head + count, "Metadata", side.version)


def cut_and_lengthened(api: str, side: Side, body: dict) -> None:
    frame = side.codec.encode(api, side.version, body, 7, "c")
    side.raw("good", frame, api, side.version)
    for cut in sorted({1, 2, 3, 5, 9, len(frame) // 3} & set(range(1, len(frame) - 10))):
        side.raw(f"{cut} bytes cut off", frame[:-cut], api, side.version)
    side.raw("two bytes more", frame + b"\x00\x00", api, side.version)
    if side.version and side.codec.ask(op="header", api=side.codec.key(api), version=side.version)["request"] >= 2:
        # Tagged fields end the body: two that no version has, in order and then not.
        unknown = b"\x02" + b"\x64\x01a" + b"\x65\x01b"
        side.raw("unknown tagged fields", frame[:-1] + unknown, api, side.version)
        side.raw("tagged fields out of order", frame[:-1] + b"\x02" + b"\x65\x01b" + b"\x64\x01a", api, side.version)
        side.raw("a tagged field twice", frame[:-1] + b"\x02" + b"\x64\x01a" + b"\x64\x01a", api, side.version)
        side.raw("a tagged field too long", frame[:-1] + b"\x01" + b"\x64\x7fa", api, side.version)


@case("FindCoordinator")
def frame_of_find_coordinator(side: Side) -> None:
    cut_and_lengthened("FindCoordinator", side, {"key": "k", "keyType": 0, "coordinatorKeys": ["k"]})


@case("DescribeGroups")
def frame_of_describe_groups(side: Side) -> None:
    cut_and_lengthened("DescribeGroups", side, {"groups": ["frame-none"], "includeAuthorizedOperations": False})


@case("Produce", versions=range(3, 14))
def frame_of_produce(side: Side) -> None:
    cut_and_lengthened("Produce", side, produce(side.topic(), side.codec.batch({"value": "v"})))


@case("Produce", versions=range(0, 3))
def frame_of_old_produce(side: Side) -> None:
    side.raw("advertised, but not served", header(0, side.version) + struct.pack(">hii", -1, 1000, 0), "Produce", side.version)
