"""The tests of test_emulated.py that compare numbers, with products and sums fused.

nvcc makes one fused operation of a * b + c, which rounds once; the emulator of those tests rounds
twice. Here the compiler fuses as nvcc does. So a formula, or a tolerance, that holds in only one of
the two ways fails where there is no GPU.
"""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import test_emulated as emulated
import torch

CONTRACTED = "powerspherical_ext_contracted"
ULPS = 64  # as in tests/cuda
NUMERIC = [  # those that run once for each shape and dtype
    "test_log_prob_and_rsample",
    "test_other_families",
    "test_half_precision",
    "test_scalar_function",
    "test_kl",
    "test_vi_simsiam_loss",
    "test_sum_of_the_loss",
]


def fused() -> list[str] | None:
    """The flags with which the compiler fuses; None where the CPU has no fused operation."""
    # Without expensive optimisations, those of -O2, GCC fuses nothing.
    flags = ["-ffp-contract=fast", "-fexpensive-optimizations"]
    if platform.machine() in ("aarch64", "arm64"):
        return flags
    cpuinfo = Path("/proc/cpuinfo")
    has_fma = cpuinfo.exists() and " fma " in cpuinfo.read_text()
    return [*flags, "-mfma"] if has_fma else None


pytestmark = [
    pytest.mark.slow,
    emulated.pytestmark,
    pytest.mark.skipif(fused() is None, reason="this CPU has no fused multiply-add"),
]


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory: pytest.TempPathFactory) -> None:
    emulated.build(tmp_path_factory, CONTRACTED, *fused())


@pytest.fixture(autouse=True)
def contracted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulated, "cuda", getattr(torch.ops, CONTRACTED))
    monkeypatch.setattr(emulated, "ULPS", ULPS)


new_tensors_hold_nan = emulated.new_tensors_hold_nan
globals().update({name: getattr(emulated, name) for name in NUMERIC})


def test_the_compiler_fused() -> None:
    """The CPU's kernels sum rows of two elements in the same order, and fuse nothing."""
    torch.manual_seed(0)
    mu, value = (emulated.points(800, 2, dtype=torch.float64) for _ in range(2))
    arguments = (torch.ones(800).double(), value, mu, torch.ones(800).double(), 1, 1)
    ours, expected = (op.log_prob_backward(*arguments)[0] for op in (emulated.cuda, emulated.cpu))
    assert not torch.equal(ours, expected)
