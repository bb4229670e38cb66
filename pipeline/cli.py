"""The `tarmac` command. Nothing heavy is imported before a command runs; only here do errors become exit statuses."""

import argparse
import os
import select
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points, version

from pipeline.commands.completion import add_completion
from pipeline.commands.look import add_looking
from pipeline.commands.prepare import add_preparing
from pipeline.commands.run import add_running, check, show_memory
from pipeline.commands.use import add_using
from pipeline.errors import TarmacError
from pipeline.runtime.arguments import ArgumentParser
from pipeline.runtime.ranks import ranks_from_environment

GROUPS = {
    "before a run": ("init", "prep", "data", "doctor", "health"),
    "run": ("train", "finetune", "launch", "resume", "status", "stop", "sync"),
    "use a run": ("eval", "generate", "export"),
    "look": ("report", "logs", "checkpoints", "explain", "verify"),
    "tools": ("schema", "completion"),
}
"""In which order `tarmac --help` tells of the commands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 2 after an error of the user's, told in one sentence."""
    parser = command_line()
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        parser.print_help()
        return 0
    options = parser.parse_args(arguments)
    try:
        status: int | None = options.run(options)
        sys.stdout.flush()
    except TarmacError as error:
        from pipeline.corpus.remote.urls import shown

        if not (error.on_all_ranks and ranks_from_environment().rank):
            print(f"tarmac: {shown(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # at its end Python would try once more
        return 128 + signal.SIGPIPE
    return status or 0


def _reader_is_gone() -> bool:
    """Whether who read what is printed has seen enough, as `head` does."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def command_line() -> ArgumentParser:
    """What parses `tarmac`'s command line."""
    parser = _Grouped(
        prog="tarmac",
        description="From web text to a trained language model on a GPU cluster.",
        epilog="First steps: tarmac init my.yaml; tarmac prep configs/data_prep/stdlib.yaml",
    )
    parser.add_argument("--version", action="version", version=f"tarmac {version('tarmac')}")
    parser.set_defaults(check=check, show_memory=show_memory)  # for `launch`, which knows no models
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=ArgumentParser)
    for entry_point in entry_points(group="tarmac.commands"):
        entry_point.load()(commands)
    for add in (add_preparing, add_running, add_using, add_looking):
        add(commands)
    add_completion(commands, parser)
    return parser


class _Grouped(ArgumentParser):
    """argparse lists sub-commands one after the other; here they stand in `GROUPS`."""

    def format_help(self) -> str:
        (commands,) = (action for action in self._actions if isinstance(action, argparse._SubParsersAction))
        texts = {action.dest: action.help for action in commands._get_subactions()}
        lines = [f"usage: {self.prog} COMMAND …", "", self.description or "", ""]
        for title, names in GROUPS.items():
            lines += [f"{title}:", *(f"  {name:<13}{texts[name]}" for name in names), ""]
        lines += [f"{self.prog} COMMAND --help tells more, with an example. {self.prog} --version", self.epilog or ""]
        return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
