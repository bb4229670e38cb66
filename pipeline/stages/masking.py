"""The noise of a run that predicts masked tokens, by its config and its tokenizer."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.config.objective import MaskedObjective, Objective
from pipeline.data.noise import Noise, Words
from pipeline.errors import ConfigError, GenerationError, TokenizerError
from pipeline.runtime.seeds import derive_seed
from pipeline.stages.run_folder import read_run
from pipeline.tokenizer.base import MASK_NAME, Tokenizer


def noise_of(objective: Objective, tokenizer: Tokenizer, seed: int) -> Noise | None:
    """What is done to the sequences of a run; nothing if it predicts the next token.

    Raises:
        TokenizerError: The tokenizer has no mask token, or does not tell words apart where whole ones are asked for.
    """
    if not isinstance(objective, MaskedObjective):
        return None
    if tokenizer.mask_id is None:
        raise TokenizerError(
            "objective.type is masked, and the tokenizer has no mask token; prepare the corpus with a tokenizer whose"
            f" tokenizer.control_tokens hold {MASK_NAME}, or that names a mask_token"
        )
    words = Words(*tokenizer.word_edges()) if objective.whole_words else None
    is_text = tokenizer.byte_lengths() > 0  # control tokens stand for none
    return Noise(seed, objective.share, tokenizer.mask_id, tokenizer.pad_id, is_text, words)


def fixed_noise(objective: Objective, tokenizer: Tokenizer) -> Noise | None:
    """The noise of held-out sequences: the same for every run, so that losses can be compared."""
    return noise_of(objective, tokenizer, derive_seed("held out"))


def common_objective(runs: Mapping[str, str]) -> Objective:
    """What some runs, by their names, predict. Raises ConfigError if they differ, RunError if one is missing."""
    found = {name: read_run(run).objective for name, run in runs.items()}
    first, *others = found
    for name in others:
        if _prediction(found[name]) != _prediction(found[first]):
            raise ConfigError(
                f"models {first} and {name} predict other tokens ({_prediction(found[first])} and"
                f" {_prediction(found[name])}), so that their losses cannot be compared; give each a config of its own"
            )
    return found[first]


def _prediction(objective: Objective) -> str:
    if not isinstance(objective, MaskedObjective):
        return "the next one"
    return f"{objective.share:g} of them{', whole words' if objective.whole_words else ''}"


def require_causal(run: str | Path) -> None:
    """Raises RunError if there is no such run, GenerationError if it does not predict the next token."""
    if isinstance(read_run(run).objective, MaskedObjective):
        raise GenerationError(
            f"run {run} predicts masked tokens, from both sides, and cannot continue a text; name a run whose"
            " objective.type is causal"
        )
