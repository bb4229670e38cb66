"""Arguments that several commands have."""

import argparse
import math
from collections.abc import Callable
from typing import Any

CONFIG_HELP = "CONFIG is a YAML file; section.key=value words override its keys."


def add_acting(commands: Any, name: str, run: Any, text: str, example: str) -> argparse.ArgumentParser:
    """Add a command that acts by a config, which `--dry-run` shows."""
    description, epilog = f"{text[0].upper()}{text[1:]}. {CONFIG_HELP}", f"Example: {example}"
    parser = commands.add_parser(name, help=text, description=description, epilog=epilog)
    add_config(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and stop")
    parser.set_defaults(run=run)
    return parser


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add a config and words that override its keys."""
    parser.add_argument("config", metavar="CONFIG", help="YAML file")
    parser.add_argument("overrides", metavar="key=value", nargs="*", default=[], help="keys to override")


def positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    """The type of an argument that is a number above 0."""

    def parse(word: str) -> float:
        value = kind(word)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"{word} must be above 0")
        return value

    parse.__name__ = "number"
    return parse


def load_or_show(options: argparse.Namespace, stage: str) -> Any:
    """The config; None after a dry run, which prints it."""
    from pipeline.config.load import dump
    from pipeline.config.stages import load_stage

    config = load_stage(options.config, options.overrides, allowed=(stage,))
    if options.dry_run:
        print(dump(config), end="")
        return None
    return config
