"""What giving a command again would change in a run that is there, and what of it would be refused."""

from pathlib import Path

from pipeline.config.run import RunConfig
from pipeline.engine.checkpoint.commit import newest_commit
from pipeline.stages.data.plan import order_of
from pipeline.stages.data.rollbacks import read_rollbacks
from pipeline.stages.ingredients import open_data
from pipeline.stages.run_folder import changes, check_run_folder, told
from pipeline.stages.seal import NEED_A_PHASE


def print_resume(config: RunConfig) -> None:
    """Print each key that a run's config has otherwise; nothing if there is no run yet. The data are opened only where
    a key of theirs changed.

    Raises:
        TarmacError: In the sentence in which the run itself would refuse it.
    """
    folder = Path(config.output)
    if not (folder / "config.yaml").exists():
        check_run_folder(config)
        return
    changed, commit = changes(config), newest_commit(folder / "checkpoints")
    what = "this:" if changed else "nothing"
    print(f"# run {folder} is at step {commit.step if commit else 0}; this config changes {what}")
    for line in told(changed):
        print(f"#   {line}")
    check_run_folder(config)
    if commit and any(key.startswith(NEED_A_PHASE) for key in changed):
        order_of(config, open_data(config).source, commit, read_rollbacks(folder))
    if changed:
        print("# nothing of it is refused")
