"""All pairs of values (N, 1, d) and laws (K, d), which the CPU kernels compute by products."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from cases import (
    at_distance,
    close,
    each_concentrated,
    each_float,
    exact_log_prob,
    needs_kernels,
    ulps,
    unit,
)

pytestmark = needs_kernels

BOUND = {torch.float32: 1, torch.float64: 8}  # in ulp, as in test_log_prob


def log_prob(family, value, loc, kappa):
    return family.make(loc, kappa, validate_args=False).log_prob(value)


def one_law_at_a_time(family, value, loc, kappa):
    """The same as log_prob of value[:, None], by the kernels for rows."""
    kappa = kappa.expand(len(loc))
    rows = [log_prob(family, value, m, k) for m, k in zip(loc, kappa, strict=True)]
    return torch.stack(rows, -1)


def concentrations(family, *shape):
    kappa = torch.linspace(20, 1, torch.Size(shape).numel(), dtype=torch.float64)
    return family.at(kappa.reshape(shape))


def inputs(family, n, k, d, dtype=torch.float64):
    value, loc = unit(n, d, dtype=dtype), unit(k, d, dtype=dtype, seed=1)
    return value, loc, concentrations(family, k).to(dtype)


def near_the_poles(value, loc):
    """Replaces the first values by points at the poles of some laws, and close to them."""
    distances = torch.tensor([1e-13, 1e-7, 1e-3, 0.01, 0.5, 0.99, 0.9999], dtype=torch.float64)
    points = at_distance(loc[-1], distances).to(value.dtype)
    points = torch.cat([points, loc[:2], -loc[:2]])
    return torch.cat([points, value[len(points) :]])


# Values


@each_concentrated
@each_float
@pytest.mark.parametrize("d", [3, 64, 130, pytest.param(512, marks=pytest.mark.slow)])
def test_accuracy(family, dtype, d):
    """From pole to pole, for laws from the nearly uniform to needles, against mpmath."""
    kappa = torch.tensor(family.kappas, dtype=dtype)
    loc = unit(len(kappa), d, dtype=dtype)
    eps = torch.finfo(dtype).eps
    near = [eps**1.5, eps, eps**0.5, 1e-4, 0.01]
    y = torch.tensor([*near, 0.2, 0.45, 0.55, 0.8, *(1 - v for v in near)]).double()
    value = [at_distance(loc[i % len(loc)], y[i : i + 1], seed=i) for i in range(len(y))]
    value = torch.cat([*value, loc.double(), -loc.double(), unit(8, d, seed=3)]).to(dtype)
    actual = log_prob(family, value[:, None], loc, kappa)
    assert actual.dtype == dtype
    for i, x in enumerate(value):
        for k, mu in enumerate(loc):
            expected = exact_log_prob(family, x, mu, kappa[k].item())
            error = ulps(actual[i, k].item(), expected, dtype)
            assert error <= BOUND[dtype], (i, k, error)


@each_concentrated
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_read_exactly(family, dtype):
    value, loc, kappa = inputs(family, 70, 40, 150, torch.float32)
    value, loc = value.to(dtype), loc.to(dtype)
    actual = log_prob(family, value[:, None], loc, kappa)
    assert torch.equal(actual, log_prob(family, value.float()[:, None], loc.float(), kappa))
    close(actual, one_law_at_a_time(family, value, loc, kappa), rtol=3e-7, atol=1e-7)


@each_concentrated
@each_float
def test_lengths_do_not_matter(family, dtype):
    """The density is that of value/|value| under loc/|loc|."""
    value, loc, kappa = inputs(family, 20, 15, 150, dtype)
    value = near_the_poles(value, loc)
    lengths = 2.0 ** torch.arange(-10, 10, dtype=dtype)[:, None]  # exact
    actual = log_prob(family, (lengths * value)[:, None], lengths[:15] * loc, kappa)
    expected = log_prob(family, value[:, None], loc, kappa)
    close(actual, expected, rtol=4 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)


# Shapes


def is_recognised(family, value, loc, kappa):
    """Whether the kernel for pairs runs: some of its results have another last bit than those of
    rows. All must be within one ulp of each other."""
    middle = 0.2 if family.declared.is_bounded else 40.0  # where products in float are accurate
    value, loc = unit(*value, 150, dtype=torch.float32), unit(*loc, 150, seed=1).float()
    kappa = torch.linspace(middle, middle / 2, torch.Size(kappa).numel()).reshape(kappa)
    batch = torch.broadcast_shapes(value.shape[:-1], loc.shape[:-1], kappa.shape)
    rows = log_prob(family, value.expand(*batch, 150).contiguous(), loc, kappa)
    actual = log_prob(family, value, loc, kappa)
    close(actual, rows, rtol=1.2e-7, atol=0)
    return not torch.equal(actual, rows)


@each_concentrated
@pytest.mark.parametrize(
    ("value", "loc", "kappa"),
    [
        ((30, 1), (20,), ()),
        ((30, 1), (20,), (20,)),
        ((30, 1), (1, 20), (1, 20)),
        ((30, 1), (20,), (30, 1)),
        ((30,), (20, 1), (20, 1)),
        ((2, 30, 1), (20,), (20,)),
        ((2, 30, 1), (2, 1, 20), (2, 1, 20)),
        ((30, 1), (2, 1, 20), (20,)),
        ((3, 1, 30, 1), (2, 1, 20), (2, 1, 1)),
    ],
    ids=str,
)
def test_recognised(family, value, loc, kappa):
    assert is_recognised(family, value, loc, kappa)


@each_concentrated
@pytest.mark.parametrize(
    ("value", "loc", "kappa"),
    [
        ((30, 1), (20,), (30, 20)),  # a concentration for each pair
        ((30, 20), (20,), (20,)),  # a value for each pair
        ((30, 1), (3,), (3,)),  # few laws
        ((3, 1), (20,), (20,)),  # few values
        ((30,), (30,), (30,)),
        ((30,), (), ()),
    ],
    ids=str,
)
def test_not_recognised(family, value, loc, kappa):
    assert not is_recognised(family, value, loc, kappa)


@each_concentrated
@each_float
@pytest.mark.parametrize("d", [2, 17, 150])
def test_sizes(family, dtype, d):
    """Around the sizes of tiles, panels and vectors."""
    for n, k in ((0, 5), (5, 0), (1, 9), (9, 1), (4, 4), (5, 33), (49, 8), (97, 31), (32, 65)):
        value, loc, kappa = inputs(family, n, k, d, dtype)
        actual = log_prob(family, value[:, None], loc, kappa)
        assert actual.shape == (n, k)
        if n and k:
            eps = torch.finfo(dtype).eps
            expected = one_law_at_a_time(family, value, loc, kappa)
            close(actual, expected, rtol=4 * eps, atol=4 * eps)


@each_concentrated
@each_float
def test_nan_stays_in_its_pairs(family, dtype):
    value, loc, kappa = inputs(family, 60, 40, 150, dtype)
    expected = log_prob(family, value[:, None], loc, kappa)
    value[3, 5] = loc[7, 2] = kappa[9] = value[11, 0] = float("nan")
    value[12, 0] = float("inf")
    actual = log_prob(family, value[:, None], loc, kappa)
    bad = torch.zeros(60, 40, dtype=torch.bool)
    bad[[3, 11, 12]] = bad[:, [7, 9]] = True
    assert actual[bad].isnan().all()
    assert torch.equal(actual[~bad], expected[~bad])


# Gradients


def gradients(function, family, tensors, upstream, wanted=(0, 1, 2)):
    tensors = [t.detach().requires_grad_(i in wanted) for i, t in enumerate(tensors)]
    output = function(family, *tensors)
    return torch.autograd.grad(output, [tensors[i] for i in wanted], upstream)


def all_pairs(family, value, loc, kappa):
    return log_prob(family, value[:, None], loc, kappa)


def check_gradients(family, tensors, tolerance, wanted=(0, 1, 2)):
    """Against those of rows in float64; the tolerance is relative to the largest element."""
    n, k = len(tensors[0]), len(tensors[1])
    upstream = torch.randn(n, k, generator=torch.Generator().manual_seed(0)).to(tensors[2].dtype)
    actual = gradients(all_pairs, family, tensors, upstream, wanted)
    wide = [t.double() for t in tensors]
    expected = gradients(one_law_at_a_time, family, wide, upstream.double(), wanted)
    for i, grad, exact in zip(wanted, actual, expected, strict=True):
        assert grad.dtype == tensors[i].dtype
        size = float(exact.abs().max())
        close(grad.double(), exact, rtol=0, atol=tolerance * size)
    return actual


TOLERANCE = {torch.float32: 2e-6, torch.float64: 2e-14}


@each_concentrated
@each_float
@pytest.mark.parametrize(
    ("n", "k", "d"), [(60, 37, 150), (20, 70, 3), (200, 10, 64), (13, 12, 33), (4, 300, 17)]
)
def test_gradients(family, dtype, n, k, d):
    value, loc, kappa = inputs(family, n, k, d, dtype)
    if n > 11:
        value = near_the_poles(value, loc)
    check_gradients(family, (value, loc, kappa), TOLERANCE[dtype])


@each_concentrated
@each_float
def test_gradients_near_the_poles(family, dtype):
    """Where every value is so close to the mode or the antipode of its law that x less its part
    along mu is small beside x, and where each law is a needle."""
    eps = torch.finfo(dtype).eps
    loc = unit(12, 40, dtype=dtype)
    for y in (eps, eps**0.5, 1e-3):
        near = at_distance(loc, torch.full((12,), y).double()).to(dtype)
        value = torch.cat([near, -near[:6]])
        weight = torch.eye(12, dtype=dtype)
        upstream = torch.cat([weight, weight[:6]])  # the other pairs do not count
        kappa = torch.full((12,), family.kappas[-1], dtype=dtype)
        tensors = (value, loc, kappa)
        actual = gradients(all_pairs, family, tensors, upstream)
        wide = [t.double() for t in tensors]
        expected = gradients(one_law_at_a_time, family, wide, upstream.double())
        for grad, exact in zip(actual, expected, strict=True):
            for row, exact_row in zip(grad.double(), exact, strict=True):
                close(row, exact_row, rtol=0, atol=20 * eps * float(exact_row.abs().max()))


@each_concentrated
@each_float
@pytest.mark.parametrize(("k", "d"), [(20, 3), (300, 64)])
def test_gradients_are_tangent(family, dtype, k, d):
    """The part of W mu along x may be far longer than the rest. float64 removes it for float32."""
    value, loc, kappa = inputs(family, 400, k, d, dtype)
    value.requires_grad_()
    (grad,) = torch.autograd.grad(log_prob(family, value[:, None], loc, kappa).sum(), value)
    along = (grad.double() * value.double()).sum(-1).abs()
    bound = {torch.float32: 1, torch.float64: 256}[dtype] * torch.finfo(dtype).eps
    assert (along <= bound * grad.double().norm(dim=-1)).all()


@each_concentrated
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)], ids=str)
def test_only_wanted_gradients(family, wanted):
    value, loc, kappa = inputs(family, 60, 37, 70, torch.float32)
    check_gradients(family, (near_the_poles(value, loc), loc, kappa), 2e-6, wanted)


@each_concentrated
@pytest.mark.parametrize("which", [0, 1])
def test_gradients_in_half_precision(family, which):
    """Each is rounded once, to the dtype of its tensor."""
    tensors = list(inputs(family, 60, 37, 70, torch.float32))
    tensors[which] = tensors[which].bfloat16()
    check_gradients(family, tensors, 2**-8)


@each_concentrated
@pytest.mark.parametrize("half", [False, True])
def test_gradients_of_vectors_too_long_to_be_packed_at_once(family, half):
    """The columns come in three chunks, and the rows in three bands."""
    value, loc, kappa = inputs(family, 110, 70, 30_000, torch.float32)
    value = near_the_poles(value, loc)
    kappa = family.at(torch.full((70,), 3e4))
    check_gradients(
        family, (value.bfloat16() if half else value, loc, kappa), 2**-8 if half else 4e-6
    )


@each_concentrated
@pytest.mark.parametrize(
    ("value_shape", "loc_shape", "kappa_shape"),
    [
        ((30, 1), (20,), ()),
        ((30, 1), (20,), (30, 1)),
        ((20,), (30, 1), (30, 1)),
        ((2, 30, 1), (20,), (20,)),
        ((2, 30, 1), (2, 1, 20), (2, 1, 20)),
        ((30, 1), (2, 1, 20), (2, 1, 1)),  # values that are summed over two products
    ],
    ids=str,
)
def test_gradients_of_broadcast_batches(family, value_shape, loc_shape, kappa_shape):
    value, loc = unit(*value_shape, 40), unit(*loc_shape, 40, seed=1)
    kappa = concentrations(family, *kappa_shape)
    batch = torch.broadcast_shapes(value_shape, loc_shape, kappa_shape)

    def rows(family, value, loc, kappa):
        value, loc = (v.expand(*batch, 40).clone() for v in (value, loc))
        return log_prob(family, value, loc, kappa.expand(batch).clone())

    upstream = torch.randn(batch, generator=torch.Generator().manual_seed(0)).double()
    for grad in (
        upstream,
        torch.ones((), dtype=torch.float64).expand(batch),
        upstream.mT.clone().mT,
    ):
        actual = gradients(log_prob, family, (value, loc, kappa), grad)
        expected = gradients(rows, family, (value, loc, kappa), grad)
        close(actual, expected, rtol=1e-12, atol=1e-12)


@each_concentrated
def test_second_derivatives(family):
    tensors = [t.requires_grad_() for t in inputs(family, 6, 5, 4)]
    assert torch.autograd.gradgradcheck(lambda *t: all_pairs(family, *t), tensors)


@each_concentrated
@each_float
def test_bits_do_not_depend_on_the_number_of_threads(family, dtype):
    value, loc, kappa = inputs(family, 700, 100, 64, dtype)
    value = near_the_poles(value, loc)
    upstream = torch.randn(700, 100, generator=torch.Generator().manual_seed(0)).to(dtype)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            grads = gradients(all_pairs, family, (value, loc, kappa), upstream)
            results.append([log_prob(family, value[:, None], loc, kappa), *grads])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


MEMORY = """
import resource, torch
from powerspherical_ext import VonMisesFisher
n, k, d = 2048, 512, 512
value = torch.nn.functional.normalize(torch.randn(n, d), dim=-1).requires_grad_()
loc = torch.nn.functional.normalize(torch.randn(k, d), dim=-1).requires_grad_()
kappa = torch.ones(k, requires_grad=True)
def step(n):
    p = VonMisesFisher(loc, kappa, validate_args=False)
    p.log_prob(value[:n, None]).logsumexp(-1).sum().backward()
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step(8)
before = peak()
step(n)
print((peak() - before) / (4 * n * k * d / 1024))
"""


@pytest.mark.slow
def test_no_temporary_of_the_size_of_all_pairs_of_vectors():
    result = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    assert float(result.stdout) < 0.05  # of the memory of a float32 tensor (n, k, d)
