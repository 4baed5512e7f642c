"""Ways to damage a valid file, in its bytes or in its content; `scripts/fuzz.py` reads the damaged files."""

import io
import json
import random
import re
import zipfile
from typing import Any, Final

import numpy as np

HOSTILE: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    -1,
    0,
    1,
    1.5,
    1e308,
    float("nan"),
    float("inf"),
    2**63,
    10**40,
    "",
    "0",
    "\0",
    "\ud800",
    "\x1b[31mred",
    "two\nlines",
    "\u202eright to left",
    "../../../../etc/passwd",
    "/dev/zero",
    "=1+1",
    "<script>alert(1)</script>",
    "%s{0}",
    "a" * 10_000,
    "é" * 300,
    [],
    {},
    [[]],
    [0] * 1000,
    {"a": {"b": {"c": None}}},
    {"": ""},
)
"""Values that may replace a valid one in a document."""

WORDS: Final = (
    *(str(value) for value in HOSTILE if not isinstance(value, str)),
    *(value for value in HOSTILE if isinstance(value, str)),
    "9" * 5000,
    "-9" * 200,
    "0x10",
    "1_000",
    "1e999",
    "١٢٣",
    '"',
    "'",
    ",",
    ":",
    "*a",
    "&a [*a, *a]",
    "!!python/object/apply:os.system [id]",
    "2020-13-45",
    "12:30:45",
    "---\n",
    "\t",
    "\ufeff",
    "{" * 3000,
    "[" * 100_000,
)
"""Texts that may replace a word."""


def damage_bytes(rng: random.Random, content: bytes) -> bytes:
    """Make one to four faults in bytes: flip, cut, insert, repeat, move or overwrite them with extreme numbers."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 64, 1024))
        match rng.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = rng.randbytes(length)
            case 3:
                data[at:at] = data[at : at + length]
            case 4:
                del data[at:]
            case 5:
                other = rng.randrange(len(data) + 1)
                data[at : at + length] = data[other : other + length]
            case _:
                width = rng.choice((1, 2, 4, 8))
                number = rng.choice((0, 1, 2 ** (8 * width - 1), 2 ** (8 * width) - 1))
                data[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
        if not data:
            break
    return bytes(data)


def damage_text(rng: random.Random, content: bytes) -> bytes:
    """Replace one to three words or lines, and sometimes damage the bytes as well."""
    text = content.decode("utf-8")
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.2:
            lines = text.splitlines(keepends=True) or [""]
            at = rng.randrange(len(lines))
            lines[at : at + rng.randint(0, 2)] = rng.choices(lines, k=rng.randint(0, 2))
            text = "".join(lines)
        elif words := list(re.finditer(r"[^\s,:{}\[\]\"]+", text)):
            word = rng.choice(words)
            text = text[: word.start()] + rng.choice(WORDS) + text[word.end() :]
    changed = text.encode("utf-8", "surrogatepass")
    return damage_bytes(rng, changed) if rng.random() < 0.1 else changed


def damage_json(rng: random.Random, content: bytes) -> bytes:
    """Replace one to three values, names or entries of a JSON document, or damage its text."""
    if rng.random() < 0.2:
        return damage_text(rng, content)
    document = json.loads(content)
    for _ in range(rng.randint(1, 3)):
        document = _damaged_value(rng, document)
    return json.dumps(document, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")


def _damaged_value(rng: random.Random, document: Any) -> Any:
    if not isinstance(document, dict | list) or not document or rng.random() < 0.05:
        return rng.choice(HOSTILE)
    if isinstance(document, list):
        at = rng.randrange(len(document))
        entries = {0: [], 1: [document[at], document[at]]}.get(rng.randrange(6))
        return document[:at] + (entries or [_damaged_value(rng, document[at])]) + document[at + 1 :]
    name, changed = rng.choice(list(document)), document.copy()
    match rng.randrange(6):
        case 0:
            del changed[name]
        case 1:
            changed[str(rng.choice(WORDS))] = changed.pop(name)
        case _:
            changed[name] = _damaged_value(rng, document[name])
    return changed


def damage_lines(rng: random.Random, content: bytes) -> bytes:
    """Damage some lines of JSON with `damage_json`."""
    lines = content.splitlines(keepends=True)
    for at in rng.sample(range(len(lines)), k=min(len(lines), rng.randint(1, 2))):
        lines[at] = damage_json(rng, lines[at]) + b"\n"
    return b"".join(lines)


def damage_members(rng: random.Random, content: bytes) -> bytes:
    """Damage members of an NPZ file before they are packed, so that all checksums are correct."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name in rng.sample(sorted(members), k=rng.randint(1, 2)):
        member = members[name]
        if rng.random() < 0.3:
            array = np.load(io.BytesIO(member), allow_pickle=False)
            kind = rng.choice(("u1", "<i8", ">i8", "f8", "f2", "?", "c8", "S3", "U2", "M8[s]", "V4"))
            stream = io.BytesIO()
            shape = rng.choice((array.shape, array.shape[::-1], (0,), (), (*array.shape, 1), (array.size,)))
            filled = np.zeros(shape, kind)
            np.save(stream, filled)
            members[name] = stream.getvalue()
        else:
            end = 10 + int.from_bytes(member[8:10], "little")
            header = (damage_text if rng.random() < 0.7 else damage_bytes)(rng, member[10:end])
            length = len(header) % 65536 if rng.random() < 0.9 else rng.randrange(65536)
            members[name] = member[:8] + length.to_bytes(2, "little") + header + member[end:]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, member in members.items():
            archive.writestr(zipfile.ZipInfo(name), member, archive.compression)
    return packed.getvalue()


def damage_tensors(rng: random.Random, content: bytes) -> bytes:
    """Damage the header of a safetensors file but keep its length correct, or damage the bytes."""
    if rng.random() < 0.3:
        return damage_bytes(rng, content)
    length = int.from_bytes(content[:8], "little")
    head = damage_json(rng, content[8 : 8 + length])
    return len(head).to_bytes(8, "little") + head + content[8 + length :]
