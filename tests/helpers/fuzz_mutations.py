"""Damage done to sound files: bytes, lines, fields of headers, nodes of JSON, arrays and members of archives.

Every mutation takes bytes and a source of chance and gives bytes; the same chance does the same damage.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

Mutation = Callable[[bytes, Random], bytes]

MOST_BYTES = 2_000_000
NUMBERS = (
    *("0", "-1", "1", "2", "65536", "2147483647", "2147483648", "-2147483648", "9223372036854775808", "9" * 5000),
    *(
        "1e308",
        "-1e308",
        "1e999",
        "1e-320",
        "nan",
        "-nan",
        "inf",
        "-inf",
        "",
        "abc",
        "0x10",
        "1_000",
        "1,5",
        "１",
        "1e5",
    ),
)
PIECES = (b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\x1b[2J", b"\r", b"\n\n", b'"', b",", b"[" * 5000)
VALUES: tuple[Any, ...] = (
    *(None, True, False, "", "text", "\ud800", "../up", "a\nb", 0, -1, 1, 2**31, 2**63, -(2**64), 10**400),
    *(1e308, float("nan"), float("inf"), 1.5, [], {}, [[]], {"a": 1}, [None] * 3, ["text"] * 3, list(range(1000))),
)
_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
_DEEP = "a deep one"


def any_bytes(content: bytes, random: Random) -> bytes:
    """Flipped bits, runs replaced, lost, doubled or moved, and an end that comes too soon."""
    data = bytearray(content)
    at = random.randrange(len(data) + 1)
    run = min(random.choice((1, 2, 4, 16, 200)), len(data) - at)
    kind = random.randrange(8)
    if kind == 0 and run:
        for _ in range(random.choice((1, 1, 8))):
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    elif kind == 1:
        data[at : at + run] = bytes([random.choice((0, 1, 127, 128, 255))]) * run
    elif kind == 2:
        del data[at:]
    elif kind == 3:
        del data[at : at + run]
    elif kind == 4:
        data[at:at] = data[at : at + run] * random.choice((1, 2, 50))
    elif kind == 5:
        data[at:at] = random.choice(PIECES)
    elif kind == 6:
        number = random.choice((-1, 0, 2**15 - 1, 2**31 - 1, 2**63 - 1))
        data[at : at + 8] = struct.pack(random.choice("<>") + "q", number)[: max(run, 1)]
    else:
        data = bytearray(random.randbytes(random.choice((0, 1, 300)))) + data[random.choice((0, at)) :]
    return bytes(data)


def any_text(content: bytes, random: Random) -> bytes:
    """Numbers that are none or extreme, lines lost, doubled and exchanged, bytes that are no text."""
    kind = random.randrange(6)
    found = list(_NUMBER.finditer(content))
    if kind <= 2 and found:
        for one in random.sample(found, min(len(found), random.choice((1, 1, 2)))):
            content = content[: one.start()] + random.choice(NUMBERS).encode() + content[one.end() :]
        return content
    if kind == 3:
        lines = content.split(b"\n")
        at, other = random.randrange(len(lines)), random.randrange(len(lines))
        what = random.randrange(4)
        if what == 0:
            del lines[at]
        elif what == 1:
            lines[at:at] = [lines[at]] * random.choice((1, 3000))
        elif what == 2:
            lines[at], lines[other] = lines[other], lines[at]
        else:
            words = re.split(rb"([,;:= \t])", lines[at])
            words[random.randrange(len(words))] = random.choice((b"", b"text", b"1", b"=", b"\xff"))
            lines[at] = b"".join(words)
        return b"\n".join(lines)
    if kind == 4:
        return content.decode("utf-8", "replace").encode(random.choice(("utf-16", "utf-8-sig", "utf-32", "utf-16-le")))
    return any_bytes(content, random)


def headed(content: bytes, random: Random) -> bytes:
    """The text at the start of a file of voxels, or its voxels."""
    end = re.search(rb"\n\n|ElementDataFile[^\n]*\n", content)
    if end is None or random.random() < 0.2:
        return any_bytes(content, random)
    return any_text(content[: end.start()], random) + content[end.start() :]


def any_json(content: bytes, random: Random) -> bytes:
    """One node replaced, lost, renamed or made deep; the text of the whole now and then."""
    if random.random() < 0.25:
        return any_text(content, random)
    tree = json.loads(content)
    places = list(_places(tree))
    holder, key = random.choice(places) if places else ([tree], 0)
    kind = random.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[random.choice(("text", "0", "", f" {key}"))] = holder.pop(key)
    elif kind == 2:
        holder[key] = [holder[key]] * random.choice((1, 2, 300))
    elif kind == 3:
        holder[key] = _DEEP
    elif kind == 4:
        tree = random.choice(VALUES)
    else:
        holder[key] = random.choice(VALUES)
    text = json.dumps(tree, ensure_ascii=True)
    levels = random.choice((500, 100_000))
    opening, closing = random.choice((("[", "]"), ('{"a":', "}")))
    return text.replace(f'"{_DEEP}"', opening * levels + "1" + closing * levels).encode()


def _places(node: Any) -> Any:
    for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        yield from _places(node[key])


def fields(*known: tuple[int, str]) -> Mutation:
    """Numbers at known places of a binary header, little-endian."""

    def mutate(content: bytes, random: Random) -> bytes:
        if random.random() < 0.3:
            return any_bytes(content, random)
        data = bytearray(content)
        for _ in range(random.choice((1, 1, 2))):
            at, kind = random.choice(known)
            if kind == "f":
                number: Any = random.choice((0, -1, 1e-30, 1e30, 3e38, float("nan"), float("inf"), 1.0, 2.5))
            else:
                top = 2 ** (8 * struct.calcsize(kind) - 1)
                number = random.choice((0, -1, 1, 2, 3, 4, 5, 7, 16, 64, 128, 512, 1007, top - 1, -top))
                number = max(-top, min(top - 1, number))
            data[at : at + struct.calcsize(kind)] = struct.pack("<" + kind, number)
        return bytes(data)

    return mutate


NIFTI = fields(
    *((40 + 2 * n, "h") for n in range(8)),
    *((76 + 4 * n, "f") for n in range(8)),
    *((at, "h") for at in (68, 70, 72, 252, 254)),
    *((at, "f") for at in (108, 112, 116)),
    *((256 + 4 * n, "f") for n in range(18)),
    (0, "i"),
    (123, "b"),
    (344, "i"),
)


def packed(mutate: Mutation) -> Mutation:
    """What is inside of gzip; the stream itself now and then."""

    def inside(content: bytes, random: Random) -> bytes:
        if random.random() < 0.25:
            return any_bytes(content, random)
        return gzip.compress(mutate(gzip.decompress(content), random), mtime=0)

    return inside


def any_array(array: np.ndarray, random: Random) -> np.ndarray:
    """Of another type, shape, order or size, or with values that are no numbers."""
    kind = random.randrange(6)
    if kind == 0:
        return array.astype(random.choice(("f2", "f8", "i1", "u2", "c8", "?", "S3", "U3")))
    if kind == 1:
        return np.moveaxis(array, -1, 0) if array.ndim else array[None]
    if kind == 2 and array.ndim and len(array):
        return array[: random.choice((0, 1, len(array) - 1))]
    if kind == 3:
        return array[None] if random.random() < 0.5 else array.ravel()
    if kind == 4 and array.dtype.kind == "f" and array.size:
        changed = array.copy()
        value = random.choice((np.nan, np.inf, 1e30, 0.0))
        changed.flat[random.randrange(array.size)] = np.asarray(value).astype(array.dtype)
        return changed
    # Nothing but zeros, which shrink a thousand times.
    many = 600_000_000 // array.itemsize
    return np.zeros(random.choice(((0,), (many,), (150, 150, 150, 3), (3, 3), ())), array.dtype)


def npz(content: bytes, random: Random) -> bytes:
    """The arrays of an ``.npz`` file, their names and number; the archive itself now and then."""
    if random.random() < 0.3:
        return any_bytes(content, random)
    with np.load(io.BytesIO(content)) as archive:
        arrays = dict(archive)
    name = random.choice([*arrays])
    kind = random.randrange(5)
    if kind == 0:
        arrays[random.choice(("text", "arr_0", "arr_1"))] = arrays.pop(name)
    elif kind == 1:
        arrays["more"] = arrays[name]
    elif kind == 2:
        arrays[name] = np.array([{"a": 1}], object)
    else:
        arrays[name] = any_array(arrays[name], random)
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def hdf5(content: bytes, random: Random) -> bytes:
    """One data set of an HDF5 file, or a link in its place; the bytes of the file now and then."""
    import h5py

    if random.random() < 0.3:
        return any_bytes(content, random)
    stream = io.BytesIO(content)
    with h5py.File(stream, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = random.choice(names)
        old = file[name]
        value = old[()] if isinstance(old, h5py.Dataset) else None
        del file[name]
        kind = random.randrange(6)
        if kind == 0:
            file[name] = random.choice((h5py.SoftLink("/"), h5py.ExternalLink("other.h5", "/"), h5py.SoftLink("/no")))
        elif kind == 1:
            file[name] = random.choice((1, "text", np.nan, np.array([], "f8"), np.zeros((2, 2)), h5py.Empty("f8")))
        elif kind == 2:
            size = random.choice((1000, 20_000_000, 2**40))
            file.create_dataset(name, (size,), "f8", chunks=(1000,), compression="gzip")
        elif kind == 3 and value is not None and np.asarray(value).dtype.kind == "f":
            file[name] = any_array(np.asarray(value), random)
        elif kind == 4 and value is not None and np.asarray(value).dtype.kind == "f":
            changed = np.array(value)
            changed.flat[random.randrange(max(changed.size, 1)) : 1] = 0
            if changed.size:
                changed.flat[random.randrange(changed.size)] = random.choice((0, -1, 1e308, np.nan, 2**31, 0.5, 1e6))
            file[name] = changed
        elif kind == 5:
            types = ("Affine", "DisplacementField", "Composite", "Euler3D", "BSpline", "TimeVaryingVelocityField", "")
            file[name] = np.array([f"{random.choice(types)}Transform_double_3_3".encode()])
    return stream.getvalue()


def safetensors(content: bytes, random: Random) -> bytes:
    """The header of a file of weights; its bytes now and then."""
    (length,) = struct.unpack("<Q", content[:8])
    if random.random() < 0.4:
        return any_bytes(content, random)
    header = any_json(content[8 : 8 + length], random)
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def dicom(content: bytes, random: Random) -> bytes:
    """One element of a DICOM file lost or of another value; its bytes now and then."""
    import pydicom

    if random.random() < 0.3:
        return any_bytes(content, random)
    dataset = pydicom.dcmread(io.BytesIO(content))
    holders = [dataset, *(item for element in dataset.iterall() if element.VR == "SQ" for item in element.value)]
    holder = random.choice([one for one in holders if len(one)])
    element = random.choice([*holder])
    if random.random() < 0.4:
        del holder[element.tag]
    elif element.VR == "SQ":
        element.value = element.value[: random.choice((0, 1))]
    elif element.VR in ("US", "SS", "UL", "SL", "FD", "FL"):
        element.value = random.choice((0, 1, 2, 32767))
    elif element.VR in ("OB", "OW", "OB or OW"):
        element.value = element.value[: random.choice((0, len(element.value) // 2))]
    elif element.VR in ("DS", "IS"):
        element.value = random.choice(("0", "-1", "1e5", "99999", "1\\2", "0\\0\\0", "", "1\\0\\0\\1\\0\\0"))
    else:
        element.value = random.choice(("", "1", "TEXT", "1.2.3", "MONOCHROME1"))
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset)
    return stream.getvalue()
