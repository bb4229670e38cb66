import pytest
import torch

from pipeline.errors import GenerationError
from pipeline.generation.generate import generate
from tests.unit.small import small_model

PROMPT = [5, 17, 42, 8]


def greedy_without_cache(model: torch.nn.Module, ids: list[int], number: int) -> list[int]:
    with torch.no_grad():
        for _ in range(number):
            ids = [*ids, int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())]
    return ids[-number:]


@pytest.mark.parametrize("prompt", [PROMPT, [9], list(range(30))])
def test_the_cache_changes_no_token(prompt: list[int]) -> None:
    model = small_model(64)
    expected = greedy_without_cache(model, prompt, 40)
    assert len(set(expected)) > 3
    assert list(generate(model, prompt, max_new_tokens=40, temperature=0)) == expected


def test_a_new_token_costs_one_position() -> None:
    model, lengths = small_model(64), []
    model.model.register_forward_pre_hook(
        lambda _, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    assert len(list(generate(model, PROMPT, max_new_tokens=5))) == 5
    assert lengths == [4, 1, 1, 1, 1]


def test_a_seed_repeats_and_another_does_not() -> None:
    model = small_model(64, std=0.02)
    first, again, other = (list(generate(model, PROMPT, max_new_tokens=20, seed=seed)) for seed in (7, 7, 8))
    assert first == again != other


def test_one_candidate_is_greedy() -> None:
    model = small_model(64)
    greedy = list(generate(model, PROMPT, max_new_tokens=30, temperature=0))
    assert list(generate(model, PROMPT, max_new_tokens=30, temperature=1.3, top_k=1, seed=5)) == greedy


def test_an_end_token_stops_and_is_not_handed_out() -> None:
    model = small_model(64)
    tokens = list(generate(model, PROMPT, max_new_tokens=30, temperature=0))
    end = tokens[6]
    expected = tokens[: tokens.index(end)]
    assert list(generate(model, PROMPT, max_new_tokens=30, temperature=0, eos_id=end)) == expected
    assert (
        list(generate(model, PROMPT, max_new_tokens=30, temperature=0, eos_id=[63, end]))
        == expected[: next((i for i, token in enumerate(expected) if token == 63), None)]
    )


def test_it_stops_at_the_last_position() -> None:
    model = small_model(64, max_positions=10)
    assert len(list(generate(model, PROMPT, max_new_tokens=100))) == 6


def test_a_prompt_that_does_not_fit_is_refused_at_once() -> None:
    model = small_model(64, max_positions=10)
    with pytest.raises(
        GenerationError, match="prompt has 10 tokens but the model has 10 positions; shorten it to at most 9"
    ):
        generate(model, list(range(10)))
    with pytest.raises(GenerationError, match="prompt has 0 tokens"):
        generate(model, [])
    with pytest.raises(GenerationError, match="temperature"):
        generate(model, [1], temperature=-1)
