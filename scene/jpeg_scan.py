"""JPEGs whose compressed data was cut although an end marker follows, as of damaged or repaired files.

Decoders fill what is missing with the grey 128 and raise no error. Whether a file that ends in this grey is
whole, its last bits tell: blocks that repeat their predecessor have one code, which the Huffman tables give.
"""

import math
import struct
from dataclasses import dataclass, field

import numpy as np

_FILL = 128  # of every channel, of what is missing
_END, _SCAN = b"\xff\xd9", b"\xff\xda"
_ZEROS = bytes(64)  # no code of a photo is so long a run; lost parts of files often are
_TAIL = 256  # bytes at the end of the scan that are looked at
_REPEATED = 2  # units at the end that must be the same as their predecessors
_UNIT = 16  # pixels: the width of most units, none is wider in photos


@dataclass
class _Header:
    """What precedes the first scan."""

    progressive: bool = False
    width: int = 0
    height: int = 0
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)  # by component: blocks across and down
    codes: dict[int, dict[int, str]] = field(
        default_factory=dict
    )  # by class and number of table: symbol -> bits
    restart: int = 0  # units between restart markers; 0 = there are none
    tables: dict[int, tuple[int, int]] = field(default_factory=dict)  # of the scan's components: DC, AC
    data: int = 0  # where the first scan's compressed data begins


def ends_grey(image: np.ndarray, scale: int = 1) -> bool:
    """Whether the last units of an image [H, W, 3], decoded at 1/`scale` of its size, are as if missing."""
    columns = _UNIT * (_REPEATED + 1) // scale
    return image.shape[1] >= columns and bool((image[-8 // scale :, -columns:] == _FILL).all())


def scan_is_whole(data: bytes, image: np.ndarray) -> bool:
    """Whether the compressed data of a JPEG is whole, as far as can be told from it and the decoded image."""
    try:
        header = _read_header(data)
        end = data.find(_END, header.data)
        if header.progressive or len(header.tables) < len(header.sampling):
            return _covers_all(data, header, end)
        if header.restart:
            marks = sum(data.count(bytes([0xFF, 0xD0 + number]), header.data, end) for number in range(8))
            return marks >= math.ceil(_units(header) / header.restart) - 1
        repeated = _repeated_unit(header)
    except (struct.error, KeyError, IndexError, ValueError, ZeroDivisionError):
        return True  # for the decoder to judge
    if "1" in repeated and data.find(_ZEROS, header.data, end) >= 0:
        return False
    return not ends_grey(image) or _ends_in(data[max(header.data, end - _TAIL) : end], _REPEATED * repeated)


def _read_header(data: bytes) -> _Header:
    header, position = _Header(), 2
    while True:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        content = data[position + 4 : position + 2 + length]
        position += 2 + length
        if marker in (0xC0, 0xC1, 0xC2):
            header.progressive = marker == 0xC2
            header.height, header.width = struct.unpack_from(">HH", content, 1)
            components = (content[6 + 3 * index : 9 + 3 * index] for index in range(content[5]))
            header.sampling = {part[0]: (part[1] >> 4, part[1] & 15) for part in components}
        elif marker == 0xC4:
            _read_codes(content, header.codes)
        elif marker == 0xDD:
            (header.restart,) = struct.unpack(">H", content)
        elif marker == 0xDA:
            chosen = (content[1 + 2 * index : 3 + 2 * index] for index in range(content[0]))
            header.tables = {part[0]: (part[1] >> 4, part[1] & 15) for part in chosen}
            header.data = position
            return header


def _read_codes(content: bytes, codes: dict[int, dict[int, str]]) -> None:
    """Huffman tables of a DHT segment: canonical codes in order of their lengths."""
    while content:
        table, counts, symbols = content[0], content[1:17], content[17 : 17 + sum(content[1:17])]
        codes[table], code, used = {}, 0, 0
        for length, count in enumerate(counts, start=1):
            for symbol in symbols[used : used + count]:
                codes[table][symbol] = f"{code:0{length}b}"
                code += 1
            used, code = used + count, code << 1
        content = content[17 + used :]


def _units(header: _Header) -> int:
    """Number of the scan's units (MCUs): blocks of all components that belong together."""
    across, down = 1, 1
    if len(header.sampling) > 1:
        across, down = (max(sides) for sides in zip(*header.sampling.values()))
    return math.ceil(header.width / (8 * across)) * math.ceil(header.height / (8 * down))


def _repeated_unit(header: _Header) -> str:
    """The bits of a unit whose blocks are flat and as bright as their predecessors."""
    single = len(header.sampling) == 1
    bits = ""
    for component, (dc, ac) in header.tables.items():
        across, down = (1, 1) if single else header.sampling[component]
        bits += across * down * (header.codes[dc][0] + header.codes[0x10 + ac][0])
    return bits


def _ends_in(tail: bytes, expected: str) -> bool:
    """Whether compressed data ends in these bits, and up to seven to fill the last byte."""
    bits = "".join(f"{byte:08b}" for byte in tail.replace(b"\xff\x00", b"\xff"))
    return any(bits[: len(bits) - fill].endswith(expected) for fill in range(8))


def _covers_all(data: bytes, header: _Header, end: int) -> bool:
    """Whether the scans hold every coefficient of the first component, to its last bit."""
    first, missing = min(header.sampling), set(range(64))
    position = data.rfind(_SCAN, 0, header.data)
    while 0 <= position < end:
        count = data[position + 4]
        parts = data[position + 5 : position + 5 + 2 * count : 2]
        low, high, bit = data[position + 5 + 2 * count : position + 8 + 2 * count]
        if first in parts and bit & 15 == 0:
            missing -= set(range(low, high + 1))
        position = data.find(_SCAN, position + 2)
    return not missing
