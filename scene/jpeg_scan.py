"""JPEGs whose compressed data was cut although an end marker follows, as of damaged or repaired files.

Decoders fill what is missing with the grey 128 and raise no error, and of data that was changed in the middle
they decode what it happens to mean. Such data has too many or too few bytes for the image, nearly always: a
decoder that gets the data bit by bit shows at which byte it has the last row.
"""

import io
import math
import re
import struct
from dataclasses import dataclass, field

from PIL import Image

# What Pillow raises for damaged files, which depends on the format.
PILLOW_ERRORS = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, OverflowError,
                  EOFError, struct.error, RuntimeError, AttributeError, MemoryError)  # fmt: skip
_END, _SCAN = b"\xff\xd9", b"\xff\xda"
_MARKER = re.compile(rb"\xff[^\x00\xff\xdc]")  # none is within a scan without restarts; 0xdc may follow it
_ZEROS = bytes(64)  # no code of a photo is so long a run; lost parts of files often are
_SURPLUS = 8  # bytes that are left over in damaged data; fewer are of no visible damage
_LOOKAHEAD = bytes(16)  # decoders want some bytes more than they use
_MOST_PIXELS = 2**26  # of images that are decoded to find out; Pillow refuses larger ones, or warns of them
_WHOLE: set[int] = set()  # hashes of data that was found to be whole
_MOST_WHOLE = 100_000
_SHRUNK = 8  # times smaller the image is decoded: only its last row is needed


@dataclass
class _Header:
    """The headers before the first scan."""

    progressive: bool = False
    sequential: bool = False  # with Huffman codes
    width: int = 0
    height: int = 0
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)  # by component: blocks across and down
    codes: dict[int, dict[int, str]] = field(
        default_factory=dict
    )  # by class and number of table: symbol -> bits
    restart: int = 0  # units between restart markers; 0 = there are none
    tables: dict[int, tuple[int, int]] = field(default_factory=dict)  # of the scan's components: DC, AC
    data: int = 0  # where the first scan's compressed data begins


def scan_is_whole(data: bytes) -> bool:
    """Whether the compressed data of a JPEG is whole, as far as can be told without its pixels.

    An image that training decodes again and again is examined once.
    """
    key = hash(data)
    if key not in _WHOLE:
        if not _is_whole(data):
            return False
        if len(_WHOLE) >= _MOST_WHOLE:
            _WHOLE.clear()
        _WHOLE.add(key)
    return True


def _is_whole(data: bytes) -> bool:
    try:
        header = _read_header(data)
        end = data.find(_END, header.data)
        if header.progressive or len(header.tables) < len(header.sampling):
            return _covers_all(data, header, end)
        if header.restart:
            marks = sum(data.count(bytes([0xFF, 0xD0 + number]), header.data, end) for number in range(8))
            damaged = marks < math.ceil(_units(header) / header.restart) - 1
        else:
            hole = "1" in _repeated_unit(header) and data.find(_ZEROS, header.data, end) >= 0
            damaged = hole or _MARKER.search(data, header.data, end) is not None
        if damaged or not header.sequential or header.width * header.height > _MOST_PIXELS:
            return not damaged
        return _fits(data, header.data, end)
    except (*PILLOW_ERRORS, ZeroDivisionError):
        return True  # for the decoder to judge


def _fits(data: bytes, start: int, end: int) -> bool:
    """Whether the scan from `start` to `end` has as many bytes as its image needs."""
    used = len(data[:end].rstrip(b"\xff\0"))
    if end - used >= len(_ZEROS):  # more than some cameras add to fill a sector
        used = end
    if _shows_last_row(data[: max(start, used - _SURPLUS)]):
        return False
    if _shows_last_row(data[:end] + _LOOKAHEAD):
        return True
    return not _shows_last_row(data)  # if it is black, there is no telling


def _shows_last_row(data: bytes) -> bool:
    """Whether the last row of the image is decoded from these bytes (of a grey image, if it is not black)."""
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        image.draft("YCbCr", (image.width // _SHRUNK, image.height // _SHRUNK))
        try:
            image.load()
        except OSError:  # the data ends before the image; rows that are not decoded are black
            image.tile = []
        return image.crop((0, image.height - 1, image.width, image.height)).getbbox() is not None


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
            header.progressive, header.sequential = marker == 0xC2, marker != 0xC2
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
