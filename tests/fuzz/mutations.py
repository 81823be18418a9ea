"""Damage to files: of their bytes, their words and lines, their JSON values, their tensors, their place."""

import copy
import json
import random
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEEP, LONG = "[" * 3_000, "x" * 3_000  # deeper than the recursion limit; longer than any name
HUGE = ["[" * 100_000, "x" * 100_000, "9" * 100_000]  # take a reader milliseconds: rarely
_RARE = 0.03
WORDS = re.findall(
    r"\S+", "nan -inf 1e999 -1 0 1e-320 1e300 -1.#IND x 1_0 1.5 2147483648 ../../x.png /etc 9999999999"
)
WORDS += ["9" * 5_000, "", LONG, DEEP, "\x1b[31m", "\u0663", "\udce9", "a\x00b"]
VALUES = json.loads(
    '[null, true, -1, 0, 1e300, -1.5, NaN, Infinity, "", "x", [], {}, [[]], {"a": 1}, [1, [2]]]'
)
VALUES += [10**400, 2**63, "\ud800", LONG, "../../x.png", "a\x00b", "9" * 300]
NUMBERS = [0, 1, 2, *(2**bits + more for bits in (7, 8, 15, 16, 31, 32, 40, 63, 64) for more in (-1, 0))]
ENCODINGS = ["utf-8-sig", "utf-16", "utf-32", "latin-1", "utf-16-le", "cp500"]
Mutation = Callable[[random.Random, bytes], bytes]


def mutate(chance: random.Random, root: Path, files: dict[str, bytes]) -> dict[str, bytes]:
    """Damage one to three times one of the `files` (name -> content) that lie in `root`, or where it lies.

    Returns the files whose content was damaged.
    """
    damaged: dict[str, bytes] = {}
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        name = chance.choice(list(files))
        if chance.random() < 0.03:
            _misplace(chance, root / name, root)
            return damaged
        data = damaged.get(name, files[name])
        damaged[name] = chance.choice(_mutations(Path(name), data))(chance, data)[: 4 << 20]
        (root / name).write_bytes(damaged[name])
    return damaged


def _mutations(path: Path, data: bytes) -> list[Mutation]:
    found: list[Mutation] = [_cut, _flip, _number, _shuffle]
    if path.suffix == ".safetensors":
        return [*found, _header, _header, _header]
    if b"\0" not in data and data.isascii():
        found += [_word, _word, _line, _encode]
    if path.suffix in (".json", ".jsonl"):
        found += [_json, _json, _json]
    return found


def _misplace(chance: random.Random, path: Path, root: Path) -> None:
    """A folder, a link to itself or nothing in the place of a file or its folder."""
    path = path.parent if chance.random() < 0.3 and path.parent != root else path
    path.rename(root.with_name("misplaced"))
    kind = chance.randrange(3)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        path.symlink_to(path.name)


def _cut(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    return chance.choice([data[:at], data[at:], data + data[:at], data[:at] + bytes(100) + data[at:], b""])


def _flip(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(chance.choice([1, 1, 2, 8])):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _number(chance: random.Random, data: bytes) -> bytes:
    layout = chance.choice(["B", "<H", ">H", "<I", ">I", "<Q", ">Q", "<d", "<f"])
    size, number = struct.calcsize(layout), chance.choice(NUMBERS)
    if layout[-1] in "df":
        packed = struct.pack(layout, chance.choice([float("nan"), float("inf"), -1.0, 0.0, 1e30, 1e-40]))
    else:
        packed = struct.pack(layout, number % 256**size)
    at = chance.randrange(max(1, len(data) - size + 1))
    return data[:at] + packed + data[at + size :]


def _shuffle(chance: random.Random, data: bytes) -> bytes:
    at, size = chance.randrange(len(data) + 1), chance.choice([1, 4, 8, 64])
    part, rest = data[at : at + size], data[:at] + data[at + size :]
    to = chance.randrange(len(rest) + 1)
    return chance.choice([rest, rest[:to] + part + rest[to:], data[:at] + 3 * part + data[at:]])


def _a_word(chance: random.Random) -> str:
    return chance.choice(HUGE if chance.random() < _RARE else WORDS)


def _word(chance: random.Random, data: bytes) -> bytes:
    parts = re.split(r"(\s+|[,:])", data.decode())
    parts[chance.randrange(0, len(parts), 2)] = _a_word(chance)
    return "".join(parts).encode(errors="surrogateescape")


def _line(chance: random.Random, data: bytes) -> bytes:
    lines = data.decode().split("\n")
    at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    how = chance.randrange(4)
    if how == 0:
        del lines[at]
    elif how == 1:
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines.insert(at, lines[other] if how == 2 else _a_word(chance))
    return (
        chance.choice(["\n", "\r\n", "\r"] if how == 3 else ["\n"])
        .join(lines)
        .encode(errors="surrogateescape")
    )


def _encode(chance: random.Random, data: bytes) -> bytes:
    return data.decode().encode(chance.choice(ENCODINGS)) + chance.choice([b"", b"", b"\xff\xfe", b"\xe9"])


def _json(chance: random.Random, data: bytes) -> bytes:
    """One value of one line (a file of JSON lines) or of the whole replaced, removed or moved."""
    lines = (
        data.decode(errors="replace").split("\n") if data.count(b"\n{") else [data.decode(errors="replace")]
    )
    at = chance.randrange(len(lines))
    try:
        document = json.loads(lines[at])
    except (ValueError, RecursionError):
        return _flip(chance, data)
    lines[at] = json.dumps(replaced(chance, document))
    return "\n".join(lines).encode(errors="replace")


def replaced(chance: random.Random, document: Any) -> Any:
    """The document with one value changed."""
    holder = [copy.deepcopy(document)]
    spots: list[tuple[Any, Any]] = [(holder, 0)]
    for owner, key in spots:  # grows while it is walked
        inner = owner[key]
        if isinstance(inner, dict | list):
            spots += [(inner, k) for k in (inner if isinstance(inner, dict) else range(len(inner)))]
    owner, key = chance.choice(spots)
    how = chance.random()
    if how < 0.15 and owner is not holder:
        del owner[key]
    elif how < 0.3:
        other, name = chance.choice(spots)
        owner[key] = copy.deepcopy(other[name])
    else:
        owner[key] = chance.choice(VALUES)
    return holder[0]


def _header(chance: random.Random, data: bytes) -> bytes:
    """A safetensors file whose header was changed: shapes, types, offsets, names and metadata."""
    try:
        size = int.from_bytes(data[:8], "little")
        header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        if chance.random() < 0.6 and tensors:  # consistent, so that the library reads it
            entry = chance.choice(tensors)
            width = entry["data_offsets"][1] - entry["data_offsets"][0]
            kind = chance.choice([("F32", 4), ("F16", 2), ("I8", 1), ("I64", 8), ("F64", 8), ("BOOL", 1)])
            count = width // kind[1]
            entry["dtype"], entry["shape"] = (
                kind[0],
                chance.choice([[count], [1, count], [count, 1], [1, 1, count]]),
            )
        elif "__metadata__" in header and chance.random() < 0.6:
            name = chance.choice(sorted(header["__metadata__"]))
            header["__metadata__"][name] = chance.choice([*WORDS, "5", "null", "{}", "[1]"])
        else:
            header = replaced(chance, header)
        packed = json.dumps(header).encode(errors="replace")
    except (ValueError, RecursionError, TypeError, KeyError, IndexError, AttributeError):
        return _flip(chance, data)
    return len(packed).to_bytes(8, "little") + packed + body
