from dataclasses import replace

import pytest

from pipeline.data.phases import DamagedChunk, Holes, Setting, SourceShare

SETTING = Setting((SourceShare("web", "", 1, 2**32),), 8, 4)
LOST = [DamagedChunk("web", 0, number) for number in range(3)]


@pytest.mark.parametrize(("packing", "mask", "keeps"), [
    ("concat", False, False), ("concat", True, True), ("best_fit", False, True), ("best_fit", True, True),
])  # fmt: skip
def test_packed_documents_are_kept_apart_always(packing: str, mask: bool, keeps: bool) -> None:
    assert replace(SETTING, packing=packing, mask_documents=mask).keeps_apart == keeps  # type: ignore[arg-type]


@pytest.mark.parametrize(("changes", "comes"), [
    ({"mask_documents": True}, True), ({"holes": Holes("some", (LOST[0],))}, True),
    ({"sequence_length": 9}, False), ({"global_batch": 5}, False), ({"packing": "best_fit"}, False),
    ({"sources": (SourceShare("web", "", 1, 1),)}, False),
])  # fmt: skip
def test_what_is_seen_of_sequences_does_not_change_how_they_come(changes: dict[str, object], comes: bool) -> None:
    other = replace(SETTING, **changes)  # type: ignore[arg-type]
    assert SETTING.comes_as(other) == other.comes_as(SETTING) == comes


def test_what_is_lost_adds_up() -> None:
    once = SETTING.without([LOST[2], LOST[0]])
    assert once.without([LOST[1], LOST[0]]).holes.quarantined == tuple(LOST)
