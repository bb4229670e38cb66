"""Memory is used again, but never while somebody holds any of it."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.memory import BatchMemory

VIEWS = {
    "tensor": lambda tensor: tensor,
    "row": lambda tensor: tensor[1],
    "parts": lambda tensor: torch.split(tensor, 1)[0].unbind()[0],
    "numpy": lambda tensor: tensor.numpy()[:, 2:],
    "storage": lambda tensor: tensor.untyped_storage(),
    "flat": lambda tensor: tensor.view(-1),
}


@given(st.lists(st.tuples(st.sampled_from([*VIEWS, "nothing"]), st.integers(0, 12), st.booleans()), max_size=40))
def test_what_is_held_is_not_given_again(steps: list[tuple[str, int, bool]]) -> None:
    """Views of all kinds, held for some steps."""
    memory, held = BatchMemory(), []
    for now, (kind, steps_held, is_long) in enumerate(steps):
        tensor = memory.tensor((2, 5 + is_long))
        place = tensor.data_ptr()
        held = [one for one in held if one[1] > now]
        assert all(place != other for other, _, _ in held)
        if kind != "nothing":
            held.append((place, now + steps_held, VIEWS[kind](tensor)))


def test_what_nobody_holds_is_given_again() -> None:
    memory = BatchMemory()
    one, other = memory.tensor((3, 4)), memory.tensor((3, 4))
    places = {one.data_ptr(), other.data_ptr()}
    view = other[0]
    del one, other
    assert memory.tensor((3, 4)).data_ptr() in places - {view.data_ptr()}
    del view
    assert {memory.tensor((3, 4)).data_ptr() for _ in range(5)} <= places


def test_it_keeps_few() -> None:
    memory = BatchMemory()
    held = [memory.tensor((3, 4)) for _ in range(50)]
    assert len({tensor.data_ptr() for tensor in held}) == 50
    assert len(memory._kept) < 10
    memory.tensor((4, 4))
    assert len(memory._kept) == 1
