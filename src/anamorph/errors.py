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
