"""Errors meant for the person at the keyboard: the value, the limit, the remedy."""


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


class GateClosedError(TudsrError):
    """The metric gate refused the model; the message lists the reasons."""


class RegistryError(TudsrError):
    """A model version, alias or ledger entry that cannot be found or changed."""
