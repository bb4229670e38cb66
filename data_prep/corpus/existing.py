"""What is at the output already: nothing, this very corpus, a part of it that sources are appended to, or another."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.corpus.generations import generations
from data_prep.filters import filter_inputs
from data_prep.plan import SourcePlan, filters_of
from data_prep.reading.inputs import checksum
from pipeline.config.prep.recipe import PrepConfig
from pipeline.config.prep.tokenizer import GivenTokenizer
from pipeline.corpus.manifest import MANIFEST_NAME, PREP_NAME, Manifest, read_manifest
from pipeline.errors import ConfigError, CorpusError
from pipeline.tokenizer.load import load_tokenizer


@dataclass(frozen=True)
class Existing:
    """A corpus at the output that has to do with the config."""

    manifest: Manifest
    """What it holds."""
    complete: bool
    """Whether it is what the config asks for. If not, the config appends sources to it."""


def find_existing(output: Path, config: PrepConfig, plans: Sequence[SourcePlan], replace: bool) -> Existing | None:
    """What is at the output; None if a corpus is to be made there.

    Args:
        output: The corpus folder.
        config: What is asked for.
        plans: The inputs.
        replace: Whether a corpus of another config or of other inputs may be replaced.

    Raises:
        ConfigError: Something else is there, or another corpus and `replace` is not given.
        CorpusError: The corpus there is damaged and `replace` is not given.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return None
    if not (output / MANIFEST_NAME).is_file():
        raise ConfigError(f"output ({output}) exists and is not a corpus; choose another folder")
    try:
        manifest = read_manifest(output)
    except CorpusError:
        if replace:
            return None
        raise
    reason = _difference(manifest, _planned(output), config, plans)
    if reason is None:
        made = sum(map(len, generations(manifest)))
        return Existing(manifest, complete=made == len(plans))
    if replace:
        return None
    raise ConfigError(
        f"output ({output}) holds a corpus made {reason}; give --replace to make it anew (only what depends on the"
        " change is done again), or choose another folder"
    )


def _planned(output: Path) -> dict[str, str]:
    """What each source's inputs were when a corpus was made."""
    try:
        return dict(json.loads((output / PREP_NAME).read_bytes())["inputs"])
    except (OSError, ValueError, KeyError):
        return {}


def _difference(
    manifest: Manifest, planned: dict[str, str], config: PrepConfig, plans: Sequence[SourcePlan]
) -> str | None:
    """In what a corpus differs from what is asked for; None if at most further sources are."""
    if manifest.config_sha256 != config_sha256(config):
        return "by another config"
    given = config.tokenizer if isinstance(config.tokenizer, GivenTokenizer) else None
    if given and load_tokenizer(given.path).fingerprint() != manifest.tokenizer.fingerprint:
        return "with another tokenizer"
    order = [name for names in generations(manifest) for name in names]
    made = manifest.statistics["sources"]
    if order != [plan.source.name for plan in plans][: len(order)]:
        return f"of the sources {', '.join(order)}, in this order"
    for plan in plans[: len(made)]:
        if made[plan.source.name]["config_sha256"] != source_sha256(plan):
            return f"by another config of source {plan.source.name}"
        if planned.get(plan.source.name) != inputs_sha256(config, plan):
            return f"from other input files of source {plan.source.name}"
    return None


def config_sha256(config: PrepConfig) -> str:
    """Checksum of all that decides a corpus's content but its sources."""
    left_out = {"output", "work", "keep_work", "write_dropped", "executor", "workers", "sources"}
    return _sha256(config.model_dump(mode="json", exclude=left_out))


def source_sha256(plan: SourcePlan) -> str:
    """Checksum of a source's config."""
    left_out = {"max_rejected_share"} | (
        {"split"} if plan.source.split is None else set()
    )  # as corpora of 0.1.0 have it
    return _sha256(plan.source.model_dump(mode="json", exclude=left_out))


def inputs_sha256(config: PrepConfig, plan: SourcePlan) -> str:
    """Checksum over names, sizes and versions of a source's inputs, and over the files that its filters read."""
    files = [(file.origin, file.bytes, file.version) for file in plan.files]
    return _sha256([files, checksum(filter_inputs(filters_of(config, plan.source)))])


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
