"""Other projects among the contenders of `benchmarks.training`."""

import tempfile
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.training_task import (
    BETAS,
    CLIPPING,
    FORMS,
    LEARNING_RATE,
    VOCABULARY,
    WEIGHT_DECAY,
    Task,
    Turns,
    config_of,
    micro_batches,
)
from pipeline.engine.process_group import complete_environment
from pipeline.models.build import fresh_model
from pipeline.models.forms import decoder_config
from pipeline.runtime.ranks import ranks_from_environment


def trainer(task: Task, turns: Turns, with_deepspeed: bool) -> None:
    """transformers' Trainer: rows in a data set, documents told by positions, its own loss."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class AfterStep(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = not turns.made_a_step()

    is_bf16 = task.precision == "bf16"
    if with_deepspeed:  # which else looks for MPI
        complete_environment(ranks_from_environment())
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=task.sequences, max_steps=10**6, learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant", weight_decay=WEIGHT_DECAY, adam_beta1=BETAS[0], adam_beta2=BETAS[1],
            max_grad_norm=CLIPPING, bf16=is_bf16, report_to=[], save_strategy="no", logging_steps=10**9,
            disable_tqdm=True, use_cpu=not torch.cuda.is_available(), dataloader_num_workers=0, torch_compile=False,
            optim="adamw_torch_fused", deepspeed=_deepspeed(task, is_bf16) if with_deepspeed else None,
        )  # fmt: skip
        form = decoder_config(config_of(task).model, VOCABULARY, eos_id=0, pad_id=0)  # type: ignore[arg-type]
        model = fresh_model(form, 0, "fp32", "sdpa")
        turns.wait()
        Trainer(model, arguments, train_dataset=_rows(task), callbacks=[AfterStep()]).train()


def _deepspeed(task: Task, is_bf16: bool) -> dict[str, Any]:
    optimizer = {"lr": LEARNING_RATE, "betas": list(BETAS), "eps": 1e-8, "weight_decay": WEIGHT_DECAY}
    return {
        "train_micro_batch_size_per_gpu": task.sequences, "gradient_accumulation_steps": 1,
        "gradient_clipping": CLIPPING, "bf16": {"enabled": is_bf16}, "zero_optimization": {"stage": 1},
        "optimizer": {"type": "AdamW", "params": optimizer | {"torch_adam": True}},
    }  # fmt: skip


def litgpt(task: Task, turns: Turns) -> None:
    """litgpt's model and loss in the steps of its pre-training: Fabric, the whole model compiled, fused AdamW."""
    from lightning import Fabric
    from litgpt import GPT, Config
    from litgpt.utils import chunked_cross_entropy

    form: dict[str, Any] = FORMS[task.form]
    fabric = Fabric(devices=1, precision="bf16-mixed" if task.precision == "bf16" else "32-true")
    config = Config(
        block_size=task.length, vocab_size=VOCABULARY, padded_vocab_size=VOCABULARY, n_layer=form["num_layers"],
        n_head=form["num_heads"], n_embd=form["hidden_size"], n_query_groups=form["num_key_value_heads"],
        intermediate_size=form["intermediate_size"], rotary_percentage=1.0, parallel_residual=False, bias=False,
        norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP",
    )  # fmt: skip
    model = fabric.setup(torch.compile(GPT(config)))
    parameters = {"lr": LEARNING_RATE, "betas": BETAS, "weight_decay": WEIGHT_DECAY, "fused": True}
    optimizer = fabric.setup_optimizers(torch.optim.AdamW(model.parameters(), **parameters))
    turns.wait()
    for micro in micro_batches(task, apart=False):
        loss = chunked_cross_entropy(model(micro.input_ids.to(fabric.device)), micro.labels.to(fabric.device))
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=CLIPPING)
        optimizer.step()
        optimizer.zero_grad()
        if not turns.made_a_step():
            break


def _rows(task: Task) -> torch.utils.data.IterableDataset[dict[str, torch.Tensor]]:
    class Rows(torch.utils.data.IterableDataset[dict[str, torch.Tensor]]):
        def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
            for micro in micro_batches(task, apart=True):
                assert micro.position_ids is not None
                for row in range(task.sequences):
                    ids = micro.input_ids[row]
                    yield {"input_ids": ids, "labels": ids, "position_ids": micro.position_ids[row]}

    return Rows()
