"""The points of a legacy VTK file (.vtk), and the file with others in their place.

meshio reads no POLYDATA, in which 3D Slicer and tractography write surfaces and streamlines, and the VTK library is
100 MB. Only the points change, so all other bytes are kept as they are: lines, cells, values, the title.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anamorph.errors import UserError
from anamorph.image.bounds import check_regular_file

_POINTS = re.compile(rb"^POINTS[ \t]+(\d+)[ \t]+(float|double)[ \t]*\r?\n", re.MULTILINE)
HEAD = 1024
"""Title and kind stand in the first lines."""
_TYPES = {b"float": ">f4", b"double": ">f8"}


@dataclass(eq=False)
class VtkPoints:
    """The points of a file, and what stands before and behind them.

    Args:
        points: ``(N, 3)`` in the frame and unit of the file.
        before: all up to the points.
        behind: all that follows.
        binary: whether points are stored as numbers, not as text.
    """

    points: np.ndarray
    before: bytes
    behind: bytes
    binary: bool

    @property
    def has_normals(self) -> bool:
        """Whether the file holds vectors that turn with the surface."""
        return b"\nNORMALS " in self.behind

    @classmethod
    def read(cls, path: Path) -> VtkPoints:
        """Read a file.

        Raises:
            UserError: it is none of legacy VTK with points, or cut off.
        """
        check_regular_file(path)
        content = path.read_bytes()
        found = _POINTS.search(content)
        kind = re.search(rb"^(ASCII|BINARY)[ \t]*\r?$", content[:HEAD], re.MULTILINE)
        if not content.startswith(b"# vtk DataFile") or found is None or kind is None:
            raise UserError(f"{path}: no legacy VTK file with points of float or double; export it as such")
        count, dtype = 3 * int(found[1]), np.dtype(_TYPES[found[2]])
        rest = content[found.end() :]
        binary = kind[1] == b"BINARY"
        if count > len(rest):  # two bytes each at least
            raise UserError(f"{path}: announces more points than it holds; is it complete?")
        if binary:
            behind = rest[count * dtype.itemsize :]
            numbers = np.frombuffer(rest[: count * dtype.itemsize], dtype)
        else:
            words = rest.split(None, count)
            behind = b"\n" + words[count] if len(words) > count else b"\n"
            numbers = np.array(words[:count], dtype.newbyteorder("="))
        if len(numbers) != count:
            raise UserError(f"{path}: announces more points than it holds; is it complete?")
        return cls(numbers.reshape(-1, 3), content[: found.end()], behind, binary)

    def write(self, path: Path) -> None:
        """Write the file with the points as they are now."""
        if self.binary:
            text = np.ascontiguousarray(self.points, self.points.dtype.newbyteorder(">")).tobytes()
        else:
            rows = self.points.astype(np.float64).tolist()
            text = "\n".join(" ".join(f"{value:.9g}" for value in row) for row in rows).encode()
        path.write_bytes(self.before + text + self.behind)
