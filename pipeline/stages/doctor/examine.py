"""All that is told of a run before it is started."""

from rich.console import Console

from pipeline.config.run import RunConfig
from pipeline.runtime.columns import counted
from pipeline.runtime.ranks import ranks_from_environment
from pipeline.stages.doctor.checkpoints import Row, checkpoint_rows
from pipeline.stages.doctor.devices import device_named
from pipeline.stages.doctor.memory import memory_rows
from pipeline.stages.doctor.trial import trial_rows
from pipeline.stages.form import USUAL_VOCABULARY, vocabulary, weightless_model, with_adapter


def examine(
    config: RunConfig,
    world_size: int | None = None,
    mttf_hours: float | None = None,
    device: str | None = None,
    tries: bool = False,
) -> None:
    """Print what memory, time and checkpoints a run will take.

    Args:
        config: The run.
        world_size: Its ranks; as the environment says if not given.
        mttf_hours: Mean time between failures of the job; that of Llama 3's GPUs, by their number, if not given.
        device: A kind of GPU that it is to run on; what is here if not given.
        tries: Whether to make two steps here, on one rank, and to compare.

    Raises:
        TarmacError: What the config's model is made from is damaged, the output cannot be written, or the device is
            not known.
    """
    kind = device_named(device)
    ranks = world_size or ranks_from_environment().world_size
    vocab_size = vocabulary(config) or USUAL_VOCABULARY
    model = weightless_model(config, vocab_size)
    form = model.config
    adapted = with_adapter(config, model)
    rows = memory_rows(config, form, adapted, vocab_size, ranks, kind)
    rows += checkpoint_rows(config, adapted, ranks, mttf_hours)
    if tries:
        rows += trial_rows(config, form, vocab_size)
    _print(f"{config.output} on {counted(ranks, 'rank')}", rows)


def _print(title: str, rows: list[Row]) -> None:
    console = Console(highlight=False, markup=False)
    console.print(title, soft_wrap=True)
    wide, wider = (max(len(row[column]) for row in rows) for column in (0, 1))
    for what, figure, because in rows:
        console.print(f"  {what:{wide}}  {figure:>{wider}}  {because}", soft_wrap=True)
