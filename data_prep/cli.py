"""`tarmac prep`."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.config.prep import PrepConfig

_DESCRIPTION = """\
Turn raw text into a corpus: documents are cleaned, deduplicated, split, shuffled, tokenized and written as webdataset
tarballs with a manifest. CONFIG is a YAML file; section.key=value words override its keys.
"""
_EPILOG = "Example: tarmac prep configs/data_prep/stdlib.yaml output=data/mine executor.workers=4"


def add_prep(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to a parser's commands."""
    parser = commands.add_parser(
        "prep", help="turn raw text into tokenized shards", description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.add_argument("config", metavar="CONFIG", help="YAML file")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="keys to override")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and what would be read")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from pipeline.config.prep import PrepConfig
    from pipeline.config.stages import load_stage

    config = load_stage(options.config, options.overrides, allowed=("prep",))
    assert isinstance(config, PrepConfig)
    if options.dry_run:
        _print_plan(config)
        return
    from data_prep.stage import prep

    prep(config)


def _print_plan(config: "PrepConfig") -> None:
    from data_prep.plan import plan_sources
    from pipeline.config.load import dump

    print(dump(config), end="")
    for plan in plan_sources(config):
        print(
            f"# source {plan.source.name}: {len(plan.files):,} files, {plan.bytes:,} bytes,"
            f" {len(plan.tasks):,} reading tasks, {plan.num_buckets:,} shards"
        )
