"""A user's own function as a filter."""

import importlib
import os
import sys
from collections.abc import Callable, MutableMapping

from data_prep.filters.base import Dropped, Filter
from data_prep.filters.modules import source_files
from pipeline.config.prep.filters import CustomFilter
from pipeline.errors import ConfigError, CorpusError

_SHOWN_CHARACTERS = 60


def build(config: CustomFilter) -> Filter:
    """Calls `function(text, metadata, **options)`; None drops the document, and so does an empty text.

    Raises:
        ConfigError: The module or function does not exist.
        CorpusError: While filtering: the function failed, or gave back something that is not text.
    """
    function = _find_function(config.function)

    def call(text: str, metadata: MutableMapping[str, str]) -> str | Dropped:
        try:
            result = function(text, metadata, **config.options)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever a user's code raises, sys.exit() too: a sentence names the place
            raise CorpusError(_sentence(config, text, f"raised {type(error).__name__}: {error}")) from error
        if result is None:
            return Dropped(config.function.partition(":")[2])
        if problem := _problem(result, metadata):
            raise CorpusError(_sentence(config, text, problem))
        return result if result.strip() else Dropped("empty")

    return call


def _problem(result: object, metadata: MutableMapping[str, str]) -> str | None:
    """What is wrong with what a function left."""
    if not isinstance(result, str):
        return f"returned {type(result).__name__}, not a string or None"
    if not all(isinstance(key, str) and isinstance(value, str) for key, value in metadata.items()):
        return "left metadata that is not strings"
    try:
        result.encode("utf-8")
    except UnicodeEncodeError:
        return "returned text with half of a surrogate pair"
    return None


def _sentence(config: CustomFilter, text: str, problem: str) -> str:
    return (
        f"custom filter {config.function} {problem}, for the document that begins {text[:_SHOWN_CHARACTERS]!r};"
        " mend the function"
    )


def check(config: CustomFilter) -> None:
    """Raises ConfigError if the module or function does not exist."""
    _find_function(config.function)


def _find_function(name: str) -> Callable[..., str | None]:
    module_name, _, function_name = name.partition(":")
    _see_working_folder()
    try:
        function: Callable[..., str | None] | None = getattr(importlib.import_module(module_name), function_name, None)
    except ImportError as error:
        raise ConfigError(
            f"custom filter: module {module_name} of function {name!r} cannot be imported ({error}); put it into the"
            " working folder, or install it"
        ) from error
    if not callable(function):
        raise ConfigError(f"custom filter: module {module_name} has no function {function_name}; correct {name!r}")
    return function


def inputs(config: CustomFilter) -> list[str]:
    """The files of a function's module and of what that imports from beside it: they tell whether it changed."""
    _see_working_folder()
    return source_files(config.function.partition(":")[0])


def _see_working_folder() -> None:
    """Let modules of the working folder be imported, after all others; a console script does not see it by itself."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
