"""Language identification. The language found becomes metadata `language`, also of documents that are dropped."""

import hashlib
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

from data_prep.filters.base import Dropped, Filter
from pipeline.config.prep.filters import LanguageFilter
from pipeline.errors import ConfigError, MissingDependencyError

UNKNOWN = "unknown"
_LABEL = "__label__"

Detector = Callable[[str], str]
"""text -> code of its language, or `unknown`."""


def build(config: LanguageFilter) -> Filter:
    """Keeps texts in some languages.

    Raises:
        ConfigError: The model is missing or not the one the checksum is of, or a value does not fit the detector.
        MissingDependencyError: The detector is not installed.
    """
    detect = _fasttext(config) if config.detector == "fasttext" else _resiliparse(config)
    keep = frozenset(config.keep)

    def judge(text: str, metadata: MutableMapping[str, str]) -> str | Dropped:
        metadata["language"] = code = detect(text)
        return text if code in keep else Dropped(code)

    return judge


def check(config: LanguageFilter) -> None:
    """Raise what `build` would raise, without loading a model."""
    if config.detector == "fasttext":
        _import_fasttext()
        _verified_model(config)
    else:
        _resiliparse(config)


def inputs(config: LanguageFilter) -> list[str]:
    """The model's path."""
    return [] if config.model is None else [config.model]


def _resiliparse(config: LanguageFilter) -> Detector:
    """The nearest of about 100 languages, by the distance between byte n-gram profiles."""
    try:
        from resiliparse.parse.lang import detect_fast, supported_langs
    except ImportError as error:
        raise MissingDependencyError(
            "the language filter needs resiliparse; install it: pip install 'tarmac[quality]'"
        ) from error
    if 0 < config.min_score < 1:
        raise ConfigError(
            f"language filter: min_score ({config.min_score}) is a distance for detector resiliparse; use 0 or about"
            " 200 to 1200"
        )
    known = {*supported_langs(), UNKNOWN}
    if unknown := sorted(set(config.keep) - known):
        raise ConfigError(
            f"language filter: keep has {unknown[0]!r}, which resiliparse does not know; use {', '.join(sorted(known))}"
        )
    cutoff = int(config.min_score) or sys.maxsize
    return lambda text: str(detect_fast(text, cutoff=cutoff)[0])


def _fasttext(config: LanguageFilter) -> Detector:
    """The likeliest label of a fastText classifier (Joulin et al. 2016, arXiv:1607.01759)."""
    load_model, path = _import_fasttext(), _verified_model(config)
    try:
        model = load_model(path)
    except ValueError as error:
        raise ConfigError(f"language filter: model {path} is no fastText model ({error}); give another") from error

    def detect(text: str) -> str:
        labels, _ = model.predict(text.replace("\n", " "), threshold=config.min_score, on_unicode_error="replace")
        return str(labels[0]).removeprefix(_LABEL) if labels else UNKNOWN

    return detect


def _import_fasttext() -> Callable[[str], Any]:
    try:
        from fasttext import load_model
    except ImportError as error:
        raise MissingDependencyError(
            "language filter: detector fasttext is not installed; install it: pip install 'tarmac[fasttext]'"
        ) from error
    load: Callable[[str], Any] = load_model
    return load


def _verified_model(config: LanguageFilter) -> str:
    """Path of the model, after its checksum was compared: a file that differs is never opened by fastText."""
    if config.min_score > 1:
        raise ConfigError(f"language filter: min_score ({config.min_score}) must be 0 to 1 for detector fasttext")
    if config.model is None:
        raise ConfigError("language filter: detector fasttext needs model, the path of a file such as lid.176.bin")
    found = _checksum(config.model)
    if config.model_sha256 not in (None, found):
        raise ConfigError(
            f"language filter: the sha256 of model {config.model} is {found}, not model_sha256"
            f" ({config.model_sha256}); fetch the file again, or correct the checksum"
        )
    return config.model


def _checksum(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"language filter: model {path} cannot be read ({error.strerror}); give its path") from error
