"""The model card of an export: what the run did, in the reader's words."""

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.data import InstructData, SourceWeight
from pipeline.config.run import RunConfig
from pipeline.models.build import num_parameters
from pipeline.runtime.files import read_json_lines
from pipeline.stages.trained import TrainedModel

_USE = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = AutoModelForCausalLM.from_pretrained("FOLDER")
inputs = tokenizer("def ", return_tensors="pt", add_special_tokens=False)
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0]))
```
"""

_USE_MASKED = """\
```python
from transformers import pipeline

fill = pipeline("fill-mask", model="FOLDER")
print(fill(f"The {fill.tokenizer.mask_token} of the day"))
```
"""


def model_card(trained: TrainedModel) -> str:
    """Markdown with the front matter that model hubs read."""
    is_masked = trained.config.objective.type == "masked"
    task, use = ("fill-mask", _USE_MASKED) if is_masked else ("text-generation", _USE)
    header = yaml.safe_dump({"library_name": "transformers", "pipeline_tag": task}, sort_keys=False)
    facts = "\n".join(f"| {name} | {value} |" for name, value in _facts(trained).items())
    return (
        f"---\n{header}---\n\n# {trained.run.name}\n\n"
        "Trained with Tarmac. Its logits and token ids were compared with the trained model's.\n\n"
        f"| | |\n|---|---|\n{facts}\n\n{_evaluations(trained)}## Use\n\n{use}\n"
        "Text that spells a control token (such as `</s>`) is read as that token by this tokenizer;"
        " in training it was plain text.\n"
    )


def _facts(trained: TrainedModel) -> dict[str, Any]:
    config, form = trained.config, trained.model.config
    stretches = [one for one in config.stretches if one.first_step < trained.step]
    return {
        "Architecture": form.architectures[0] if form.architectures else type(trained.model).__name__,
        "Parameters": f"{num_parameters(trained.model):,}",
        "Vocabulary": f"{trained.tokenizer.vocab_size:,} (sha256 {trained.tokenizer.fingerprint()[:12]})",
        "Positions": form.max_position_embeddings,
        "Stage": config.stage,
        "Step": trained.step if _is_plain(trained) else f"{trained.step}; the weights are {weights_of(trained)}",
        "Token positions seen in this stage": f"{config.tokens_at(trained.step):,}",
        "Sequence length": _in_turn(one.sequence_length for one in stretches),
        "Sequences per update": _in_turn(one.global_size for one in stretches),
        "Objective": config.objective.type,
        "Optimizer": config.optimizer.type,
        "Learning rate": config.optimizer.lr,
        "Adapter": config.adapter.type,
        "Seed": config.seed,
        "Data": _data(config),
    }


def weights_of(trained: TrainedModel) -> str:
    """Which weights they are, in words."""
    kept = "the moving averages" if trained.ema else "those"
    if len(trained.steps) == 1:
        return f"{kept} of step {trained.step}"
    steps = f"steps {', '.join(map(str, reversed(trained.steps)))}"
    return f"the mean of {kept} of {steps}" if trained.ema else f"the mean of {steps}"


def _is_plain(trained: TrainedModel) -> bool:
    """Whether the weights are those that were trained, averaged in no way."""
    return len(trained.steps) == 1 and not trained.ema


def _in_turn(sizes: Iterable[int]) -> str:
    """Sizes, phase by phase."""
    return ", then ".join(str(size) for size, _ in groupby(sizes))


def _data(config: RunConfig) -> str:
    if isinstance(config.data, InstructData):
        return f"conversations ({Path(config.data.train).name})"
    return ", ".join(f"{source.source} ({_share(source)})" for source in config.data.sources)


def _share(source: SourceWeight) -> str:
    if source.epochs is not None:
        return f"{source.epochs:g} epochs"
    return f"weight {1 if source.weight is None else source.weight:g}"


def _evaluations(trained: TrainedModel) -> str:
    rows = [row for row in read_json_lines(trained.run / "evaluations.jsonl")
            if row["step"] == trained.step and row.get("ema", False) == trained.ema]  # fmt: skip
    latest = {row["set"]: row for row in rows}
    if not latest or len(trained.steps) > 1:  # nothing was measured with the mean
        return ""
    lines = [
        f"| {name} | {row['loss']:.4f} | {row['perplexity']:.2f} | {row['bits_per_byte']:.4f} |"
        for name, row in sorted(latest.items())
    ]
    heading = "## Evaluation\n\n| Set | Nats per token | Perplexity | Bits per byte |\n|---|---|---|---|\n"
    return heading + "\n".join(lines) + "\n\n"
