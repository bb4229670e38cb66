"""Filters: what is done to a document's text, and what drops it with a reason.

Each module has `build(config)`, which loads what the filter needs; those that read files have `inputs(config)`, their
paths; those that may lack something have `check(config)`, which finds it before any work.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data_prep.filters import (
    c4_quality,
    cleaning,
    custom,
    decontaminate,
    fineweb_quality,
    gopher_quality,
    gopher_repetition,
    language,
    overlap,
    personal_data,
    url,
)
from data_prep.filters.base import Filter, HeldOutSet
from pipeline.config.prep.filters import Cleaning
from pipeline.config.prep.filters import Filter as FilterConfig

_BUILD: dict[str, Callable[[Any], Filter]] = {
    "gopher_quality": gopher_quality.build,
    "gopher_repetition": gopher_repetition.build,
    "c4_quality": c4_quality.build,
    "fineweb_quality": fineweb_quality.build,
    "url": url.build,
    "language": language.build,
    "personal_data": personal_data.build,
    "custom": custom.build,
    "decontaminate": decontaminate.build,
}
_INPUTS: dict[str, Callable[[Any], list[str]]] = {
    "url": url.inputs,
    "language": language.inputs,
    "custom": custom.inputs,
    "decontaminate": decontaminate.inputs,
}
_CHECK: dict[str, Callable[[Any], object]] = {
    "url": url.check,
    "language": language.check,
    "custom": custom.check,
    "decontaminate": decontaminate.inputs,
}


def build_filters(cleaning_config: Cleaning, filters: Sequence[FilterConfig]) -> list[tuple[str, Filter]]:
    """Name and filter of each step, cleaning first. Word lists, models and n-grams are loaded now.

    Raises:
        ConfigError: A value, file or function does not fit; `check_filters` finds it sooner.
        CorpusError: A file is damaged.
        MissingDependencyError: An optional package is needed.
    """
    built = [cleaning.build(cleaning_config), *(_BUILD[config.type](config) for config in filters)]
    return list(zip(step_names(filters), built, strict=True))


def step_names(filters: Sequence[FilterConfig]) -> list[str]:
    """Names of the steps in the order in which they run: reasons begin with them."""
    return ["cleaning", *_distinct([config.type for config in filters])]


def build_held_out(held_out: HeldOutSet, work: Path) -> tuple[str, Filter]:
    """Name and filter of the last step of a source that is appended: no part of any config's list."""
    return "held_out", overlap.build(work / held_out.path, held_out.ngram, held_out.max_share)


def modules_of(filters: Sequence[FilterConfig], held_out: HeldOutSet | None) -> list[str]:
    """Names of the modules that cleaning and some filters run."""
    last = [overlap.__name__] if held_out else []
    return sorted({cleaning.__name__, *(_BUILD[config.type].__module__ for config in filters), *last})


def _distinct(types: Sequence[str]) -> list[str]:
    """`gopher_quality`, and for the second of that type `gopher_quality_2`."""
    counts = [types[: place + 1].count(type_) for place, type_ in enumerate(types)]
    return [type_ if count == 1 else f"{type_}_{count}" for type_, count in zip(types, counts, strict=True)]


def filter_inputs(filters: Sequence[FilterConfig]) -> list[str]:
    """Paths of the files that decide what some filters do. Raises ConfigError if a glob matches none."""
    return [path for config in filters if config.type in _INPUTS for path in _INPUTS[config.type](config)]


def check_filters(filters: Sequence[FilterConfig]) -> None:
    """Find before any work what would stop it.

    Raises:
        ConfigError: A file or function is missing, a checksum is wrong, a value does not fit.
        MissingDependencyError: An optional package is needed.
    """
    for config in filters:
        if config.type in _CHECK:
            _CHECK[config.type](config)


def check_cleaning(cleaning_config: Cleaning) -> None:
    """Raises MissingDependencyError if cleaning needs a package that is not installed."""
    cleaning.build(cleaning_config)
