"""One rank or two, ZeRO 0 to 3: the same weights to begin with, the same loss and gradient norm."""

import math

import pytest

from tests.distributed.jobs import run_job

FP32 = [{"zero_stage": stage, "precision": "fp32"} for stage in (0, 1, 2, 3)]
BF16 = [{"zero_stage": stage, "precision": "bf16"} for stage in (1, 2, 3)]
CHECKPOINTED = [{"zero_stage": 2, "precision": "fp32", "recompute": "full"}]
MUON = [
    {
        "zero_stage": stage,
        "precision": "bf16",
        "optimizer": {"type": "muon", "lr": 0.02, "adam_lr": 0.01, "newton_schulz": "gram"},
    }
    for stage in (1, 2)
]
GPT2 = {"type": "gpt2"}
EXPERTS = {"type": "qwen3_moe", "num_key_value_heads": 2, "num_experts": 4, "experts_per_token": 2, "expert_size": 24,
           "router_loss_weight": 0.0}  # fmt: skip
FORMS = [{"zero_stage": 3, "precision": "fp32", "model": model} for model in (GPT2, EXPERTS)]
TIED = [{"zero_stage": stage, "precision": "fp32", "model": {"tie_embeddings": True}, "z_loss": 1e-2}
        for stage in (0, 2, 3)]  # fmt: skip
CONFIGS = [*FP32, *CHECKPOINTED, *BF16, *MUON, *FORMS, *TIED]
BODY = "tests.distributed.training_body:curves"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Per world size and config, what was measured."""
    return {
        world_size: run_job(BODY, world_size, tmp_path_factory.mktemp(f"world{world_size}"), configs=CONFIGS)[0]
        for world_size in (1, 2)
    }


def close(first: list[float], second: list[float], relative: float) -> bool:
    return all(math.isclose(a, b, rel_tol=relative) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("number", range(len(FP32) + len(CHECKPOINTED)))
def test_fp32_is_the_same_at_every_stage_and_world_size(results, world_size, number):
    reference, measured = results[1][1], results[world_size][number]
    assert close(reference["loss"], measured["loss"], 1e-5)
    assert close(reference["norm"], measured["norm"], 1e-5)


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("number", range(5, 5 + len(BF16)))
def test_bf16_is_the_same_at_every_stage_and_world_size(results, world_size, number):
    reference, measured = results[1][5], results[world_size][number]
    assert close(reference["loss"], measured["loss"], 5e-3)
    assert close(reference["norm"], measured["norm"], 5e-3)


@pytest.mark.parametrize("number", [8, 9])
def test_muon_learns_alike_on_one_and_two_ranks(results, number):
    """Norms are left out: DeepSpeed reports the gradient's at stage 1 and the orthogonalised update's at stage 2."""
    assert close(results[1][8]["loss"], results[2][number]["loss"], 5e-3)


@pytest.mark.parametrize("world_size", [1, 2])
def test_first_weights_do_not_depend_on_stage_or_world_size(results, world_size):
    fp32 = {result["weights"] for result in results[world_size][:5]}
    bf16 = {result["weights"] for result in results[world_size][5:8]}
    assert fp32 == {results[1][0]["weights"]}
    assert bf16 == {results[1][5]["weights"]}
    assert fp32 != bf16


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("number", range(12, 12 + len(TIED)))
def test_an_output_layer_that_is_the_embedding_too_learns_alike(results, world_size, number):
    """Its gradient has two parts, of which one is computed with the loss; the z-loss is in it."""
    reference, measured = results[1][12], results[world_size][number]
    assert close(reference["loss"], measured["loss"], 1e-5)
    assert close(reference["norm"], measured["norm"], 1e-5)


@pytest.mark.parametrize("number", range(10, 10 + len(FORMS)))
def test_other_forms_are_the_same_at_both_world_sizes(results, number):
    """Without the router's loss, which depends on what shares a micro batch."""
    reference, measured = results[1][number], results[2][number]
    assert measured["weights"] == reference["weights"]
    assert close(reference["loss"], measured["loss"], 1e-5)
    assert close(reference["norm"], measured["norm"], 1e-5)


@pytest.mark.parametrize("world_size", [1, 2])
def test_fp32_weights_begin_unrounded_at_every_stage(results, world_size):
    assert all(result["exact"] for result in results[world_size])
