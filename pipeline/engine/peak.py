"""What the hardware can do at best, for model FLOPs utilisation."""

import re
import time

import torch

from pipeline.models.processor import lacks_bf16

_DATA_SHEET_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "A10": 125.0, "V100": 125.0}
"""Dense bf16 (V100: fp16) matrix products, from the makers' data sheets."""

_VARIANTS = {"NVL", "MIG", "PCIe", "PCIE"}
"""Slower ones of the same name; A100 and V100 on PCIe have the same figures, but are throttled."""
_MEASURE_SIZES = {"cpu": 1024, "cuda": 8192}
"""On a GPU it must take longer than its start."""
_MEASURE_REPEATS = 5


def peak_flops(device: torch.device) -> tuple[float, str]:
    """FLOP/s of one device in bf16 matrix products (fp32 where it has none), and where the figure is from."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if (tflops := data_sheet_tflops(name)) is not None:
            return tflops * 1e12, f"data sheet of {name}"
    size = _MEASURE_SIZES[device.type]
    return measured_flops(device, size), f"measured: {size}^3 matrix product in {_product_type(device)}"


def data_sheet_tflops(name: str) -> float | None:
    """What the maker says of a GPU by the name that it tells; None of one that is not known, or a variant."""
    words = set(re.split(r"[\s-]+", name))
    if words & _VARIANTS:
        return None
    return next((tflops for part, tflops in _DATA_SHEET_TFLOPS.items() if part in words), None)


def measured_flops(device: torch.device, size: int) -> float:
    """FLOP/s of the best of some products of two square matrices."""
    matrix = torch.randn(size, size, dtype=_product_type(device), device=device)
    best = min(_seconds(matrix) for _ in range(_MEASURE_REPEATS))
    return 2.0 * size**3 / best


def _product_type(device: torch.device) -> torch.dtype:
    return torch.float32 if lacks_bf16(device) else torch.bfloat16


def _seconds(matrix: torch.Tensor) -> float:
    start = time.perf_counter()
    float((matrix @ matrix)[0, 0])  # reading a value waits for the device
    return time.perf_counter() - start
