"""The command that lets a shell complete commands, options, and paths."""

import argparse
from typing import Any

_SHELLS = ("bash", "zsh")
_FOLDERS = ("RUN", "CORPUS", "EXPORT")
"""How the names of arguments begin that take a folder; CONFIG, RECIPE, YAML and FILE are files."""


def add_completion(commands: Any, root: argparse.ArgumentParser) -> None:
    """Add `completion`, which completes what `root` parses."""
    parser = commands.add_parser(
        "completion",
        help="let the shell complete tarmac's commands",
        description="Print a script that lets a shell complete commands, options and paths.",
        epilog='Example: eval "$(tarmac completion bash)", in ~/.bashrc to keep it; zsh: the same in ~/.zshrc, after'
        " compinit",
    )
    parser.add_argument("shell", metavar="|".join(_SHELLS), choices=_SHELLS, help="which shell")
    parser.set_defaults(run=lambda options: print(_script(root, options.shell)))


def _script(root: argparse.ArgumentParser, shell: str) -> str:
    import shtab

    for parser in _with_commands(root):
        for action in parser._actions:
            kind = _kind(action)
            if kind:
                action.complete = shtab.DIRECTORY if kind == "folder" else shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(root, shell)


def _with_commands(root: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    choices = [action.choices for action in root._actions if isinstance(action, argparse._SubParsersAction)]
    return [root, *(parser for commands in choices for parser in commands.values())]


def _kind(action: argparse.Action) -> str | None:
    name = action.metavar if isinstance(action.metavar, str) else ""
    if name.startswith(_FOLDERS):
        return "folder"
    return "file" if name in ("CONFIG", "RECIPE", "YAML", "FILE") else None
