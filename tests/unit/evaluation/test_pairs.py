import json
from pathlib import Path

import pytest

from pipeline.errors import CorpusError
from pipeline.evaluation.pairs import read_pairs


def line(*roles: str) -> str:
    return json.dumps({"id": "0", "messages": [{"role": role, "content": role * 2} for role in roles]}) + "\n"


def test_only_pairs_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(line("user", "assistant") + "\n" + line("system", "user", "assistant") + line("user"))
    assert read_pairs(path) == [
        [{"role": "user", "content": "useruser"}, {"role": "assistant", "content": "assistant" * 2}]
    ]


@pytest.mark.parametrize("bad", ["{", "[]", '{"messages": [{"role": "user"}]}', '{"messages": 3}'])
def test_a_bad_line_is_named(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(line("user", "assistant") + bad + "\n")
    with pytest.raises(CorpusError, match=r"pairs\.jsonl, line 2: not a conversation"):
        read_pairs(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot be read: No such file or directory; give a JSON-lines file"):
        read_pairs(tmp_path / "none.jsonl")
