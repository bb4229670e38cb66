"""Sequence parallelism: ranks that share a sequence hold a stretch of it each, but for attention (arXiv:2309.14509).

Between layers a rank has its stretch of L / s tokens in all heads. Around attention, ranks exchange until each has the
whole sequence in H / s of the heads. The exchange is DeepSpeed's operator, the attention around it ours: its own
(`UlyssesSPAttentionHF`) takes no mask, so that pieces of a packed row would see each other in `sdpa`.

Legend: B = sequences in a micro batch, L = tokens in a sequence, s = ranks that share it, H = heads, D = head size.
"""

from typing import Any

import torch
from deepspeed.sequence.layer import _dim_zero_all_to_all, register_all_to_all_group
from torch import nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from pipeline.engine.mesh import Mesh
from pipeline.engine.process_group import ProcessGroup
from pipeline.errors import ConfigError
from pipeline.models.attention import packed_arguments

ATTENTION = "ulysses"


class SequenceParallel:
    """Cuts micro batches, and makes a model's attention see whole sequences all the same."""

    def __init__(self, model: nn.Module, mesh: Mesh, group: ProcessGroup) -> None:
        """Change the transformers model inside `model`; all ranks call it.

        Raises:
            ConfigError: Its heads cannot be divided among the ranks of a sequence, or see a part of it only.
        """
        inner = next(module for module in model.modules() if isinstance(module, PreTrainedModel))
        self._size, self._rank = mesh.sequence_size, mesh.sequence_rank
        self._group = group.neighbours(mesh.sequence_size)
        register_all_to_all_group(self._group)
        self._bounds: torch.Tensor | None = None
        self._attention = inner.config._attn_implementation
        self._attend = ALL_ATTENTION_FUNCTIONS[self._attention]
        self._share_heads(inner)
        require_whole_rows(inner)
        AttentionInterface.register(ATTENTION, self._attend_whole)  # no mask goes by this name: `_whole` makes it
        inner.set_attn_implementation(ATTENTION)
        inner.register_forward_pre_hook(self._whole, with_kwargs=True)

    def _share_heads(self, model: PreTrainedModel) -> None:
        config = model.config.get_text_config()
        heads = config.num_attention_heads
        key_value_heads = getattr(config, "num_key_value_heads", None) or heads
        if heads % self._size or max(key_value_heads, self._size) % min(key_value_heads, self._size):
            raise ConfigError(
                f"engine.sequence_parallel ({self._size}) must divide the model's {heads} attention heads, and divide"
                f" or be a multiple of its {key_value_heads} key and value heads; choose another"
            )
        self._copies = max(1, self._size // key_value_heads)  # of each key and value head, so that all ranks have one
        for module in model.modules():
            if hasattr(module, "num_key_value_groups"):
                module.num_key_value_groups = heads // (key_value_heads * self._copies)

    def cut(self, parts: list[torch.Tensor]) -> list[torch.Tensor]:
        """This rank's stretch, (B, L / s), of the first two, inputs and labels; positions and bounds of pieces, where
        there are any, stay those of whole rows."""
        self._bounds = parts[3] if len(parts) > 3 else None
        return [*(self._stretch(part) for part in parts[:2]), *parts[2:]]

    def _stretch(self, rows: torch.Tensor) -> torch.Tensor:
        length = rows.shape[1] // self._size
        return rows[:, self._rank * length : (self._rank + 1) * length]

    def _whole(self, model: nn.Module, positional: Any, arguments: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """What the model is called with: tokens of a stretch, their places in their pieces, the whole row's mask."""
        tokens, positions, mask = arguments["input_ids"], arguments.get("position_ids"), {}
        if positions is None:
            positions = torch.arange(tokens.shape[1] * self._size, device=tokens.device)[None]
        else:
            mask = packed_arguments(positions, self._attention, self._bounds)
            if mask.keys() == {"position_ids"}:  # transformers would make the mask, of the stretch
                mask["attention_mask"] = same_piece(positions)
        return positional, {**arguments, **mask, "position_ids": self._stretch(positions)}

    def _attend_whole(
        self, module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any,
        position_ids: torch.Tensor | None = None, **arguments: Any,
    ) -> tuple[torch.Tensor, None]:  # fmt: skip
        """Attention of shapes (B, heads, L / s, D), returned as (B, L / s, H, D); positions were of the stretch."""
        key, value = (one.repeat_interleave(self._copies, dim=1) for one in (key, value))
        query, key, value = (self._to_heads(one) for one in (query, key, value))
        output, _ = self._attend(module, query, key, value, mask, **arguments)
        return self._to_stretch(output), None

    def _to_heads(self, states: torch.Tensor) -> torch.Tensor:
        """From (B, heads, L / s, D) to (B, heads / s, L, D)."""
        parts = states.unflatten(1, (self._size, -1)).movedim(1, 0)
        return _dim_zero_all_to_all(self._group, parts).movedim(0, 2).flatten(2, 3)

    def _to_stretch(self, output: torch.Tensor) -> torch.Tensor:
        """From (B, L, heads / s, D) to (B, L / s, heads, D)."""
        parts = output.unflatten(1, (self._size, -1)).movedim(1, 0)
        return _dim_zero_all_to_all(self._group, parts).movedim(0, 2).flatten(2, 3)


def require_whole_rows(model: PreTrainedModel) -> None:
    """Raise ConfigError for forms with local attention: the masks of whole rows that are made here know no windows."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention" if window is None else "sliding_attention"])
    if window is not None and kinds != {"full_attention"}:
        raise ConfigError(
            f"engine.sequence_parallel needs attention to whole rows, and the model has windows of {window} tokens;"
            " leave it out"
        )


def same_piece(position_ids: torch.Tensor) -> torch.Tensor:
    """Who sees whom in rows of several pieces: bool of shape (B, 1, L, L), from positions of shape (B, L)."""
    begins = torch.nn.functional.pad(position_ids.diff(dim=1) != 1, (1, 0))
    piece = begins.cumsum(dim=1)
    return (piece[:, None, :, None] == piece[:, None, None, :]).tril()
