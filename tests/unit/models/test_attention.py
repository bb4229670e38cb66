"""Pieces in one row do not see each other: in every attention, its gradients, compiled or not."""

import itertools
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

from pipeline.config.model import LlamaModel
from pipeline.errors import ConfigError
from pipeline.models.attention import packed_arguments, piece_bounds
from pipeline.models.blocks import compile_blocks
from pipeline.models.build import fresh_model
from pipeline.models.documents import attend_by_document
from pipeline.models.forms import decoder_config
from pipeline.models.processor import widen_products
from pipeline.objectives.causal import CausalLoss

FORM = LlamaModel(
    type="llama", hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4, num_key_value_heads=2, init_std=0.5
)
CONFIG = decoder_config(FORM, 64, eos_id=2, pad_id=3)
SIZES = [[7, 9], [16], [1, 12, 3]]
"""Sizes of the pieces of each row; all rows but the second hold several."""
IDS = torch.randint(64, (3, 16), generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(64, (3, 16), generator=torch.Generator().manual_seed(1))
POSITIONS = torch.stack([torch.cat([torch.arange(size) for size in sizes]) for sizes in SIZES])
TOLERANCE = {"fp32": 3e-6, "bf16": 0.03}
"""Of the largest: a piece alone makes matrices of other shapes, whose products round otherwise."""


def model(attention: str, dtype: str):
    network = fresh_model(deepcopy(CONFIG), 0, dtype, attention.removesuffix(" wide"))  # which writes its name there
    if attention.endswith(" wide"):
        widen_products(network)
    return network.train()


def pieces(row: int) -> list[slice]:
    ends = list(itertools.accumulate(SIZES[row]))
    return [slice(end - size, end) for size, end in zip(SIZES[row], ends, strict=True)]


def logits(network, ids: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
    packed = {} if positions is None else packed_arguments(positions, network.config._attn_implementation)
    return network(input_ids=ids, use_cache=False, **packed).logits


def close(one: torch.Tensor, other: torch.Tensor, dtype: str) -> bool:
    return torch.allclose(one, other, rtol=0, atol=TOLERANCE[dtype] * float(other.abs().max()))


@pytest.mark.parametrize(("attention", "dtype"), [
    ("eager", "fp32"), ("sdpa", "fp32"), ("documents", "fp32"),
    ("eager", "bf16"), ("sdpa", "bf16"), ("documents", "bf16"), ("sdpa wide", "bf16"), ("documents wide", "bf16"),
])  # fmt: skip
@torch.no_grad()
def test_a_piece_in_a_row_of_several_is_as_if_alone(attention, dtype):
    network = model(attention, dtype)
    packed, mixed = logits(network, IDS, POSITIONS), logits(network, IDS)
    for row in range(3):
        for number, piece in enumerate(pieces(row)):
            alone = logits(network, IDS[row : row + 1, piece])[0]
            assert close(packed[row, piece], alone, dtype)
            assert close(mixed[row, piece], alone, dtype) == (number == 0)


@pytest.mark.parametrize("attention", ["eager", "sdpa", "documents"])
@torch.no_grad()
def test_a_piece_does_not_depend_on_the_others_at_all(attention):
    """Bit by bit: masked tokens weigh exactly nothing."""
    network, ids = model(attention, "fp32"), IDS.clone()
    ids[0, :7], ids[2, 13:] = 5, 9
    before, after = logits(network, IDS, POSITIONS), logits(network, ids, POSITIONS)
    assert torch.equal(before[0, 7:], after[0, 7:])
    assert torch.equal(before[2, :13], after[2, :13])
    assert not torch.equal(before[0, :7], after[0, :7])


@pytest.mark.parametrize(("attention", "tolerance"), [("eager", 2e-5), ("sdpa", 1e-6), ("documents", 1e-6)])
def test_losses_and_gradients_of_packed_rows_are_those_of_pieces_alone(attention, tolerance):
    """In double precision, where processors agree; eager takes its softmax in fp32 all the same."""

    def gradients(batches) -> tuple[float, list[torch.Tensor]]:
        network = model(attention, "fp32").double()
        loss = sum(CausalLoss(network)(*batch) for batch in batches)
        loss.backward()
        return float(loss.detach()), [parameter.grad for parameter in network.parameters()]

    alone = [(IDS[row : row + 1, piece], LABELS[row : row + 1, piece]) for row in range(3) for piece in pieces(row)]
    loss, found = gradients([(IDS, LABELS, POSITIONS)])
    expected_loss, expected = gradients(alone)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=tolerance * float(other.abs().max()))
    assert gradients([(IDS, LABELS)])[0] != pytest.approx(expected_loss, rel=1e-3)


def test_bounds_of_pieces():
    assert piece_bounds(POSITIONS).tolist() == [0, 7, 16, 32, 33, 45, 48]
    assert piece_bounds(POSITIONS).dtype == torch.int32
    rest = torch.tensor([[0, 1, 0, 3, 4], [0, 0, 0, 1, 2]])  # the rest of the first row is padding
    assert piece_bounds(rest).tolist() == [0, 2, 3, 5, 6, 7, 10]


@torch.no_grad()
def test_flash_attention_is_told_where_pieces_end():
    """By itself transformers takes several rows as one piece each. Here its kernel is ours, on the CPU."""
    AttentionInterface.register("flash_by_bounds", _by_bounds)
    AttentionMaskInterface.register("flash_by_bounds", ALL_MASK_ATTENTION_FUNCTIONS["flash_attention_2"])
    network, expected = model("eager", "fp32"), logits(model("eager", "fp32"), IDS, POSITIONS)
    network.config._attn_implementation = "flash_by_bounds"  # its setter would look for a kernel of that name
    assert close(logits(network, IDS, POSITIONS), expected, "fp32")


class _Counting:
    """A backend that counts what it is given."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph, inputs):
        self.count += 1
        return graph


@pytest.mark.parametrize("attention", ["sdpa", "documents"])
def test_each_length_is_compiled_twice_at_most(attention):
    """Once for rows of one piece and once for rows of several; all blocks share it, and however many, none is left."""
    torch._dynamo.reset()
    backend, network = _Counting(), model(attention, "fp32")
    loss = CausalLoss(network)
    compile_blocks(network, backend=backend)
    generator = torch.Generator().manual_seed(2)
    for length in (16, 8, 12, 20, 24, 28):
        before = backend.count
        for first in (0, 3, 5, 0, 2):
            ids = torch.randint(64, (2, length), generator=generator)
            positions = torch.arange(length).repeat(2, 1)
            positions[:, first:] -= first
            found = loss(ids, ids, positions if first else None)
            assert float(found.detach()) == pytest.approx(_plain(ids, positions), rel=1e-6)
            found.backward()
        assert backend.count - before == 2


def _plain(ids: torch.Tensor, positions: torch.Tensor) -> float:
    with torch.no_grad():
        return float(CausalLoss(model("sdpa", "fp32"))(ids, ids, positions))


def test_another_number_of_pieces_is_nothing_new_to_compile():
    torch._dynamo.reset()
    backend = _Counting()
    compiled = torch.compile(lambda bounds: bounds.diff().sum(), dynamic=False, backend=backend)
    for first in range(2, 9):
        positions = torch.cat([torch.arange(first), *[torch.arange(1)] * (16 - first)])[None]
        compiled(packed_arguments(positions, "flash_attention_2")["cu_seq_lens_q"])
    assert backend.count == 1


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=3),
    heads=st.sampled_from([(1, 1), (4, 2), (6, 2), (3, 3)]),
    causal=st.booleans(),
)
def test_attention_by_document_is_that_of_a_dense_mask(sizes, heads, causal):
    """Forward and backward, both ways of looking, however many pieces and heads."""
    length = max(map(sum, sizes))
    rows = [[*row, length - sum(row)] if sum(row) < length else row for row in sizes]
    positions = torch.stack([torch.cat([torch.arange(size) for size in row]) for row in rows])
    same = torch.stack([torch.block_diag(*(torch.ones(size, size) for size in row)) for row in rows]).bool()[:, None]
    mask = same & torch.ones(length, length).tril().bool() if causal else same
    generator = torch.Generator().manual_seed(length)
    shapes = [(len(rows), number, length, 8) for number in (heads[0], heads[1], heads[1], heads[0])]
    *inputs, weights = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    packed = {"is_causal": causal, "cu_seq_lens_q": piece_bounds(positions)}
    found = _attended(
        inputs, weights, lambda *qkv: attend_by_document(nn.Identity(), *qkv, None, **packed)[0].transpose(1, 2)
    )
    expected = _attended(inputs, weights, lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, enable_gqa=True))  # fmt: skip
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-10)


def _attended(inputs, weights, attention) -> list[torch.Tensor]:
    """What an attention gives, and its gradients by queries, keys and values."""
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    output = attention(*inputs)
    (output * weights).sum().backward()
    return [output.detach(), *(tensor.grad for tensor in inputs)]


def test_blocks_compiled_by_inductor_attend_by_document():
    """The fused operation inside compiled code: loss and gradients of several numbers of pieces are as without it."""
    torch._dynamo.reset()
    plain, compiled = model("documents", "fp32"), model("documents", "fp32")
    compile_blocks(compiled)
    for sizes in ([[7, 9]] * 3, SIZES):
        positions = torch.stack([torch.cat([torch.arange(size) for size in row]) for row in sizes])
        for network in (plain, compiled):
            network.zero_grad()
            CausalLoss(network)(IDS, LABELS, positions).backward()
        for one, other in zip(compiled.parameters(), plain.parameters(), strict=True):
            assert torch.allclose(one.grad, other.grad, rtol=0, atol=1e-4 * float(other.grad.abs().max()))


@pytest.mark.parametrize("wish", [{"dropout": 0.1}, {"sliding_window": 3}, {"attention_mask": torch.ones(1)},
                                  {"softcap": 30.0}, {"s_aux": torch.ones(1)}])  # fmt: skip
def test_what_attention_by_document_cannot_do_is_refused(wish):
    tensor = torch.zeros(1, 1, 4, 8)
    with pytest.raises(ConfigError, match="take sdpa"):
        attend_by_document(nn.Identity(), tensor, tensor, tensor, **{"attention_mask": None, **wish})


def _by_bounds(module, query, key, value, attention_mask, scaling, **packed):
    """What a kernel for variable lengths computes: shapes (B, heads, L, head size), laid end to end."""
    assert attention_mask is None
    assert torch.equal(packed["cu_seq_lens_q"], packed["cu_seq_lens_k"])
    groups = query.shape[1] // key.shape[1]
    flat = [x.transpose(1, 2).flatten(0, 1) for x in
            (query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1))]  # fmt: skip
    output = torch.empty_like(flat[0])
    for first, last in itertools.pairwise(packed["cu_seq_lens_q"].tolist()):
        assert last - first <= packed["max_length_q"]
        q, k, v = (x[first:last].transpose(0, 1) for x in flat)
        attended = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling)
        output[first:last] = attended.transpose(0, 1)
    return output.unflatten(0, query.shape[::2]), None
