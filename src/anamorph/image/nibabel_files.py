"""NIfTI, Analyze and MGH files, opened by nibabel within bounds."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from anamorph.errors import UserError
from anamorph.image.bounds import GZIP_SHRINKS, BoundedGzip, check_regular_file, check_values
from anamorph.image.gzip_stream import GZIP_MAGIC

SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".mgz", ".mgh")
_ZIPPED = (".nii.gz", ".mgz")
_LONGEST_SNIFF = 540
_LONGEST_HEADER = 1 << 26


def import_alone() -> None:
    """Import nibabel without pydicom, which it looks for because of an extension of headers that nothing here reads.

    This takes half the time. It is for commands, before the first file is read; programs may want that extension.
    """
    if "nibabel" in sys.modules or "pydicom" in sys.modules:
        return
    sys.modules["pydicom"] = None  # type: ignore[assignment]
    try:
        import nibabel  # noqa: F401
    finally:
        del sys.modules["pydicom"]


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A nibabel image whose header alone is read; its values can be read inside the block.

    A gzip stream gives no more than its size lets expect, so headers and their extensions cannot ask for more.

    Raises:
        UserError: a pipe or device, values out of proportion to the file.
        OSError, nibabel errors: no file of its kind.
    """
    import nibabel

    check_regular_file(path)
    with path.open("rb") as file:
        zipped = file.read(2) == GZIP_MAGIC
    if zipped and path.name.lower().endswith(_ZIPPED):
        with BoundedGzip(path) as stream:
            image = _from_stream(stream, path)
            check_volume(image, path)
            yield image
        return
    for partner in _pair(path):
        check_regular_file(partner)
    image = nibabel.load(path)
    check_volume(image, path)
    yield image


def check_rest(image: Any) -> None:
    """Read what is left of the gzip stream of an open image, up to its check sum.

    Raises:
        OSError, EOFError: it is damaged.
    """
    stream = image.file_map["image"].fileobj
    if isinstance(stream, BoundedGzip):
        stream.check_rest()


def check_volume(image: Any, path: Path) -> None:
    """See that the file of a nibabel image can hold the voxels that its header announces.

    Raises:
        UserError: it cannot, or is as small as only a trap is.
    """
    file = Path(image.file_map["image"].filename or path)
    size = file.stat().st_size
    voxels = math.prod(int(n) for n in image.shape)
    zipped = file.suffix.lower() in (".gz", ".mgz")
    stored = voxels * int(image.get_data_dtype().itemsize)
    check_values(file.name, stored, size, size * (GZIP_SHRINKS if zipped else 1))
    if is_scaled(image):
        check_values(file.name, voxels * np.dtype(np.float32).itemsize, size)


def is_scaled(image: Any) -> bool:
    """True if the header gives a slope and intercept other than 1 and 0."""
    proxy = image.dataobj
    return (getattr(proxy, "slope", 1.0), getattr(proxy, "inter", 0.0)) != (1.0, 0.0)


def _from_stream(stream: BoundedGzip, path: Path) -> Any:
    import nibabel
    from nibabel.fileholders import FileHolder

    start = stream.read(_LONGEST_SNIFF)
    stream.seek(0)
    kinds: list[Any] = (
        [nibabel.MGHImage] if path.name.lower().endswith(".mgz") else [nibabel.Nifti1Image, nibabel.Nifti2Image]
    )
    for kind in kinds:
        if kind is nibabel.MGHImage:  # reads what follows the voxels too, so it has to pass all of them
            check_values(path.name, math.prod(int(n) for n in np.frombuffer(start[4:20], ">i4")), stream.packed)
        elif not kind.header_class.may_contain_header(start):
            continue
        holder = FileHolder(fileobj=stream)
        stream.longest_header = None if kind is nibabel.MGHImage else _LONGEST_HEADER
        image = kind.from_file_map({name: holder for name, _ in kind.files_types})
        stream.longest_header = None
        return image
    raise UserError(f"{path}: cannot be read as an image (no NIfTI header); is it complete and of a known format?")


def _pair(path: Path) -> list[Path]:
    """The other file of a pair of header and voxels, if it is there."""
    other = {".hdr": ".img", ".img": ".hdr"}.get(path.suffix.lower())
    names = [] if other is None else [path.with_suffix(other), path.with_suffix(other.upper())]
    return [name for name in names if name.exists()]
