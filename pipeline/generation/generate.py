"""Continuing a sequence of tokens, with a cache of keys and values so that each new token costs one position."""

from collections.abc import Iterator, Sequence

import torch
from transformers import DynamicCache, PreTrainedModel

from pipeline.errors import GenerationError
from pipeline.generation.sampling import Sampling, choose


def generate(
    model: PreTrainedModel,
    input_ids: Sequence[int],
    *,
    eos_id: int | Sequence[int] | None = None,
    max_new_tokens: int = 128,
    temperature: float = 0.8,
    top_k: int = 50,
    top_p: float = 0.95,
    seed: int = 0,
    vocab_size: int | None = None,
) -> Iterator[int]:
    """The ids that follow a prompt, one by one as they are drawn.

    It ends after `max_new_tokens`, at an end token (not handed out), or when the model's positions are used up.

    Args:
        model: A causal language model in eval mode.
        input_ids: The prompt, at least one id.
        eos_id: Id or ids that end the text; None never ends it.
        max_new_tokens: See `Sampling`, as for all that follow.
        temperature: 0 is greedy.
        top_k: 0 keeps all tokens.
        top_p: 1 keeps all tokens.
        seed: Seeds the draws.
        vocab_size: Ids from there on, which only pad the model's vocabulary, are never drawn.

    Raises:
        GenerationError: The prompt is empty or leaves no room in the model, or a setting means nothing.
    """
    sampling = Sampling(max_new_tokens, temperature, top_k, top_p, seed)
    room = min(max_new_tokens, _room(model, len(input_ids)))
    ends = {eos_id} if isinstance(eos_id, int) else set(eos_id or ())
    return _draw(model, list(input_ids), sampling, room, ends, vocab_size)


def max_positions(model: PreTrainedModel) -> int | None:
    """Longest sequence the model has positions for; None if it has no such limit."""
    positions: int | None = getattr(model.config, "max_position_embeddings", None)
    return positions


def _room(model: PreTrainedModel, prompt_tokens: int) -> int:
    if prompt_tokens == 0:
        raise GenerationError("prompt has 0 tokens; give at least one")
    positions = max_positions(model)
    if positions is None:
        return 2**63
    if prompt_tokens >= positions:
        raise GenerationError(
            f"prompt has {prompt_tokens} tokens but the model has {positions} positions;"
            f" shorten it to at most {positions - 1}"
        )
    return positions - prompt_tokens


def _draw(
    model: PreTrainedModel, ids: list[int], sampling: Sampling, room: int, ends: set[int], vocab_size: int | None
) -> Iterator[int]:
    generator = torch.Generator().manual_seed(sampling.seed)
    cache = DynamicCache()
    for _ in range(room):
        token = choose(_next_logits(model, ids, cache)[:vocab_size], sampling, generator)
        if token in ends:
            return
        yield token
        ids = [token]


# Not inference_mode: under ZeRO-3 a forward pass gathers parameters, and inference tensors cannot be trained again.
@torch.no_grad()
def _next_logits(model: PreTrainedModel, ids: list[int], cache: DynamicCache) -> torch.Tensor:
    """Logits (V,) after the cached tokens and `ids`, which the cache then holds too."""
    input_ids = torch.tensor([ids], device=model.device)
    logits: torch.Tensor = model(input_ids=input_ids, past_key_values=cache, use_cache=True).logits
    return logits[0, -1]
