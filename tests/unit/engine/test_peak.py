"""Peaks by the names that GPUs tell."""

import pytest

from pipeline.engine.peak import data_sheet_tflops


@pytest.mark.parametrize(("name", "tflops"), [
    ("NVIDIA H100 80GB HBM3", 989.0), ("NVIDIA H200", 989.0), ("NVIDIA A100-SXM4-80GB", 312.0), ("NVIDIA L40S", 362.0),
    ("NVIDIA H100 PCIe", None), ("NVIDIA H100 NVL", None), ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None),
    ("NVIDIA A10G", None), ("NVIDIA RTX A1000", None), ("NVIDIA B200", None),
])  # fmt: skip
def test_only_what_has_the_name_has_the_figure(name, tflops):
    assert data_sheet_tflops(name) == tflops
