"""What is raised: a mistake of the user, or a run that failed."""

from __future__ import annotations

from typing import ClassVar


class AnamorphError(Exception):
    """An error whose message is one line for the user: what is wrong, and how to mend it."""

    exit_code: ClassVar[int] = 1

    def __str__(self) -> str:
        # Names and values from files may hold line breaks.
        return " ".join(super().__str__().splitlines())


class UserError(AnamorphError):
    """The input or the settings are wrong; nothing was written."""

    exit_code = 2


class RegistrationFailure(AnamorphError):
    """The input was sound, but the run could not be finished; nothing was written."""

    exit_code = 1


def out_of_memory_failure(error: Exception) -> RegistrationFailure | None:
    """One line for Python's and NumPy's MemoryError and for what PyTorch raises instead; None for other errors."""
    text = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return RegistrationFailure(
            "memory ran out; lower --max-memory, crop the scans or resample them to larger voxels"
        )
    return None


def failure_line(error: Exception) -> str:
    """One line for whatever made one of many scans or pairs fail."""
    known = out_of_memory_failure(error) or error
    if isinstance(known, AnamorphError):
        return str(known)
    return f"{type(known).__name__}: {' '.join(str(known).split())[:200]}"
