"""Command lines: overrides anywhere, and mistakes in one sentence."""

import pytest

from pipeline.runtime.arguments import ArgumentParser


def parse(*words: str) -> list[str]:
    parser = ArgumentParser(prog="tarmac")
    train = parser.add_subparsers(required=True).add_parser("train")
    train.add_argument("config")
    train.add_argument("overrides", nargs="*", default=[])
    train.add_argument("--dry-run", action="store_true")
    return list(parser.parse_args(words).overrides)


def test_overrides_stand_on_either_side_of_options() -> None:
    assert parse("train", "a.yaml", "b=1", "--dry-run", "c=2") == ["b=1", "c=2"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train"], "tarmac train: the following arguments are required: config; see tarmac train --help\n"),
        (["train", "a.yaml", "--wet-run"], "tarmac: unrecognized arguments: --wet-run; see tarmac --help\n"),
    ],
)
def test_a_mistake_is_one_sentence(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(*words)
    assert ended.value.code == 2
    assert capsys.readouterr().err == sentence
