"""What the `tarmac` command shows of itself: groups, examples, completion."""

import argparse
import subprocess
import sys

import pytest

from pipeline.cli import GROUPS, command_line, main

COMMANDS = command_line()._subparsers._group_actions[0].choices


def test_each_command_stands_in_one_group() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(COMMANDS)


def test_help_tells_each_command_with_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    for action in command_line()._subparsers._group_actions[0]._get_subactions():
        assert f"  {action.dest:<13}{action.help}\n" in shown


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_has_an_example(name: str) -> None:
    epilog = COMMANDS[name].epilog
    assert "xample" in epilog
    assert f"tarmac {name} " in epilog or f"tarmac {name}\n" in epilog


def complete(*words: str) -> list[str]:
    """What bash offers for the last word."""
    script = f"""
eval "$({sys.executable} -m pipeline.cli completion bash)"
COMP_WORDS=({" ".join(f"'{word}'" for word in words)}) COMP_CWORD={len(words) - 1}
_shtab_tarmac && printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    return result.stdout.split()


def test_a_real_shell_completes_commands_options_and_paths(tmp_path, monkeypatch) -> None:
    (tmp_path / "recipe.yaml").touch()
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert complete("tarmac", "ch") == ["checkpoints"]
    assert complete("tarmac", "explain", "--doc") == ["--document"]
    assert complete("tarmac", "launch", "rec") == ["recipe.yaml"]
    assert complete("tarmac", "status", "") == ["runs"], "folders, no files"


def test_a_shell_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["completion", "fish"])
    assert error.value.code == 2
    assert "fish" in capsys.readouterr().err


def test_hidden_options_are_not_completed() -> None:
    hidden = [action for action in COMMANDS["train"]._actions if action.help == argparse.SUPPRESS]
    assert [action.dest for action in hidden] == ["local_rank"]
    assert "--local_rank" not in complete("tarmac", "train", "--")
