"""A distribution built and its density taken, with the validation that is torch's default.

The peers are the same without validation, and torch.distributions.Normal with validation, each
timed in alternation with ours: `ratio` of extra_info is the peer's time over ours. It should be at
least 1 for Normal, and 1/1.6 without validation at (4096, 2048). Vectors from memory are then read
three times instead of two.
"""

from __future__ import annotations

import itertools
import statistics

import clock
import pytest
import torch
from torch.distributions import Normal
from work import FAMILIES, Case, inputs

import powerspherical_ext

SIZES = ((8, 16), (512, 64), (4096, 2048))
PEERS = ("Normal", "without validation", "ours")
SECONDS = 0.5  # of measuring for each row
MEMORY_BOUND, CACHES = 8 << 20, 256 << 20  # bytes


def pytest_generate_tests(metafunc):
    sizes = SIZES[:1] if metafunc.config.getoption("smallest") else SIZES
    metafunc.parametrize("peer", PEERS)
    metafunc.parametrize("family", FAMILIES)
    metafunc.parametrize(("n", "d"), sizes)


@pytest.mark.usefixtures("_validation")
def test_default_use(benchmark, request, n, d, family, peer):
    device = request.config.getoption("device")
    case = Case("log_prob", False, n, d, device=device, family=family)
    (x, loc, kappa), _ = inputs(case)
    # Tensors from memory take turns, so that no cache holds them when they are read again.
    copies = CACHES // x.nbytes if x.nbytes > MEMORY_BOUND else 1
    sets = itertools.cycle([(x.clone(), loc.clone()) for _ in range(copies)])
    deviation = x.abs() + 1
    law = getattr(powerspherical_ext, family)

    def ours(validate_args=None):
        x, loc = next(sets)
        return law(loc, kappa, validate_args=validate_args).log_prob(x)

    def normal():
        x, loc = next(sets)
        return Normal(loc, deviation).log_prob(x)

    run = {"Normal": normal, "without validation": lambda: ours(False), "ours": ours}[peer]
    if peer != "Normal":
        torch.testing.assert_close(run(), ours(), rtol=0, atol=0)
    stopwatch = clock.Clock(device)
    for first in (run, ours):
        first()
    once = stopwatch(run) + stopwatch(ours)
    rounds = int(min(max(SECONDS / once, 20), 2000))
    times, ours_times = [], []
    benchmark.group = f"default use of {family}, {n}x{d}"
    benchmark.pedantic(
        lambda: times.append(stopwatch(run)),
        setup=lambda: ours_times.append(stopwatch(ours)),
        rounds=rounds,
    )
    ratio = statistics.median(times) / statistics.median(ours_times)
    benchmark.extra_info.update(n=n, d=d, family=family, peer=peer, ratio=ratio)


@pytest.fixture
def _validation():
    """torch.compile switches validation off for the process, as a peer of another file does."""
    before = torch.distributions.Distribution._validate_args
    torch.distributions.Distribution.set_default_validate_args(True)
    yield
    torch.distributions.Distribution.set_default_validate_args(before)
