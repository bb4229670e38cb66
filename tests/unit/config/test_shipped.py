"""What ships: recipes, starter configs, the JSON schema."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import main
from pipeline.config.chain import ChainConfig
from pipeline.config.cluster import ClusterConfig
from pipeline.config.load import load, read_mapping, validate
from pipeline.config.run import RunConfig
from pipeline.config.schema import schema_text
from pipeline.config.stages import STAGES, load_stage
from pipeline.config.starter import write_starter
from pipeline.errors import ConfigError
from pipeline.stages.plan import count_parameters

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
STAGE_FOLDERS = ("data_prep", "pretrain", "finetune", "evaluate", "export")
SCHEMA = ROOT / "configs" / "schema.json"
SIZES = {
    "10m": 10, "50m": 50, "125m": 125, "350m": 350, "1b": 1000, "3b": 3000, "7b": 7000, "13b": 13_000,
    "70b": 70_000, "moe_7b": 7000,
}  # fmt: skip
"""Recipes by what their names promise, in millions of parameters."""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT / "configs"))


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_every_recipe_parses(path: Path) -> None:
    if path.parent.name == "cluster":
        assert load(ClusterConfig, path)
    elif path.parent.name == "chain":
        assert all(load_stage(ROOT / step.recipe, step.overrides) for step in load(ChainConfig, path).chain)
    else:
        assert load_stage(path)


def test_the_promised_recipes_are_there() -> None:
    names = set(map(name, CONFIGS))
    assert names >= {f"pretrain/{size}.yaml" for size in ("demo", *SIZES)}
    assert names >= {"finetune/sft.yaml", "finetune/lora.yaml", "cluster/local.yaml", "cluster/slurm.yaml"}
    assert {load_stage(path).model_dump()["stage"] for path in CONFIGS if path.parent.name in STAGE_FOLDERS} == set(
        STAGES
    )


@pytest.mark.parametrize(("size", "millions"), SIZES.items())
def test_a_recipe_is_as_large_as_its_name_says(size: str, millions: int) -> None:
    """And sees 20 tokens for each of its parameters."""
    recipe = load(RunConfig, ROOT / "configs" / "pretrain" / f"{size}.yaml")
    parameters = count_parameters(recipe, 32_768)
    assert abs(parameters / 1e6 / millions - 1) < 0.05
    assert recipe.duration.tokens == pytest.approx(20 * parameters, rel=0.05)


def test_the_recipe_of_masked_tokens_is_a_base_model() -> None:
    recipe = load(RunConfig, ROOT / "configs" / "pretrain" / "mlm.yaml")
    assert abs(count_parameters(recipe, 32_768) / 126e6 - 1) < 0.05


@pytest.mark.parametrize("size", [*SIZES, "demo", "mlm", "shakespeare_char", "shakespeare_char_large"])
def test_a_recipe_shows_what_it_would_do(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(ROOT / "configs" / "pretrain" / f"{size}.yaml"), "--dry-run"]) == 0
    said = capsys.readouterr()
    assert '"zero_optimization": {' in said.out
    assert "sum, without activations" in said.err


def test_full_and_lora_are_one_key_apart() -> None:
    sft, lora = (read_mapping(ROOT / "configs" / "finetune" / f"{kind}.yaml") for kind in ("sft", "lora"))
    assert (sft["adapter"]["type"], lora["adapter"]["type"]) == ("none", "lora")
    values = {**sft, "adapter": {"type": "lora"}}
    assert RunConfig.model_validate(values).adapter.type == "lora"


@pytest.mark.parametrize("stage", STAGES)
def test_starter_configs_parse(stage: str, tmp_path: Path) -> None:
    path = tmp_path / "starter.yaml"
    write_starter(path, stage)
    config = load_stage(path)
    assert isinstance(config, STAGES[stage])
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    for field in STAGES[stage].model_fields:
        place = next(number for number, line in enumerate(lines) if line.startswith(f"{field}:"))
        assert lines[place - 1].lstrip().startswith("#")
    with pytest.raises(ConfigError, match=r"starter.yaml exists; choose another file name"):
        write_starter(path, stage)


def test_a_starter_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be written: .*; choose another place"):
        write_starter(tmp_path / "nothing" / "x.yaml", "prep")


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping of a schema but default values."""
    if isinstance(value, dict):
        yield value
        value = [item for key, item in value.items() if key != "default"]
    if isinstance(value, list):
        for item in value:
            yield from nodes(item)


def test_the_schema_is_whole() -> None:
    schema = json.loads(schema_text())
    definitions = schema["$defs"]
    for node in nodes(schema):
        if isinstance(node.get("$ref"), str):
            assert node["$ref"].removeprefix("#/$defs/") in definitions
        if isinstance(node.get("type"), str):
            assert node["type"] in {"object", "array", "string", "number", "integer", "boolean", "null"}
    assert set(schema["discriminator"]["mapping"]) == set(STAGES)
    for stage, kind in STAGES.items():
        body = definitions[schema["discriminator"]["mapping"][stage].removeprefix("#/$defs/")]
        assert set(body["properties"]) == set(kind.model_fields)
        assert all("description" in one for one in body["properties"].values())
        assert body["additionalProperties"] is False


def test_the_schema_that_ships_is_current() -> None:
    assert not SCHEMA.exists() or SCHEMA.read_text(encoding="utf-8") == schema_text()


def test_the_example_of_a_changing_run_is_valid() -> None:
    [block] = re.findall(r"```yaml\n(data:.*?)```", (ROOT / "docs" / "configuration.md").read_text(), re.DOTALL)
    config = read_mapping(ROOT / "configs" / "pretrain" / "1b.yaml") | yaml.safe_load(block)
    config["model"] = config["model"] | {"max_positions": 8192}
    found = validate(RunConfig, config, "docs/configuration.md")
    assert [one.first_step for one in found.stretches[:2]] == [0, 2000]
    assert [one.sequence_length for one in found.stretches] == [2048, 2048, 8192, 8192]
