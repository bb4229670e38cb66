"""Lion learns as its paper's algorithm says, however its parameters are laid out."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.lion import Lion

SIZE, STEPS = 12, 4


def by_the_paper(
    weights: torch.Tensor, gradients: torch.Tensor, betas: tuple[float, float], decay: float
) -> torch.Tensor:
    """Chen et al. 2023, algorithm 2, element by element in double precision, at a rate of 0.01."""
    found = []
    for column, weight in enumerate(weights.tolist()):
        moment = 0.0
        for gradient in gradients[:, column].tolist():
            update = betas[0] * moment + (1 - betas[0]) * gradient
            sign = (update > 0) - (update < 0)
            weight -= 0.01 * (sign + decay * weight)
            moment = betas[1] * moment + (1 - betas[1]) * gradient
        found.append(weight)
    return torch.tensor(found)


@given(
    st.integers(0, 2**31),
    st.sampled_from([(0.9, 0.99), (0.95, 0.98)]),
    st.sampled_from([0.0, 1.0]),
    st.integers(1, SIZE - 1),
)
@settings(deadline=None)
def test_each_element_moves_by_the_sign(seed, betas, decay, cut):
    generator = torch.Generator().manual_seed(seed)
    weights, gradients = (torch.randn(*shape, generator=generator) for shape in ((SIZE,), (STEPS, SIZE)))
    gradients[:, 0] = 0  # never moved but by decay
    parts = [torch.nn.Parameter(one.clone()) for one in (weights[:cut], weights[cut:])]
    optimizer = Lion([{"params": [one]} for one in parts], lr=0.01, betas=betas, weight_decay=decay)
    for gradient in gradients:
        parts[0].grad, parts[1].grad = gradient[:cut].clone(), gradient[cut:].clone()
        optimizer.step()
    expected = by_the_paper(weights, gradients, betas, decay)
    torch.testing.assert_close(torch.cat([one.detach() for one in parts]), expected, rtol=1e-5, atol=1e-6)


def test_what_has_no_gradient_stays():
    kept, moved = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    moved.grad = torch.ones(2)
    optimizer = Lion([kept, moved], lr=0.5, weight_decay=1.0)
    optimizer.step()
    assert kept.tolist() == [1, 1]
    assert moved.tolist() == [0, 0]
    assert kept not in optimizer.state
