"""A run without a model: logs rows as training does, and tells how long that held it up."""

import json
import sys
import time
from pathlib import Path

from pipeline.config.measuring import Wandb
from pipeline.runtime.logs import set_up_logging
from pipeline.runtime.ranks import Ranks
from pipeline.train.tracking.tracker import Composite, JsonLines
from pipeline.train.tracking.wandb import WandbTracker


def main() -> None:
    """Log steps from a first to a last one, with a pause after each."""
    folder, first, last, pause = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    set_up_logging(Ranks(0, 0, 1))
    begin = time.monotonic()
    tracker = Composite([JsonLines(folder), WandbTracker(folder, Wandb(), {"seed": 1, "stage": "pretrain"})])
    held_up = [time.monotonic() - begin]
    for step in range(first, last + 1):
        begin = time.monotonic()
        tracker.log(step, {"train/loss": step / 2})
        held_up.append(time.monotonic() - begin)
        time.sleep(pause)
    begin = time.monotonic()
    tracker.finish(0)
    print(json.dumps({"longest": max(held_up), "finish": time.monotonic() - begin}))


if __name__ == "__main__":
    main()
