"""All pairs of N values and K laws, beside kappa * (x @ loc.T) + constant, which is less than that:
it is right for von Mises-Fisher alone, where the lengths are 1 and kappa is not large.

The tables of pytest-benchmark have a group for each size, family and direction.
"""

import pytest
import torch
import torch.nn.functional as F
from work import FAMILIES

import powerspherical_ext

SIZES = [(100_000, 10, 64), (512, 1000, 512), (4096, 100, 768)]  # N, K, d


def pytest_generate_tests(metafunc):
    smallest = metafunc.config.getoption("smallest")
    metafunc.parametrize("size", SIZES[:1] if smallest else SIZES, ids=str)
    metafunc.parametrize("family", FAMILIES)
    metafunc.parametrize("backward", [False, True], ids=["forward", "forward + backward"])
    metafunc.parametrize("peer", ["powerspherical_ext", "matrix product"])


def ours(family, x, loc, kappa, _):
    return getattr(powerspherical_ext, family)(loc, kappa, validate_args=False).log_prob(x[:, None])


def matrix_product(_, x, loc, kappa, constant):
    return kappa * (x @ loc.T) + constant


@pytest.mark.benchmark(warmup=True, min_rounds=10)
def test_pairs(benchmark, size, family, backward, peer):
    n, k, d = size
    rng = torch.Generator().manual_seed(0)
    x = F.normalize(torch.randn(n, d, generator=rng), dim=-1)
    loc = F.normalize(torch.randn(k, d, generator=rng), dim=-1)
    uniform = torch.rand(k, generator=rng)
    kappa = 0.1 + 0.2 * uniform if FAMILIES[family].is_bounded else 20 + 100 * uniform
    tensors = [t.requires_grad_(backward) for t in (x, loc, kappa, torch.zeros(k))]
    upstream = torch.rand(n, k, generator=rng)
    log_prob = ours if peer == "powerspherical_ext" else matrix_product

    def step():
        output = log_prob(family, *tensors)
        if backward:
            torch.autograd.grad(output, tensors, upstream, allow_unused=True)

    benchmark.group = (
        f"{family}, (N, K, d) = {size}, {'forward + backward' * backward or 'forward'}"
    )
    benchmark(step)
