"""`tarmac prep`."""

import argparse
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config.prep.recipe import PrepConfig

_DESCRIPTION = """\
Turn raw text into a corpus: documents are cleaned, deduplicated, split, shuffled, tokenized and written as webdataset
tarballs with a manifest. CONFIG is a YAML file; section.key=value words override its keys. What an interrupted job
finished is used again, and so is all that a change does not touch. A source added at the end of the config is appended
to a finished corpus.
"""
_EPILOG = "Example: tarmac prep configs/data_prep/stdlib.yaml output=data/mine workers=4"


def add_prep(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to a parser's commands."""
    parser = commands.add_parser(
        "prep", help="turn raw text into tokenized shards", description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.add_argument("config", metavar="CONFIG", help="YAML file")
    parser.add_argument("overrides", metavar="key=value", nargs="*", default=[], help="keys to override")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and, from a sample, the plan")
    parser.add_argument(
        "--replace", action="store_true", help="replace a finished corpus of another config or of other inputs"
    )
    parser.add_argument(
        "--rehash", action="store_true", help="read all inputs again to see whether their bytes changed unnoticed"
    )
    parser.set_defaults(run=_run)


class _Terminated(KeyboardInterrupt):
    """SIGTERM; it ends the stage as Ctrl-C does."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def _run(options: argparse.Namespace) -> int:
    from pipeline.config.prep.recipe import PrepConfig
    from pipeline.config.stages import load_stage

    config = load_stage(options.config, options.overrides, allowed=("prep",))
    assert isinstance(config, PrepConfig)
    if options.dry_run:
        _print_plan(config)
        return 0
    return _prepare(config, options)


def _prepare(config: "PrepConfig", options: argparse.Namespace) -> int:
    """Run the stage; the exit status is that of a signal that ended it."""
    from data_prep.stage import prep

    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        prep(config, replace=options.replace, rehash=options.rehash)
    except KeyboardInterrupt as error:
        print("tarmac: stopped; finished tasks are kept, give the same command to go on", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(error, _Terminated) else signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _print_plan(config: "PrepConfig") -> None:
    from rich.console import Console

    from data_prep.corpus.places import work_path
    from data_prep.estimate import print_plan
    from pipeline.config.load import dump

    work_path(config)
    print(dump(_without_queries(config)), end="")
    print_plan(config, Console())


def _without_queries(config: "PrepConfig") -> "PrepConfig":
    """A config whose URLs say where they lead, but not the signatures that open them."""
    return type(config).model_validate(_masked(config.model_dump(mode="json")))


def _masked(value: Any) -> Any:
    from data_prep.readers.remote import split_query

    if isinstance(value, dict):
        return {key: _masked(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner) for inner in value]
    address, query = split_query(value) if isinstance(value, str) else (value, "")
    return f"{address}?…" if query else value
