"""Errors meant for the person at the keyboard: the value, the limit, the remedy."""

EXIT_INTERRUPTED = 75
"""Exit code of a training that was told to stop and has saved (``EX_TEMPFAIL``: try again)."""


class TudsrError(Exception):
    """A mistake in input, settings or environment, with a sentence that says how to mend it.

    The command line prints the message alone; a traceback would hide the remedy.
    """


class SettingsError(TudsrError):
    """A profile or setting that cannot be used."""


class DataError(TudsrError):
    """Photographs, pairs or tables that are missing, damaged or too few."""


class ImageError(TudsrError):
    """A picture that cannot be read, is not supported or is too large.

    Attributes:
        code: a stable identifier for programs, such as ``truncated`` or ``animated``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ModelError(TudsrError):
    """A base, adapter or bundle that is missing, incomplete or does not match."""


class TrainingError(TudsrError):
    """Training that cannot start or go on, such as a loss that is not finite."""


class Interrupted(TudsrError, SystemExit):  # noqa: N818 - nothing went wrong
    """A signal ended training after its step was finished and saved; starting again goes on.

    It is a ``SystemExit`` too: where nobody catches it, the process ends with code 75, be it the
    command line, a rank of several or an orchestrator's step in a process of its own.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = EXIT_INTERRUPTED


class GateClosedError(TudsrError):
    """The metric gate refused the model; the message lists the reasons."""


class RegistryError(TudsrError):
    """A model version, alias or ledger entry that cannot be found or changed."""
