"""What `tarmac prep --dry-run` expects against what is then prepared, source by source.

    .venv/bin/python -m benchmarks.dry_run CONFIG [--folder F]

The corpus is prepared in a temporary folder, with exact duplicates, which a dry run does not count.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from rich.console import Console

from data_prep.estimate import estimate, token_counter
from data_prep.plan import plan_sources
from data_prep.stage import prep
from pipeline.config.load import load
from pipeline.config.prep.recipe import Dedup, PrepConfig
from pipeline.corpus.manifest import SPLIT_FOLDERS, Manifest, read_manifest


def main() -> None:
    """Estimate, prepare and print."""
    arguments = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="dry-run-", dir=arguments.folder))
    try:
        changes = {"output": str(folder / "corpus"), "work": str(folder / "work"), "dedup": Dedup(exact=False)}
        config = load(PrepConfig, arguments.config).model_copy(update=changes)
        count = token_counter(config).count
        expected = {plan.source.name: (plan.bytes, estimate(config, plan, count)) for plan in plan_sources(config)}
        manifest = read_manifest(prep(config, Console(stderr=True)))
    finally:
        shutil.rmtree(folder)
    print("| source | input MB | text MB expected | found | tokens expected | found | |\n|---|---|---|---|---|---|---|")
    for name, (size, amounts) in expected.items():
        text_bytes, tokens = manifest.statistics["sources"][name]["text_bytes"], _tokens(manifest, name)
        print(
            f"| {name} | {size / 1e6:,.1f} | {amounts.kept_bytes / 1e6:,.2f} | {text_bytes / 1e6:,.2f} |"
            f" {amounts.tokens:,.0f} | {tokens:,} | {amounts.tokens / tokens - 1:+.0%} |"
        )


def _tokens(manifest: Manifest, source: str) -> int:
    return sum(shard.tokens for split in SPLIT_FOLDERS for shard in manifest.sources(split).get(source, []))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a config of data preparation")
    parser.add_argument("--folder", help="where the corpus goes; a temporary folder if not given")
    return parser.parse_args()


if __name__ == "__main__":
    main()
