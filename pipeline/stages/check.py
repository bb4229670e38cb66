"""Whether what a recipe names is there, told before any rank is started or queued."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.config.base import Config
from pipeline.config.data import CorpusData, InstructData
from pipeline.config.evaluate import EvaluateConfig, InstructSet
from pipeline.config.export import ExportConfig
from pipeline.config.model import CheckpointModel, HuggingFaceModel
from pipeline.config.run import RunConfig
from pipeline.corpus.corpus import open_corpus
from pipeline.data.holes import read_withdrawn
from pipeline.data.validation import held_out_corpora
from pipeline.errors import CorpusError
from pipeline.models.safetensors_folder import read_form, weight_files
from pipeline.stages.data.plan import source_names, withdrawn_files
from pipeline.stages.run_folder import check_run_folder, read_run
from pipeline.tokenizer.load import load_tokenizer


def check_inputs(config: Config, made: Sequence[str] = ()) -> None:
    """Look at what training, an evaluation or an export would begin with; it takes no time.

    A recipe of data preparation passes: its sources are looked for when it begins.

    Args:
        config: The recipe.
        made: Outputs of steps that come before it: what is in one of them need not be there yet.

    Raises:
        TarmacError: A corpus, also one to be evaluated, source, conversation file, tokenizer or run is missing, or the
            run folder is not this run's; in the sentence that the stage itself would end with.
    """
    must_exist = _Made(made).must_exist
    if isinstance(config, RunConfig):
        _check_training(config, must_exist)
    if isinstance(config, EvaluateConfig):
        _check_evaluation(config, must_exist)
    if isinstance(config, ExportConfig) and must_exist(config.run):
        read_run(config.run)


def _check_training(config: RunConfig, must_exist: Callable[[str], bool]) -> None:
    if isinstance(config.model, CheckpointModel) and must_exist(config.model.run):
        read_run(config.model.run)
    if isinstance(config.model, HuggingFaceModel) and must_exist(config.model.path):
        read_form(config.model.path)
        weight_files(config.model.path)
    if isinstance(config.data, CorpusData):
        _check_sources(config.data, must_exist)
    else:
        _check_files(config.data, must_exist)
    for one in config.evaluation.corpora.values():
        cache = config.data.cache if isinstance(config.data, CorpusData) else None
        if must_exist(one.corpus):
            held_out_corpora([open_corpus(one.corpus, cache)], one.source)
    if config.tokenizer is not None and must_exist(config.tokenizer):
        load_tokenizer(config.tokenizer)
    check_run_folder(config)


def _check_evaluation(config: EvaluateConfig, must_exist: Callable[[str], bool]) -> None:
    for run in filter(must_exist, config.models.values()):
        read_run(run)
    for name, one in config.sets.items():
        if isinstance(one, InstructSet):
            _check_file(f"sets.{name}.path", one.path, must_exist)
        elif must_exist(one.corpus):
            held_out_corpora([open_corpus(one.corpus, one.cache)], None)


class _Made:
    """Folders that will be made."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = [os.path.abspath(folder) for folder in folders]

    def must_exist(self, place: str) -> bool:
        """Whether a place is needed now: it is in none of the folders."""
        path = os.path.abspath(place)
        return not any(path == folder or path.startswith(folder + os.sep) for folder in self._folders)


def _check_sources(data: CorpusData, must_exist: Callable[[str], bool]) -> None:
    for folder, source in source_names(data):
        if must_exist(folder):
            open_corpus(folder, data.cache).manifest.shards("train", source)
    for path in filter(must_exist, withdrawn_files(data)):
        read_withdrawn(path)


def _check_files(data: InstructData, must_exist: Callable[[str], bool]) -> None:
    for name, path in (("train", data.train), ("validation", data.validation)):
        _check_file(f"data.{name}", path, must_exist)


def _check_file(key: str, path: str, must_exist: Callable[[str], bool]) -> None:
    if must_exist(path) and not Path(path).is_file():
        raise CorpusError(f"{key} ({path}) does not exist; give a JSON-lines file")
