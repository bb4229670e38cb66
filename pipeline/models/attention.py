"""Attention over rows that hold several pieces of text, none of which may see another.

transformers tells pieces apart by `position_ids`, if it is given no mask: `eager` and `sdpa` get a block-diagonal
mask. `flash_attention_2` looks at them for one row only; of several rows it takes each as one piece and says nothing.
So it is told where pieces end, and so is `documents`.
"""

from typing import Any

import torch

DOCUMENTS = "documents"
"""Name of `pipeline.models.documents` among transformers' attentions."""


def packed_arguments(position_ids: torch.Tensor, attention: str, bounds: torch.Tensor | None = None) -> dict[str, Any]:
    """What a transformers model is called with besides its tokens.

    Args:
        position_ids: int64 of shape (B, L): places within pieces; a piece begins where they do not go on by one.
        attention: The name of the model's attention.
        bounds: Their `piece_bounds`, where they are known already; to find them on a GPU is to wait for it.
    """
    if not attention.startswith(("flash", DOCUMENTS)):
        return {"position_ids": position_ids}
    if bounds is None:
        bounds = piece_bounds(position_ids)
    torch._dynamo.maybe_mark_dynamic(bounds, 0)  # else another number of pieces would compile anew
    length = position_ids.shape[1]  # no piece is longer, and this one does not change from batch to batch
    return {
        "position_ids": position_ids,
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": length,
        "max_length_k": length,
    }


def piece_bounds(position_ids: torch.Tensor) -> torch.Tensor:
    """Where pieces begin in the rows laid end to end, and their end: int32, one more than there are pieces."""
    begins = torch.ones_like(position_ids, dtype=torch.bool)
    begins[:, 1:] = position_ids.diff(dim=1) != 1
    firsts = begins.flatten().nonzero().flatten()
    return torch.nn.functional.pad(firsts, (0, 1), value=position_ids.numel()).to(torch.int32)
