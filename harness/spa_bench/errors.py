"""Every error a user can cause. The command line prints the message on one line and exits with code 2.

SpaBenchError
├── UsageError          a name, option or value that cannot be used (unknown sampler, n not a multiple of K)
├── CardError           a TOML card that cannot be read (unknown key, wrong type)
├── DataError           data missing or broken (a samples file with a bad line, a benchmark that is nowhere)
├── ModelError          a model or adapter that cannot be loaded or does not fit
├── SandboxError        no sandbox here that can run untrusted code
└── StoreError          a run folder that is locked, foreign or broken

Each message says what happened, the value seen and what to do about it.
"""


class SpaBenchError(Exception):
    """Base of all errors a user can cause."""


class UsageError(SpaBenchError):
    """A name, option or value that cannot be used."""


class CardError(SpaBenchError):
    """A TOML card that cannot be read."""


class DataError(SpaBenchError):
    """Data that is missing or broken."""


class ModelError(SpaBenchError):
    """A model or adapter that cannot be loaded or does not fit."""


class SandboxError(SpaBenchError):
    """No sandbox here that can run untrusted code."""


class StoreError(SpaBenchError):
    """A run folder that is locked, foreign or broken."""


def with_message(error: SpaBenchError, message: str) -> SpaBenchError:
    """An error like `error` with this message, of one of the classes above: others may take more than a message."""
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == __name__)
    made: SpaBenchError = kind(message)
    return made
