"""python benchmarks/gpu_launches.py FAMILIES N D [N D ...]: runs each op of the CUDA kernels once
at each size, in float32 and with vectors in bfloat16, for compute-sanitizer and for Nsight Compute.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn.functional import normalize

from powerspherical_ext import _library
from powerspherical_ext.families import FAMILIES


def launches(
    n: int, d: int, family: int, vectors: torch.dtype, device: str
) -> Mapping[str, Callable[[], Any]]:
    """By the names of the ops; all gradients are wanted."""
    ops = torch.ops.powerspherical_ext
    x, mu, grad = (normalize(torch.randn(n, d, device=device), dim=-1).to(vectors) for _ in "123")
    kappa = min(d, FAMILIES[family].upper_bound) * torch.rand(n, device=device)
    upstream, y = torch.rand(n, device=device), torch.rand(n, device=device)
    state = torch.tensor([1, 0], device=device)
    return {
        "log_prob": lambda: ops.log_prob(x, mu, kappa, family),
        "log_prob_backward": lambda: ops.log_prob_backward(upstream, x, mu, kappa, family, 7),
        "rsample": lambda: ops.rsample(mu, kappa, state, family),
        "rsample_rounded": lambda: ops.rsample_rounded(mu, kappa, state, family),
        "rsample_backward": lambda: ops.rsample_backward(grad, x, mu, kappa, family, 6),
        "vi_simsiam_loss": lambda: [  # of each row, and their sum
            ops.vi_simsiam_loss(upstream, mu, x, kappa, family, 0.0, 7),
            ops.vi_simsiam_loss(None, mu, x, kappa, family, 0.0, 7, 1 / n),
        ],
        "scale_gradients_": lambda: ops.scale_gradients_(x.clone(), x[:0], kappa.clone(), y[0]),
        "scalar_function": lambda: ops.scalar_function(kappa, d, family, 0),
        "kl": lambda: ops.kl(kappa, upstream, y, 1 - y, d, family, family, 0),
    }


def main() -> None:
    families, *numbers = map(int, sys.argv[1:])
    if not _library.CUDA_KERNELS:
        sys.exit(f"gpu_launches: no CUDA kernels: {_library.why_no_kernels('cuda')}")
    for n, d in zip(numbers[::2], numbers[1::2], strict=True):
        for family in range(families):
            for vectors in (torch.float32, torch.bfloat16):
                for run in launches(n, d, family, vectors, "cuda").values():
                    run()
                torch.cuda.synchronize()
        print(f"launched everything at ({n}, {d})", flush=True)


if __name__ == "__main__":
    main()
