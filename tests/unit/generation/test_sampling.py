import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import GenerationError
from pipeline.generation.sampling import Sampling, choose


def draws(logits: torch.Tensor, sampling: Sampling, number: int = 300) -> set[int]:
    generator = torch.Generator().manual_seed(sampling.seed)
    return {choose(logits, sampling, generator) for _ in range(number)}


@given(st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=40), st.integers(0, 1000))
def test_one_candidate_is_greedy_whatever_the_seed(logits: list[float], seed: int) -> None:
    row = torch.tensor(logits)
    generator = torch.Generator().manual_seed(seed)
    greedy = choose(row, Sampling(temperature=0), generator)
    assert logits[greedy] == max(logits)
    assert choose(row, Sampling(temperature=1.5, top_k=1), generator) == greedy


def test_of_equal_logits_the_lowest_id_is_greedy() -> None:
    row = torch.tensor([0.0, 3.0, 3.0, 1.0], dtype=torch.bfloat16)
    assert draws(row, Sampling(temperature=0)) == {1}
    assert draws(row, Sampling(top_k=1)) == {1}


def test_top_k_and_top_p_keep_the_head() -> None:
    row = torch.tensor([0.1, 0.5, 0.3, 0.1]).log()
    assert draws(row, Sampling(temperature=1, top_k=2, top_p=1)) == {1, 2}
    assert draws(row, Sampling(temperature=1, top_k=0, top_p=0.75)) == {1, 2}
    assert draws(row, Sampling(temperature=1, top_k=0, top_p=0.45)) == {1}
    assert draws(row, Sampling(temperature=1, top_k=0, top_p=1)) == {0, 1, 2, 3}


def test_frequencies_follow_the_tempered_distribution() -> None:
    probabilities = torch.tensor([0.6, 0.1, 0.3])
    generator = torch.Generator().manual_seed(1)
    sampling = Sampling(temperature=2.0, top_k=0, top_p=1)
    counts = torch.bincount(torch.tensor([choose(probabilities.log(), sampling, generator) for _ in range(4000)]))
    expected = probabilities.sqrt() / probabilities.sqrt().sum()
    assert torch.allclose(counts / 4000, expected, atol=0.03)


def test_a_tiny_temperature_is_greedy_not_broken() -> None:
    assert draws(torch.tensor([1.0, 1.001, -5.0]), Sampling(temperature=1e-30)) == {1}


def test_a_diverged_model_is_named() -> None:
    with pytest.raises(GenerationError, match="diverged"):
        draws(torch.tensor([0.0, float("nan")]), Sampling())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_new_tokens", 0),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("seed", -1),
        ("seed", 2**63),
    ],
)
def test_a_setting_that_means_nothing_is_named(field: str, value: float) -> None:
    with pytest.raises(GenerationError, match=rf"{field} \({value}\) must be"):
        Sampling(**{field: value})
