"""The errors a user may see, each with the exit code of the command line."""


class AnamorphError(Exception):
    """Base of all errors raised on purpose; the message is one line that says what is wrong and how to mend it."""

    exit_code = 1


class UserError(AnamorphError):
    """The input or the settings cannot be used; exit code 2."""

    exit_code = 2


class RegistrationFailure(AnamorphError):
    """The run itself failed; exit code 1."""
