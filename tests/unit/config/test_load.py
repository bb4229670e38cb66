from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.cluster import ClusterConfig
from pipeline.config.data import CorpusData
from pipeline.config.evaluate import EvaluateConfig
from pipeline.config.load import apply_overrides, dump, load, parse_yaml, validate
from pipeline.config.prep.recipe import PrepConfig
from pipeline.config.run import RunConfig
from pipeline.config.stages import load_stage
from pipeline.errors import ConfigError

RUN: dict[str, Any] = {
    "stage": "pretrain",
    "output": "runs/x",
    "model": {
        "type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_layers": 2,
        "num_heads": 4,
        "num_key_value_heads": 2,
    },
    "data": {"type": "corpus", "sources": [{"corpus": "data/web", "source": "web"}], "sequence_length": 32},
    "batch": {"global_size": 4, "micro_size": 2},
    "duration": {"steps": 10},
    "optimizer": {"type": "adamw", "lr": 1e-3},
}

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def sentence(kind: Any, values: dict[str, Any], *overrides: str) -> str:
    """The error's message; it must be one line."""
    with pytest.raises(ConfigError) as error:
        validate(kind, apply_overrides(values, overrides), "file.yaml")
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix("file.yaml: ")


@pytest.mark.parametrize(("text", "value"), [
    ("1e-3", 1e-3), ("6E-4", 6e-4), ("1e5", 1e5), ("-2.5e+2", -250.0), ("1.e-8", 1e-8), ("2_500e3", 2_500e3),
    ("3", 3), ("2_500", 2500), ("0.1", 0.1), ("e3", "e3"), ("1e", "1e"), ("'1e-3'", "1e-3"), ("v1e-3", "v1e-3"),
    ("24:00:00", "24:00:00"), ("1-12:30:00", "1-12:30:00"),
    ("yes", "yes"), ("true", True), ("null", None), ("", None), ("[1e-3, a]", [1e-3, "a"]), ("{a: 1e-3}", {"a": 1e-3}),
])  # fmt: skip
def test_yaml_reads_exponents_as_numbers(text: str, value: object) -> None:
    found = parse_yaml(text, "here")
    assert (found, type(found)) == (value, type(value))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_python_writes_is_read_back(number: float) -> None:
    assert parse_yaml(repr(number), "here") == number


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"config.yaml, line 3: key 'a' is given twice"),
        ("a:\n  b: 1\n  b: 1\n", r"config.yaml, line 3: key 'b' is given twice"),
        ("a: [1\nb: 2\n", r"config.yaml is not valid YAML: while parsing a flow sequence in line 1, .* line 2"),
        ("a: !!python/object/apply:os.getcwd []", r"config.yaml is not valid YAML"),
        ("- 1\n- 2\n", r"config.yaml must hold a mapping of keys to values, found list"),
        ("", r"config.yaml must hold a mapping of keys to values, found nothing"),
        ("\tx: 1", r"config.yaml is not valid YAML"),
    ],
)
def test_a_file_that_is_no_config_is_told(write: Write, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        load(RunConfig, write(text))
    assert "\n" not in str(error.value)


def test_a_missing_or_binary_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing.yaml cannot be read: No such file .*; give the path of a YAML"):
        load(RunConfig, tmp_path / "nothing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary.yaml is not UTF-8 text; give the path of a YAML file"):
        load(RunConfig, tmp_path / "binary.yaml")


def test_overrides_reach_blocks_lists_and_new_keys() -> None:
    overrides = ["optimizer.lr=1e-4", "data.sources.0.weight=2", "engine.zero_stage=1", "tokenizer=a/b=c",
                 "duration={tokens: 1000}"]  # fmt: skip
    before = yaml.safe_dump(RUN)
    config = validate(RunConfig, apply_overrides(RUN, overrides), "x")
    assert config.optimizer.lr == 1e-4
    assert config.data.sources[0].weight == 2  # type: ignore[union-attr]
    assert (config.engine.zero_stage, config.tokenizer, config.duration.tokens) == (1, "a/b=c", 1000)
    assert yaml.safe_dump(RUN) == before


def test_later_overrides_win() -> None:
    assert apply_overrides({"a": {"b": 1}}, ["a.b=2", "a.b=3"]) == {"a": {"b": 3}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr", "'optimizer.lr' is not of the form section.key=value"),
        ("=1", "'=1' is not of the form section.key=value"),
        ("batch.global_size.x=1", "global_size is 4, which has no keys of its own"),
        ("data.sources.3.weight=1", "'3' is not an index below 1"),
        ("data.sources.web=1", "'web' is not an index below 1"),
        ("seed=[", "seed=\\[ is not valid YAML"),
    ],
)
def test_an_override_that_fits_nothing_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        apply_overrides(RUN, [override])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("engine.zero_stge=1", "unknown key engine.zero_stge; did you mean zero_stage?"),
        ("data.sources.0.wieght=1", "unknown key data.sources.0.wieght; did you mean weight?"),
        ("optimizer.momentum=0.9", "unknown key optimizer.momentum; remove it"),
        ("optimizer={type: adamw, lrr: 1}", "unknown key optimizer.lrr; did you mean lr?"),
        ("batch={global_size: 4}", "batch.micro_size is missing; add it"),
        ("optimizer={type: adamw}", "optimizer.lr is missing; add it"),
        ("optimizer.type=adam", "optimizer.type is 'adam'; it must be one of 'adamw', 'lion', 'muon'"),
        ("model={hidden_size: 3}", "model.type is missing; a block with several forms must name its type"),
        ("batch.global_size=four", "batch.global_size is 'four'; input should be a valid integer"),
        ("batch.global_size=0", "batch.global_size is 0; input should be greater than 0"),
        ("optimizer.lr=.inf", "optimizer.lr is inf; input should be a finite number"),
        ("engine.zero_stage=4", "engine.zero_stage is 4; input should be 0, 1, 2 or 3"),
        ("output=null", "output is None; input should be a valid string"),
        ("batch=4", "batch is 4; it must be a block of keys"),
        ("data.sources=web", "data.sources is 'web'; it must be a list"),
        ("data.sources=[]", "data.sources is empty; give at least 1"),
        ("model.num_heads=7", "model: hidden_size (64) must be a multiple of num_heads (7)"),
        ("model.num_key_value_heads=3", "num_heads (4) must be a multiple of num_key_value_heads (3)"),
        ("duration.tokens=5", "duration: give exactly one of steps and tokens"),
        ("stage=finetune", "model.type (llama) must be checkpoint or huggingface when stage is finetune"),
        ("adapter={type: lora}", "adapter.type (lora) needs model.type checkpoint or huggingface"),
        ("engine.zero_stage=0", "precision (bf16) must be fp32 at zero_stage 0; or use zero_stage 1"),
        ("engine={attention: eager, sequence_parallel: 2}", "attention (eager) must be another one with"),
        ("engine.sequence_parallel=3", "data.sequence_length (32) must be a multiple of engine.sequence_parallel (3)"),
        ("engine.sequence_parallel=8", "engine.sequence_parallel (8) must divide model.num_heads (4)"),
        ("engine={tensor_parallel: 2, zero_stage: 3}", "zero_stage (3) must be at most 2 with tensor_parallel above 1"),
        ("engine={tensor_parallel: 2, sequence_parallel: 2}", "sequence_parallel (2) must be 1 with tensor_parallel"),
        ("engine.tensor_parallel=4", "engine.tensor_parallel (4) must divide model.num_key_value_heads (2)"),
        ("data.sources.0.weight=0", "sources need at least one weight above 0"),
    ],
)
def test_an_error_names_key_value_and_cure(override: str, message: str) -> None:
    assert message in sentence(RunConfig, RUN, override)


def test_names_that_users_choose_stay_in_the_key() -> None:
    values = {"stage": "evaluate", "output": "x", "models": {"llama": "runs/x"}, "sets": {"corpus": {"type": "corpus"}}}
    assert sentence(EvaluateConfig, values) == "sets.corpus.corpus is missing; add it"
    assert sentence(EvaluateConfig, values, "models.corpus=3").startswith("models.corpus is 3; ")


def test_one_of_several_types_is_told_with_all_of_them() -> None:
    found = sentence(ClusterConfig, {"cluster": {"type": "local", "processes": "two"}})
    assert found.startswith("cluster.processes is 'two'; input should be a valid integer")
    assert found.endswith("or input should be 'auto'")


def test_cross_references_are_checked() -> None:
    corpus = {"type": "corpus", "corpus": "data/web"}
    check = {"type": "below_unigram", "model": "mine", "set": "web", "max_ratio": 0.9}
    values = {"stage": "evaluate", "output": "x", "models": {"one": "runs/x"}, "sets": {"web": corpus}}
    assert sentence(EvaluateConfig, {**values, "checks": [check]}) == "checks.0 names model 'mine'; models has one"
    source = {"name": "web", "reader": {"type": "stdlib"}}
    prep = {"stage": "prep", "output": "x", "sources": [source, source], "tokenizer": {"type": "given", "path": "t"}}
    assert "sources must have different names, got web, web" in sentence(PrepConfig, prep)


def test_dump_is_read_back() -> None:
    config = validate(RunConfig, RUN, "x")
    assert validate(RunConfig, yaml.safe_load(dump(config)), "x") == config


def test_tokens_are_rounded_up_to_whole_steps() -> None:
    assert validate(RunConfig, {**RUN, "duration": {"tokens": 4 * 32 * 3 + 1}}, "x").num_steps == 4


def test_tokens_are_counted_by_the_length_of_their_sequences() -> None:
    phases = [{"at_step": 10, "sequence_length": 16}, {"at_step": 20, "global_size": 8}]
    config = validate(RunConfig, {**RUN, "data": {**RUN["data"], "phases": phases}}, "x")
    assert [config.tokens_by_length(step) for step in (0, 4, 11, 25)] == [
        {}, {32: 4 * 4 * 32}, {32: 10 * 4 * 32, 16: 4 * 16}, {32: 10 * 4 * 32, 16: (10 * 4 + 5 * 8) * 16},
    ]  # fmt: skip


def test_the_stage_key_decides(write: Write) -> None:
    path = write(yaml.safe_dump(RUN))
    assert isinstance(load_stage(path), RunConfig)
    with pytest.raises(ConfigError, match=r"stage is 'trian'; it must be one of prep, pretrain"):
        load_stage(path, ["stage=trian"])
    with pytest.raises(ConfigError, match=r"stage is 'pretrain'; this command takes prep \(use `tarmac train "):
        load_stage(path, allowed=("prep",))
    with pytest.raises(ConfigError, match=r"stage is missing, so this is no recipe; add one of prep, "):
        load_stage(write("cluster: {type: local}"))


@pytest.mark.parametrize("text", ["[100,110)", "[100, 110), [120, 130)", "[[100, 110]]", "[100, 110]"])
def test_ranges_are_read_as_people_write_them(text: str) -> None:
    config = validate(RunConfig, apply_overrides(RUN, [f"data.skip={text}"]), "x")
    assert isinstance(config.data, CorpusData)
    assert config.data.skip[0] == (100, 110)
    assert len(config.data.skip) == 1 + ("120" in text)


@pytest.mark.parametrize(
    ("text", "words"),
    [("[5,5)", "[5, 5) is empty"), ("[a,b)", "data.skip is '[a,b)'"), ("[5,9),[5,7)", "[5, 7) must begin above 5")],
)
def test_ranges_that_are_none(text: str, words: str) -> None:
    assert words in sentence(RunConfig, apply_overrides(RUN, [f"data.skip={text}"]))


def test_temperature_and_epochs_exclude_each_other() -> None:
    epochs = ["data.sources.0.epochs=2", "data.phases=[{at_step: 3, temperature: 2}]"]
    assert "data: temperature (2.0) goes with weights, and sources have epochs" in sentence(RunConfig, RUN, *epochs)
    validate(RunConfig, apply_overrides(RUN, epochs[:1]), "x")


def test_words_for_yes_and_no_are_words() -> None:
    """As in YAML 1.2; where a boolean is wanted, the config's class takes them for one."""
    assert parse_yaml("action: off\nbuild: yes\nruns: true", "test") == {"action": "off", "build": "yes", "runs": True}


def test_the_best_metric_names_a_corpus_that_is_measured() -> None:
    best = "checkpoints.best_metric=validation/code/loss"
    assert "names a corpus that evaluation.corpora lacks" in sentence(RunConfig, RUN, best)
    corpora = "evaluation.corpora={code: {corpus: data/code}}"
    validate(RunConfig, apply_overrides(RUN, [best, corpora]), "file.yaml")
