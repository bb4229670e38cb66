"""A run that is killed over and over at random moments, and what is left of it in the end.

    python -m tests.faults.chaos --kills 60 --random-world 50

More than half of the kills come while a checkpoint is being written. At the end a run that kept its number of ranks
must have the very weights of one that was never interrupted, and one that changed it the same loss within 5e-3; each
rank's ledger must hold, step by step, the samples that the order says. The changing one trains in fp32 and at a low
rate: sums over other numbers of ranks round otherwise, and over hundreds of steps a high rate makes much of little.
"""

import argparse
import hashlib
import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL
from typing import Any

import xxhash

from pipeline.config.load import read_mapping, validate
from pipeline.config.run import RunConfig
from pipeline.data.loader import Loader, Share
from pipeline.engine.checkpoint.weights import find_checkpoint, saved_weights
from pipeline.stages.data.plan import order_of
from pipeline.stages.ingredients import open_data
from tests.faults.runs import Job, events, last_step, rows, small_corpus_folder, write_recipe

EVERY_STEPS = 5


@dataclass
class Story:
    """What happened to a run."""

    kills: int = 0
    in_saves: int = 0
    """Kills after which a partly written checkpoint was left."""
    recoveries: list[float] = field(default_factory=list)
    """Seconds from a kill to the next step that was not there before, the start of the processes included."""
    ends: list[float] = field(default_factory=list)
    """Seconds from the kill of one rank to the end of the others."""
    lost_steps: list[int] = field(default_factory=list)
    """Steps made again after each kill."""
    wall_seconds: float = 0.0


def torment(recipe: Path, kills: int, worlds: tuple[int, ...], seed: int) -> Story:
    """Start a run again and again, and kill one of its ranks at a random moment, until it has been killed enough."""
    story, chance, begun = Story(), random.Random(seed), time.monotonic()
    run, reached, killed_at = recipe.with_suffix(""), 0, None
    while True:
        with Job(recipe, chance.choice(worlds)) as job:
            aims_at_save = chance.random() < 0.6
            job.wait_until(lambda beyond=reached: last_step(run) > beyond)
            if killed_at is not None:
                story.recoveries.append(time.monotonic() - killed_at)
            if story.kills == kills:
                job.done(600)
                story.wall_seconds = time.monotonic() - begun
                return story
            _wait_for_the_moment(job, run, chance, aims_at_save)
            killed_at = time.monotonic()
            job.send(SIGKILL, chance.randrange(len(job.ranks)))
            statuses = job.wait(30)
            assert -SIGKILL in statuses, f"the run ended before it could be killed: {statuses}\n{job.said()}"
            story.ends.append(time.monotonic() - killed_at)
        story.kills += 1
        story.in_saves += _has_begun_a_file(run)
        reached = last_step(run)
        story.lost_steps.append(reached - _saved(run))


def _wait_for_the_moment(job: Job, run: Path, chance: random.Random, aims_at_save: bool) -> None:
    """Some steps on; or until the first bytes of a checkpoint are there, and a little while after."""
    last = last_step(run) + chance.randrange(1, 3 * EVERY_STEPS)
    job.wait_until(lambda: last_step(run) >= last)
    if aims_at_save:
        job.wait_until(lambda: _has_begun_a_file(run))
        time.sleep(chance.random() * 0.02)
    else:
        time.sleep(chance.random() * 0.1)


def _has_begun_a_file(run: Path) -> bool:
    return any(True for _ in (run / "checkpoints").glob("step-*[0-9].partial/state/*"))


def _saved(run: Path) -> int:
    steps = [int(path.name[5:]) for path in (run / "checkpoints").glob("step-*") if path.name[5:].isdigit()]
    return max(steps, default=0)


def weights_digest(run: Path) -> str:
    """sha256 over the newest checkpoint's weights."""
    digest = hashlib.sha256()
    weights = saved_weights(find_checkpoint(run / "checkpoints")[0])
    for name in sorted(weights.shapes):
        digest.update(name.encode() + weights.read(name).numpy().tobytes())
    return digest.hexdigest()


def wrong_samples(run: Path, worlds: tuple[int, ...]) -> list[str]:
    """Lines of the ledgers that are not what the order says, and steps that are in none: samples lost or repeated."""
    config = validate(RunConfig, read_mapping(run / "config.yaml"), "run")
    faults = []
    expected = {(world, rank): dict(_expected(config, world, rank)) for world in worlds for rank in range(world)}
    for rank in range(max(worlds)):
        found = rows(run / "ledger" / f"rank-{rank:05d}.jsonl")
        for row in found:
            right = {expected[world, rank][row["step"]] for world in worlds if rank < world}
            if row["digest"] not in right:
                faults.append(f"rank {rank}, step {row['step']}: other samples than the order says")
        if rank == 0:
            faults += [f"step {step} is missing" for step in set(range(1, config.num_steps + 1)) - steps_of(found)]
    return faults


def steps_of(found: list[dict[str, Any]]) -> set[int]:
    return {row["step"] for row in found}


def _expected(config: RunConfig, world: int, rank: int) -> Iterator[tuple[int, str]]:
    """Digest of what a rank's forward passes take, per step, by the loader alone."""
    data = open_data(config)
    order = order_of(config, data.source, None, ())
    share = Share(rank, world, config.batch.micro_size)
    for batch in Loader(data.source, order, share, data.tokenizer.pad_id, 0).batches(0, config.num_steps):
        digest = xxhash.xxh3_128()
        for micro_batch in batch.micro_batches:
            digest.update(micro_batch.input_ids.numpy().data)
            digest.update(micro_batch.labels.numpy().data)
        yield batch.step + 1, digest.hexdigest()


def final_loss(run: Path) -> float:
    """Loss on held-out data after the last step."""
    return [row["validation/loss"] for row in rows(run / "metrics.jsonl") if "validation/loss" in row][-1]


def step_seconds(run: Path) -> float:
    """Median time of a step."""
    return statistics.median(row["perf/step_seconds"] for row in rows(run / "metrics.jsonl") if "train/loss" in row)


def figures(story: Story, run: Path, plain: Path, steps: int) -> Mapping[str, Any]:
    """What docs/reliability.md tells."""
    saves = [event for event in events(run, "save") if event["stall_seconds"] < event["seconds"]]
    return {
        "kills": story.kills,
        "kills while a checkpoint was written": story.in_saves,
        "seconds from a kill to the end of the job: median, most": _median_and_most(story.ends),
        "seconds from a kill to new progress: median, most": _median_and_most(story.recoveries),
        "steps made again after a kill: median, most": _median_and_most(story.lost_steps),
        "seconds a save takes: median, most": _median_and_most([event["seconds"] for event in saves]),
        "seconds it stalls training: median, most": _median_and_most([event["stall_seconds"] for event in saves]),
        "goodput": round(steps * step_seconds(plain) / story.wall_seconds, 4),
        "wall minutes": round(story.wall_seconds / 60, 1),
    }


def _median_and_most(values: list[Any]) -> list[float]:
    return [round(statistics.median(values), 3), round(max(values), 3)] if values else []


def main() -> None:
    """Run it whole and print the figures; a broken promise ends it with an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60, help="of a run on two ranks")
    parser.add_argument("--random-world", type=int, default=50, help="kills of a run on one to three ranks in turn")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    corpus = small_corpus_folder(folder, num_texts=4000)
    whole(folder, corpus, options.kills, options.random_world, options.seed)
    shutil.rmtree(folder)


def whole(folder: Path, corpus: Path, kills: int, random_kills: int, seed: int) -> dict[str, Any]:
    """Both runs beside one that is left alone; the figures, printed as they come, if every promise held."""
    results: dict[str, Any] = {}
    same = ("two ranks", kills, (2,), "bf16", 2e-3)
    changing = ("one to three ranks", random_kills, (1, 2, 3), "fp32", 2e-4)
    for name, number, worlds, precision, rate in (part for part in (same, changing) if part[1]):
        steps = 20 + 3 * EVERY_STEPS * number
        settings = {
            "duration": {"steps": steps}, "checkpoints": {"every_steps": EVERY_STEPS, "keep_last": 2},
            "batch": {"global_size": 12, "micro_size": 2}, "optimizer": {"type": "adamw", "lr": rate},
            "engine": {"zero_stage": 2, "compile": False, "timeout_seconds": 60, "precision": precision},
        }  # fmt: skip
        plain = write_recipe(folder / f"plain-{len(worlds)}.yaml", corpus, **settings)
        with Job(plain) as job:
            job.done(1200)
        recipe = write_recipe(folder / f"killed-{len(worlds)}.yaml", corpus, **settings)
        story = torment(recipe, number, worlds, seed)
        run, calm = recipe.with_suffix(""), plain.with_suffix("")
        assert not wrong_samples(run, worlds)
        distance = abs(final_loss(run) / final_loss(calm) - 1)
        is_same = weights_digest(run) == weights_digest(calm)
        assert is_same if len(worlds) == 1 else distance <= 5e-3, f"{name}: {is_same}, {distance}"
        results[name] = {
            **figures(story, run, calm, steps), "samples lost or repeated": 0, "weights bitwise equal": is_same,
            "relative distance of the final loss": distance,
        }  # fmt: skip
        print(json.dumps({name: results[name]}, indent=1), flush=True)
    return results


if __name__ == "__main__":
    main()
