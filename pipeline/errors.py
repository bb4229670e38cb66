"""The errors a user can cause.

Each carries one sentence that names the field, its value and the cure. Library code raises them;
only the command line turns them into an exit status.
"""

from collections.abc import Mapping
from typing import Any


class TarmacError(Exception):
    """Something the user can mend. The message is one clear sentence; the exit status is `exit_code`."""

    exit_code = 2
    on_all_ranks = False
    """Whether every rank of the job raises it, so that one of them telling it is enough."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Ranks send errors to each other; one that is made of several values is not made again from its sentence."""
        return _restored, (type(self), self.args, self.__dict__)


class ConfigError(TarmacError):
    """A config key is unknown, missing, of the wrong type, or contradicts another."""


class CorpusError(TarmacError):
    """A corpus is missing, damaged, empty, or does not fit what is asked of it."""


class TokenizerError(TarmacError):
    """A tokenizer is unknown, cannot be loaded, or differs from the one something else was made with."""


class CheckpointError(TarmacError):
    """A checkpoint is missing, damaged, or belongs to another model."""


class FormatError(CheckpointError):
    """A checkpoint is whole, as far as can be told, and of another version of the format."""


class UnreadableError(CheckpointError):
    """Nothing says that a checkpoint is damaged: this process cannot read it."""


class RunError(TarmacError):
    """A run folder cannot be used as asked: locked, made by another config, or incomplete."""


class LockLostError(RunError):
    """Another job took over the run folder; this one must write nothing more into it."""


class DivergenceError(TarmacError):
    """Losses or gradients are no numbers, step after step; no update was made with them."""

    exit_code = 1
    on_all_ranks = True


class MemoryShortError(TarmacError):
    """A rank needs more memory than it can get."""


class PeerLostError(TarmacError):
    """Another rank of the job ended; this one cannot go on."""

    exit_code = 1


class ExportError(TarmacError):
    """An export was refused because it would not behave as the trained model does."""


class MissingDependencyError(TarmacError):
    """An optional package is needed; the message holds the install command."""


class GenerationError(TarmacError):
    """A prompt or a sampling setting does not fit the model."""


class EvaluationError(TarmacError):
    """A measured figure does not meet a demand of the config. The figures are written all the same."""

    exit_code = 1


class UnhealthyError(TarmacError):
    """A node of the job is not fit to train."""

    exit_code = 87
    on_all_ranks = True


def _restored(kind: type[TarmacError], args: tuple[Any, ...], values: Mapping[str, Any]) -> TarmacError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(values)
    return error
