"""What the engine block refuses, and what its values become for DeepSpeed."""

from typing import Any

import pytest
import torch

from pipeline.config.load import validate
from pipeline.config.run import RunConfig
from pipeline.engine.settings import deepspeed_dict, require_able
from pipeline.errors import ConfigError

CPU = torch.device("cpu")
QUANTIZED = {"quantized_weights": True, "quantized_gradients": True}


def config(**engine: Any) -> RunConfig:
    return validate(RunConfig, {
        "stage": "pretrain", "output": "run",
        "model": {"type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "num_heads": 4,
                  "num_key_value_heads": 2},
        "data": {"type": "corpus", "sources": [{"corpus": "corpus", "source": "text"}], "sequence_length": 16},
        "batch": {"global_size": 8, "micro_size": 1}, "duration": {"steps": 4},
        "optimizer": {"type": "adamw", "lr": 1e-3}, "engine": engine,
    }, "test")  # fmt: skip


@pytest.mark.parametrize(("engine", "sentence"), [
    ({"zero_stage": 0, "precision": "fp32", "offload": {"optimizer": "cpu"}}, r"offload\.optimizer \(cpu\) must be no"),
    ({"offload": {"optimizer": "nvme"}}, r"folder must be given with nvme: one on each node's own disk"),
    ({"offload": {"optimizer": "cpu", "folder": "/disk"}}, r"folder \(/disk\) is for nvme; leave it out"),
    ({"zero_stage": 2, "offload": {"parameters": "cpu"}}, r"offload\.parameters \(cpu\) must be none at zero_stage 2"),
    ({"zero_stage": 2, "zeropp": {"partition_size": 2}}, "zeropp is for zero_stage 3 and zero_stage is 2; leave it"),
    ({"zero_stage": 0, "precision": "fp16"}, r"precision \(fp16\) must be fp32 at zero_stage 0"),
    ({"zero_stage": 2, "precision": "fp16", "fp8": True}, r"precision \(fp16\) must be bf16 with fp8"),
    ({"zero_stage": 2, "fp8": True, "tensor_parallel": 2}, r"tensor_parallel \(2\) must be 1 with fp8"),
])  # fmt: skip
def test_what_does_not_go_together_is_refused(engine: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        config(**engine)


def test_what_the_job_cannot_do_is_refused() -> None:
    able = config(zero_stage=3, zeropp={"partition_size": 4})
    require_able(able, 8, CPU)
    with pytest.raises(ConfigError, match=r"partition_size \(4\) must divide the number of ranks \(6\); give"):
        require_able(able, 6, CPU)
    with pytest.raises(ConfigError, match="quantizes by CUDA kernels and this device is a CPU; leave"):
        require_able(config(zero_stage=3, zeropp=QUANTIZED), 8, CPU)
    with pytest.raises(ConfigError, match=r"engine\.fp8 \(true\) needs a GPU of compute capability 8\.9 or above"):
        require_able(config(fp8=True), 8, CPU)
    with pytest.raises(ConfigError, match=r"attention \(documents\) has no kernel for fp32 on a GPU; take sdpa, or"):
        require_able(config(precision="fp32"), 8, torch.device("cuda"))
    require_able(config(precision="fp32"), 8, CPU)
    with pytest.raises(ConfigError, match=r"attention \(flash_attention_2\) needs a GPU and the package flash-attn"):
        require_able(config(attention="flash_attention_2"), 8, CPU)


def test_nothing_is_timed_by_waiting_for_the_device() -> None:
    assert not deepspeed_dict(config(), 2)["timers"]["throughput"]["enabled"]


def test_quantized_communication_is_asked_of_deepspeed() -> None:
    zero = deepspeed_dict(config(zero_stage=3, zeropp={"partition_size": 4, **QUANTIZED}), 8)["zero_optimization"]
    assert (zero["zero_hpz_partition_size"], zero["zero_quantized_weights"], zero["zero_quantized_gradients"]) == (
        4, True, True,
    )  # fmt: skip
    assert "zero_quantized_weights" not in deepspeed_dict(config(zero_stage=2), 8)["zero_optimization"]
