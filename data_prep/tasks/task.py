"""A task: a pure function of its fields that fills a folder."""

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from pydantic_core import to_jsonable_python

from data_prep.tasks.code import code_identity


class Task(ABC):
    """A frozen dataclass whose fields decide every byte that `run` writes.

    Fields that only say where inputs lie, not what they hold, are declared with `field(compare=False)`: they are no
    part of the key.
    """

    phase: ClassVar[str]
    """Name of the phase that it belongs to."""
    result_type: ClassVar[Any]
    """Type of what `run` returns; it is kept as JSON."""

    self_checking: ClassVar[tuple[str, ...]] = ()
    """What names of files end in that carry checksums of their own: whoever reads them sees damage."""

    @abstractmethod
    def run(self, work: Path, folder: Path) -> Any:
        """Fill `folder` and return a result. `work` is the folder that all finished tasks lie in."""

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules whose code decides the result; what these import is found from them."""
        return (type(self).__module__,)

    def changed_inputs(self, before: Any, now: Any) -> list[str]:
        """Names of inputs whose content is not what it was when the task ran before, by its results then and now."""
        return []

    @property
    def key(self) -> str:
        """32 hexadecimal digits over the fields, the code that runs and the versions of the libraries it uses."""
        whole = [self.phase, code_identity(self.modules), identity(self)]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:32]


def identity(value: Any) -> Any:
    """A value as JSON, without the fields of dataclasses that are declared with `compare=False`."""
    if dataclasses.is_dataclass(value):
        return {
            field.name: identity(getattr(value, field.name)) for field in dataclasses.fields(value) if field.compare
        }
    if isinstance(value, tuple):
        return [identity(item) for item in value]
    return to_jsonable_python(value)
