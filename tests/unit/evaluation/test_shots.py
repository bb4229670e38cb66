import math

import numpy as np
import pytest
import torch

from pipeline.data.batch import IGNORED
from pipeline.data.chat import Message, render
from pipeline.errors import CorpusError
from pipeline.evaluation.shots import (
    SHOTS,
    Render,
    Target,
    answer_sequence,
    choose_targets,
    measure_shots,
    render_plain,
)
from pipeline.tokenizer.base import Tokenizer
from tests.unit.small import small_model, small_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return small_tokenizer(tmp_path_factory.mktemp("shots") / "tokenizer")


def pair(question: str, answer: str) -> list[Message]:
    return [Message(role="user", content=question), Message(role="assistant", content=answer)]


PAIRS = [pair(f"def step_{n}(value)", f"It adds {n}.") for n in range(30)]


@pytest.mark.parametrize("form", [render, render_plain])
def test_every_case_fits_and_scores_the_same_answer(tokenizer: Tokenizer, form: Render) -> None:
    targets = choose_targets(PAIRS, tokenizer, form, 160, num_targets=10)
    assert len(targets) == 10
    for target in targets:
        scored = []
        for shots in SHOTS:
            for exchanged in (False, True) if shots >= 2 else (False,):
                sequence = answer_sequence(target.conversation(shots, exchanged), tokenizer, form)
                assert len(sequence.inputs) <= 160
                scored.append(sequence.labels[sequence.labels != IGNORED].tolist())
        assert tokenizer.decode(scored[0]).strip() == target.pair[1]["content"]
        assert all(labels == scored[0] for labels in scored)


def test_targets_are_a_function_of_the_arguments(tokenizer: Tokenizer) -> None:
    def chosen(pairs: list[list[Message]], seed: int = 0) -> list[Target]:
        return choose_targets(pairs, tokenizer, render_plain, 160, num_targets=8, seed=seed)

    assert chosen(PAIRS) == chosen(PAIRS[::-1])
    assert chosen(PAIRS) != chosen(PAIRS, seed=1)


def test_no_example_has_the_answer_of_its_target(tokenizer: Tokenizer) -> None:
    repeated = [pair(f"def step_{n}(value)", f"It adds {n % 7}.") for n in range(40)]
    targets = choose_targets(repeated, tokenizer, render_plain, 160)
    assert len(targets) == 7
    for target in targets:
        answers = [one[1]["content"] for one in (target.pair, *target.examples)]
        assert len(set(answers)) == len(answers) == 5


def test_exchanged_answers_are_the_same_ones_all_misplaced() -> None:
    target = Target(PAIRS[0], tuple(PAIRS[1:5]))
    true, exchanged = target.conversation(4), target.conversation(4, exchanged=True)
    assert [turn["content"] for turn in true[::2]] == [turn["content"] for turn in exchanged[::2]]
    assert sorted(turn["content"] for turn in true[1:8:2]) == sorted(turn["content"] for turn in exchanged[1:8:2])
    assert all(true[place]["content"] != exchanged[place]["content"] for place in (1, 3, 5, 7))
    assert exchanged[8:] == true[8:] == PAIRS[0]


def test_too_few_short_pairs_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(CorpusError, match=r"0 pairs have at most 1 tokens, 5 are .*the shortest of \d+ pairs has \d+"):
        choose_targets(PAIRS, tokenizer, render_plain, 9)
    with pytest.raises(CorpusError, match="4 pairs have"):
        choose_targets(PAIRS[:4], tokenizer, render_plain, 160)


def test_rows_hold_the_loss_of_the_answers_alone(tokenizer: Tokenizer) -> None:
    model = small_model(tokenizer.vocab_size)
    targets = choose_targets(PAIRS, tokenizer, render_plain, 160, num_targets=6)
    rows = measure_shots(model, targets, tokenizer, render_plain)
    assert [(row.shots, row.exchanged) for row in rows] == [
        (0, False),
        (1, False),
        (2, False),
        (4, False),
        (2, True),
        (4, True),
    ]
    assert len({row.total.tokens for row in rows}) == 1
    sums = []
    for target in targets:
        question, answer = (
            tokenizer.encode(turn["content"] + end) for turn, end in zip(target.pair, ("\n", "\n\n"), strict=True)
        )
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([question + answer])).logits[0].double().log_softmax(-1)
        sums.append(-sum(float(logits[len(question) - 1 + n, token]) for n, token in enumerate(answer)))
    assert rows[0].total.loss_sum == pytest.approx(sum(sums), rel=1e-5)
    assert rows[0].difference == 0
    for row in rows:
        assert row.difference == pytest.approx(row.total.loss - rows[0].total.loss, abs=1e-9)
        assert math.isfinite(row.error)


def test_examples_that_give_the_answer_away_lower_the_loss(tokenizer: Tokenizer) -> None:
    """A model that prefers what it has just read gains from examples; the measure must show it."""

    class Copier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(3.0))

        def forward(self, input_ids: torch.Tensor, use_cache: bool) -> "Output":
            seen = torch.nn.functional.one_hot(input_ids, tokenizer.vocab_size).cumsum(dim=1)
            return Output(self.scale * (seen > 0).float())

    class Output:
        def __init__(self, logits: torch.Tensor) -> None:
            self.logits = logits

    targets = choose_targets(PAIRS, tokenizer, render_plain, 160, num_targets=12)
    rows = measure_shots(Copier(), targets, tokenizer, render_plain)
    assert rows[1].difference < -2 * rows[1].error < 0
    assert rows[5].total.loss_sum == pytest.approx(rows[3].total.loss_sum)  # it ignores which answer goes where
    assert np.isfinite([row.error for row in rows]).all()
