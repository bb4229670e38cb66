"""The pulse: the one small collective after each step, by which hooks learn what other ranks have to say.

A decision that ranks could take differently (by a clock, a signal, a disk) is taken by each for itself or by rank 0
alone, and is acted on only after the pulse has told it to all: so all act after the same step.
"""

from collections.abc import Callable

import torch

from pipeline.engine.process_group import ProcessGroup
from pipeline.train.loop import StepInfo

Question = Callable[[StepInfo], float]
"""What a rank has to say after a step."""


class Answer:
    """What all ranks said after the last step, summed; the same number on every rank."""

    total = 0.0

    def __bool__(self) -> bool:
        """Whether any rank said something."""
        return self.total != 0


class Pulse:
    """Asks every question of every rank after each step, all in one sum over gloo. The first of the hooks."""

    def __init__(self, group: ProcessGroup) -> None:
        """Nothing is asked yet."""
        self._group = group
        self._asked: list[tuple[Question, Answer]] = []

    def ask(self, question: Question) -> Answer:
        """Ask from the next step on; every rank asks the same questions in the same order."""
        answer = Answer()
        self._asked.append((question, answer))
        return answer

    def ask_main(self, question: Question) -> Answer:
        """Ask rank 0 alone: for what must be decided once."""
        return self.ask(question if self._group.ranks.is_main else lambda info: 0.0)

    def __call__(self, info: StepInfo) -> None:
        """Ask, and hand out the answers."""
        said = torch.tensor([question(info) for question, _ in self._asked], dtype=torch.float64)
        for total, (_, answer) in zip(self._group.sum(said).tolist(), self._asked, strict=True):
            answer.total = total
