import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from data_prep.built import BuiltSource
from data_prep.corpus import statistics as corpus_statistics
from data_prep.corpus.statistics import dropped_samples
from data_prep.reading.losses import SAMPLES_NAME, Line, lowest


def line(reason: str, number: int) -> Line:
    return {"reason": reason, "id": f"{number * 7 % 50:032x}", "text": str(number)}


def test_few_of_all_tasks_samples_are_held_and_the_lowest_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    def counted(lines: Any) -> list[Line]:
        held.append(len(list(lines)))
        return lowest(lines)

    monkeypatch.setattr(corpus_statistics, "lowest", counted)
    every = [line(reason, number) for number in range(50) for reason in ("url:domain", "rules:short")]
    for number in range(25):
        (tmp_path / str(number)).mkdir()
        lines = every[4 * number : 4 * number + 4]
        (tmp_path / str(number) / SAMPLES_NAME).write_text("".join(json.dumps(one) + "\n" for one in lines))
    source = cast("BuiltSource", SimpleNamespace(reads=[SimpleNamespace(folder=str(number)) for number in range(25)]))
    expected = [
        sorted((one for one in every if one["reason"] == reason), key=lambda one: str(one["id"]))[:3]
        for reason in ("rules:short", "url:domain")
    ]
    assert dropped_samples(source, tmp_path) == [one for group in expected for one in group]
    assert max(held) == 4
