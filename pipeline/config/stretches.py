"""Where in a run batches and sequences have the same sizes."""

from typing import NamedTuple

from pipeline.config.data import DataPhase


class Stretch(NamedTuple):
    """Steps with one size of batches and sequences."""

    first_step: int
    first_token: int
    """Tokens seen before it."""
    global_size: int
    sequence_length: int

    @property
    def step_tokens(self) -> int:
        """Tokens of a step."""
        return self.global_size * self.sequence_length

    def step_of(self, tokens: int) -> int:
        """The step before which so many tokens have been seen, rounded up."""
        return self.first_step + max(0, -(-(tokens - self.first_token) // self.step_tokens))

    def followed_by(self, phase: DataPhase) -> "Stretch":
        """The stretch that a phase begins."""
        first = phase.at_step if phase.at_step is not None else self.step_of(phase.at_tokens or 0)
        tokens = self.first_token + (first - self.first_step) * self.step_tokens
        return Stretch(
            first, tokens, phase.global_size or self.global_size, phase.sequence_length or self.sequence_length
        )
