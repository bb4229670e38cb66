"""Whether what a training recipe names is there, told before any rank is started or queued."""

from pathlib import Path

from pipeline.config.base import Config
from pipeline.config.data import CorpusData, InstructData
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


def check_inputs(config: Config) -> None:
    """Look at what a training run would begin with; it takes no time, and recipes of other stages pass.

    Raises:
        TarmacError: A corpus, also one to be evaluated, source, conversation file, tokenizer or base run is missing, or
            the run folder is not this run's; in the sentence that the run itself would end with.
    """
    if not isinstance(config, RunConfig):
        return
    if isinstance(config.model, CheckpointModel):
        read_run(config.model.run)
    if isinstance(config.model, HuggingFaceModel):
        read_form(config.model.path)
        weight_files(config.model.path)
    if isinstance(config.data, CorpusData):
        _check_sources(config.data)
    else:
        _check_files(config.data)
    for one in config.evaluation.corpora.values():
        cache = config.data.cache if isinstance(config.data, CorpusData) else None
        held_out_corpora([open_corpus(one.corpus, cache)], one.source)
    if config.tokenizer is not None:
        load_tokenizer(config.tokenizer)
    check_run_folder(config)


def _check_sources(data: CorpusData) -> None:
    for folder, source in source_names(data):
        open_corpus(folder, data.cache).manifest.shards("train", source)
    for path in withdrawn_files(data):
        read_withdrawn(path)


def _check_files(data: InstructData) -> None:
    for name, path in (("train", data.train), ("validation", data.validation)):
        if not Path(path).is_file():
            raise CorpusError(f"data.{name} ({path}) does not exist; give a JSON-lines file")
