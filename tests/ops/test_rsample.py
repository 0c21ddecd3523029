"""The sampler's law, its randomness as an argument, and what samples look like.

Statistical tests have fixed seeds, and are built to fail a correct sampler with probability
FALSE_POSITIVE_RATE for a whole test function, shared among its cells (Bonferroni).
"""

from __future__ import annotations

import itertools
import math
import weakref

import numpy as np
import pytest
import scipy.stats
import torch
from cases import (
    CONCENTRATED,
    FAMILIES,
    chord,
    each_concentrated,
    each_family,
    each_float,
    needs_kernels,
    unit,
)
from functorch.compile import make_boxed_func
from op_calls import STATE
from torch._dynamo.backends.common import aot_autograd

from powerspherical_ext import HypersphericalUniform, ops, reference

FALSE_POSITIVE_RATE = 1e-3
DIMENSIONS = (2, 3, 4, 8, 16, 64, 512, 2048)
GRID = [
    (family, d, kappa)
    for family in FAMILIES
    for d, kappa in itertools.product(DIMENSIONS, family.kappas)
]
NORM_ERROR = {torch.float32: 3e-7, torch.float64: 1e-15}
ALPHA = FALSE_POSITIVE_RATE / (len(GRID) * len(NORM_ERROR))


def draw(family, d, kappa, dtype, n):
    """mu and n samples about it, in chunks of at most 2^22 elements."""
    mu = unit(d, dtype=dtype)
    p = family.make(mu, torch.tensor(kappa, dtype=dtype))
    torch.manual_seed(20)
    chunk = max((1 << 22) // d, 1)
    return mu, torch.cat([p.sample((min(chunk, n - i),)) for i in range(0, n, chunk)])


@pytest.mark.slow
@each_family
@each_float
@pytest.mark.parametrize("d", DIMENSIONS)
def test_law(family, d, dtype):
    """Kolmogorov-Smirnov on the small side (1 - t)/2. Of 40,000 draws a distance of 0.014 is found:
    power_spherical and TFP are 0.27 off at (2, 1e6), 0.45 at (3, 1e7) in float32."""
    for kappa in family.kappas:
        mu, x = draw(family, d, kappa, dtype, min(40_000, (1 << 22) // d))
        assert (x.double().norm(dim=-1) - 1).abs().max() < NORM_ERROR[dtype]
        y = chord(x, mu).numpy()
        p_value = scipy.stats.kstest(y, lambda y, kappa=kappa: family.cdf(y, d, kappa)).pvalue
        assert p_value > ALPHA, (kappa, p_value)


@each_concentrated
@each_float
@pytest.mark.parametrize("d", [2, 3, 8, 64])
def test_tangent_direction_is_uniform(family, d, dtype):
    """v = x - t mu: its cosine to a fixed tangent has the law of the uniform on S^{d-2}, and does
    not depend on t: tested below and above the median of t."""
    tests_in_all = 2 * 4 * 2 * sum(len(family.kappas) for family in CONCENTRATED)
    for kappa in family.kappas if family is CONCENTRATED[0] else family.kappas[::3]:
        mu, x = draw(family, d, kappa, dtype, 20_000)
        mu, x = mu.double(), x.double()
        tangent = unit(d, seed=9)
        tangent = torch.nn.functional.normalize(tangent - (tangent @ mu) * mu, dim=-1)
        cosine = torch.nn.functional.normalize(x - (x @ mu).unsqueeze(-1) * mu, dim=-1) @ tangent
        y = chord(x, mu)
        for half in (cosine[y < y.median()].numpy(), cosine[y > y.median()].numpy()):
            if d == 2:
                p_value = scipy.stats.binomtest(int((half > 0).sum()), len(half)).pvalue
            else:
                b = (d - 2) / 2
                p_value = scipy.stats.kstest((1 - half) / 2, scipy.stats.beta(b, b).cdf).pvalue
            assert p_value > FALSE_POSITIVE_RATE / tests_in_all, (kappa, p_value)


@each_concentrated
@each_float
def test_rows_are_independent(family, dtype):
    """Lag-1 correlations of t and of the tangent direction, under one scalar concentration and many
    locs: power_spherical gives every row the same noise. 16 normal statistics, two-sided."""
    n, bound = 40_000, scipy.stats.norm.isf(FALSE_POSITIVE_RATE / 32)
    for d, kappa in itertools.product((2, 8), (1.0, 1e4)):
        concentration = family.at(torch.tensor(kappa, dtype=dtype))
        torch.manual_seed(3)
        mu = torch.eye(d, dtype=dtype)[0]
        x = family.make(mu.expand(n, d), concentration).sample()
        quantile = torch.from_numpy(family.cdf(chord(x, mu).numpy(), d, concentration.item()))
        sign = x[:, 1].double().sign()
        for series in (math.sqrt(12) * (quantile - 0.5), sign):
            z = (series[1:] * series[:-1]).mean() * math.sqrt(n - 1)
            assert abs(z) < bound, (d, kappa)


@each_concentrated
@pytest.mark.parametrize("seeds", [(0, 1), (7, 1 << 40), (-1, -(1 << 63))])
def test_seeds_and_offsets_give_independent_samples(family, seeds):
    mu, n = unit(4, dtype=torch.float32), 20_000
    kappa, bound = family.at(torch.tensor(1.0)), scipy.stats.norm.isf(FALSE_POSITIVE_RATE / 24)
    states = [(seeds[0], 0), (seeds[1], 0), (seeds[0], n)]
    samples = [
        ops.rsample(mu.expand(n, 4), kappa, torch.tensor(state), family.declared) @ mu
        for state in states
    ]
    for one, other in itertools.combinations(samples, 2):
        correlation = np.corrcoef(one.numpy(), other.numpy())[0, 1]
        assert abs(correlation) * math.sqrt(n) < bound


@needs_kernels
@each_concentrated
@each_float
def test_thread_count_does_not_matter(family, dtype):
    mu, kappa = unit(5000, 33, dtype=dtype), family.at(torch.full((), 20.0, dtype=dtype))
    state, threads = torch.tensor([5, 6]), torch.get_num_threads()
    samples = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            samples.append(ops.rsample(mu, kappa, state, family.declared))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(samples[0], samples[1])
    assert torch.equal(samples[0], samples[2])


@needs_kernels
@each_concentrated
@each_float
@pytest.mark.parametrize("d", [2, 7, 64])
def test_offset_counts_rows(family, d, dtype):
    """Rows i of (seed, offset) and 0 of (seed, offset + i) are one sample, whatever the batch."""
    mu, kappa = unit(6, d, dtype=dtype), family.at(torch.tensor(3.0, dtype=dtype))
    whole = ops.rsample(mu, kappa, torch.tensor([11, 100]), family.declared)
    for i in range(6):
        one = ops.rsample(mu[i], kappa, torch.tensor([11, 100 + i]), family.declared)
        assert torch.equal(one, whole[i])
    assert torch.equal(
        ops.rsample(mu.view(2, 3, d), kappa, torch.tensor([11, 100]), family.declared).view(6, d),
        whole,
    )


@needs_kernels
@each_concentrated
@each_float
@pytest.mark.parametrize("d", [2, 3, 16, 65])
def test_kernels_draw_what_the_reference_draws(family, d, dtype):
    """To rounding; a proposal within rounding of its threshold may be taken by only one of the two:
    at most 1 row in 2,000. Below d = 16 a short tangent amplifies the rounding of the normals."""
    tolerance = (1000 if d == 2 else 100) * torch.finfo(dtype).eps
    mu, state = unit(500, d, dtype=dtype), torch.tensor([-3, 1 << 33])
    kappa = family.at(torch.tensor([0.0, 1.0, 1e4, 1e7], dtype=dtype)).unsqueeze(-1)
    actual = ops.rsample(mu, kappa, state, family.declared)
    expected = reference.rsample(mu, kappa, state, family.declared.reference)
    assert actual.shape == (4, 500, d)
    assert (~((actual - expected).abs().amax(-1) <= tolerance)).sum() <= 1


@each_concentrated
@each_float
def test_parameters_of_one_row_do_not_touch_another(family, dtype):
    mu = unit(4, 5, dtype=dtype)
    kappa = family.at(torch.tensor([0.0, 1.0, 100.0, 1e7], dtype=dtype))
    state = torch.tensor([1, 2])
    whole = ops.rsample(mu, kappa, state, family.declared)
    kappa[2] = family.at(3.0)
    changed = ops.rsample(mu, kappa, state, family.declared)
    assert torch.equal(whole[[0, 1, 3]], changed[[0, 1, 3]])
    assert not torch.equal(whole[2], changed[2])


def test_uniform_has_no_preferred_direction():
    """Each coordinate of the uniform, pole included, has one law: (1 + x_i)/2 ~ Beta(b, b)."""
    torch.manual_seed(1)
    x = HypersphericalUniform(5, dtype=torch.float64).sample((20_000,)).numpy()
    for i in range(5):
        p_value = scipy.stats.kstest((1 + x[:, i]) / 2, scipy.stats.beta(2, 2).cdf).pvalue
        assert p_value > FALSE_POSITIVE_RATE / 5


def assert_equal(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


@needs_kernels
@each_concentrated
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("d", [2, 7, 64, 700])
def test_the_kernel_rounds(family, d, dtype):
    """Half-precision samples are those of float32, rounded; their gradients are those of float32.
    One batch is strided and has a row that is NaN, and one has no rows."""
    index, raw = family.declared.index, torch.ops.powerspherical_ext
    generator = torch.Generator().manual_seed(0)
    kappa = family.at(torch.rand(5, 3, generator=generator))
    strided = unit(3, 2 * d).to(dtype)[:, ::2]
    strided[0] = torch.nan
    for loc, k in (unit(5, 3, d).to(dtype), kappa), (strided, kappa), (strided[:0], kappa[:, :0]):
        rounded, sample = raw.rsample_rounded(loc, k, STATE, index)
        assert_equal(sample, raw.rsample(loc, k, STATE, index))
        assert_equal(rounded, sample.to(dtype))
        assert_equal(ops.rsample(loc, k, STATE, family.declared, dtype), rounded)
        leaves = [x.detach().requires_grad_() for x in (loc, k)]
        wide = [x.detach().float().requires_grad_() for x in (loc, k)]
        upstream = torch.randn(sample.shape, generator=generator).to(dtype)
        exact = ops.rsample(*wide, STATE, family.declared)
        expected = torch.autograd.grad(exact, wide, upstream.float())
        ours = ops.rsample(*leaves, STATE, family.declared, dtype)
        of_raw_op, constant = raw.rsample_rounded(*leaves, STATE, index)
        assert not constant.requires_grad
        for result in ours, of_raw_op:
            assert_equal(result.detach(), rounded)
            grads = torch.autograd.grad(result, leaves, upstream)
            assert_equal(
                list(grads), [g.to(x.dtype) for g, x in zip(expected, leaves, strict=True)]
            )


class NoGradient(torch.autograd.Function):
    """The sum, whose backward pass has no gradient."""

    @staticmethod
    def forward(ctx, x):
        return x.sum()

    @staticmethod
    def backward(ctx, grad):
        return None


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_no_gradient_arrives(dtype):
    """As where the gradient is 0."""
    leaves = unit(6, 5).to(dtype).requires_grad_(), torch.ones(6, requires_grad=True)
    sample = ops.rsample(*leaves, STATE, FAMILIES[0].declared, dtype)
    NoGradient.apply(sample).backward()
    assert all(x.grad is None or not x.grad.any() for x in leaves)


@needs_kernels
def test_the_graph_is_freed():
    """The graph, which holds the sample before rounding, goes without the garbage collector."""
    loc = unit(6, 5).bfloat16().requires_grad_()
    sample = ops.rsample(loc, torch.ones(6), STATE, FAMILIES[0].declared, torch.bfloat16)
    graph = weakref.ref(sample.grad_fn)
    del sample
    assert graph() is None


@pytest.mark.slow
@needs_kernels
@pytest.mark.parametrize("requires_grad", [False, True])
def test_compiled_programs_round_in_the_kernel(requires_grad):
    """To the bit, and with no op that converts the sample or its gradient."""
    targets = []

    def backend(graph, _):
        targets.extend(str(node.target) for node in graph.graph.nodes)
        return make_boxed_func(graph.forward)

    def sample(loc, kappa):
        return ops.rsample(loc, kappa, STATE, FAMILIES[0].declared, torch.bfloat16)

    loc = unit(6, 5).bfloat16().requires_grad_(requires_grad)
    kappa = torch.linspace(1, 6, 6, requires_grad=requires_grad)
    torch.compiler.reset()
    compiled = torch.compile(sample, fullgraph=True, backend=aot_autograd(fw_compiler=backend))
    actual, expected = compiled(loc, kappa), sample(loc, kappa)
    assert_equal(actual, expected)
    if requires_grad:
        upstream = unit(6, 5, seed=1).bfloat16()
        ours, theirs = (torch.autograd.grad(x, (loc, kappa), upstream) for x in (actual, expected))
        assert_equal(ours, theirs)
    ours = {name for name in targets if "powerspherical_ext" in name}
    backward = {"powerspherical_ext.rsample_backward.default"} if requires_grad else set()
    assert ours == {"powerspherical_ext.rsample_rounded.default", *backward}
    assert not any("_to_copy" in name or "convert" in name for name in targets), targets
    torch.compiler.reset()
