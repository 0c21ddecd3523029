"""The tests of test_emulated.py, on a GPU: every kernel against that of csrc/cpu."""

from __future__ import annotations

from typing import Any

import pytest
import test_emulated as emulated
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from powerspherical_ext import _library

pytestmark = pytest.mark.skipif(  # stubbed_cuda.py claims to be available, but has no device
    not (torch.cuda.device_count() and _library.CUDA_KERNELS), reason="needs a GPU, and its kernels"
)


def to_gpu(x: Tensor) -> Tensor:
    """The same strides and alignment, on the GPU."""
    storage = x.untyped_storage().cuda()
    moved = torch.empty(0, dtype=x.dtype, device="cuda")
    return moved.set_(storage, x.storage_offset(), x.shape, x.stride())


class OnGpu:
    """The raw ops, for CPU tensors."""

    def __getattr__(self, name: str) -> Any:
        op = getattr(torch.ops.powerspherical_ext, name)

        def call(*arguments: Any) -> Any:
            result = op(*tree_map_only(Tensor, to_gpu, arguments))
            return tree_map_only(Tensor, Tensor.cpu, result)

        return call


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulated, "cuda", OnGpu())
    monkeypatch.setattr(emulated, "ULPS", 64)  # its exp, log and fused operations round otherwise


new_tensors_hold_nan = emulated.new_tensors_hold_nan
globals().update({name: test for name, test in vars(emulated).items() if name.startswith("test_")})
