"""Distributions without validation at concentrations outside of the domain: NaN, at once, in every
quantity and in its gradients, and in no other row."""

from __future__ import annotations

import pytest
import torch
from cases import CONCENTRATED, each_concentrated, ignores_warnings_of_torch, path, unit
from outside import assert_nan_outside, concentrations, is_outside, watchdog
from torch.distributions import kl_divergence

from powerspherical_ext import HypersphericalUniform, ops

pytestmark = pytest.mark.usefixtures(watchdog.__name__)

D = 5
STATE = torch.tensor([3, 4])

# Of a distribution p and a value x, both of batch shape (n,).
QUANTITIES = {
    "log_prob": lambda p, x: p.log_prob(x),
    "rsample": lambda p, x: ops.rsample(p.loc, p.concentration, STATE, p._family),
    "mean": lambda p, x: p.mean,
    "variance": lambda p, x: p.variance,
    "covariance_matrix": lambda p, x: p.covariance_matrix,
    "mean_resultant_length": lambda p, x: p.mean_resultant_length(),
    "log_normalizer": lambda p, x: p.log_normalizer(),
    "entropy": lambda p, x: p.entropy(),
    "kl_uniform": lambda p, x: kl_divergence(p, HypersphericalUniform(D, dtype=x.dtype)),
    "uniform_kl": lambda p, x: kl_divergence(HypersphericalUniform(D, dtype=x.dtype), p),
}
MARGINAL = {
    "log_prob": lambda t: t.log_prob(torch.full_like(t.concentration, 0.25)),
    "cdf": lambda t: t.cdf(torch.full_like(t.concentration, 0.25)),
    "survival": lambda t: t.survival(torch.full_like(t.concentration, 0.25)),
    "cdf(1)": lambda t: t.cdf(torch.ones_like(t.concentration)),
    "icdf": lambda t: t.icdf(torch.full_like(t.concentration, 0.25)),
    "icdf(0)": lambda t: t.icdf(torch.zeros_like(t.concentration)),
    "sample": lambda t: t.rsample(),
    "mean": lambda t: t.mean,
    "variance": lambda t: t.variance,
    "entropy": lambda t: t.entropy(),
}
PAIRS = [(p, q) for p in CONCENTRATED for q in CONCENTRATED if q.declared.name in p.declared.kl]

each_quantity = pytest.mark.parametrize("quantity", QUANTITIES)
each_marginal = pytest.mark.parametrize("quantity", MARGINAL)
each_half = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str
)


def make(family, kappa, loc):
    return family.make(loc, kappa, validate_args=False)


def check(quantity, *kappas, families):
    """quantity(kappas, locs) (n, ...) and its gradients are NaN outside, and finite inside."""
    n = len(kappas[0])
    outside = torch.zeros(n, dtype=torch.bool)
    for family, kappa in zip(families, kappas, strict=True):
        outside |= is_outside(family.declared, kappa)
    locs = [unit(n, D, dtype=kappa.dtype, seed=seed) for seed, kappa in enumerate(kappas)]
    leaves = [x.clone().requires_grad_() for x in (*kappas, *locs)]
    result = quantity(leaves[: len(kappas)], leaves[len(kappas) :])
    assert_nan_outside(result, outside)
    for grad in torch.autograd.grad(result.sum(), leaves, allow_unused=True):
        if grad is not None:
            narrow = grad.dtype is torch.float16  # overflows
            assert_nan_outside(grad, outside, finite=not narrow)


@pytest.mark.usefixtures(path.__name__)
@each_concentrated
@each_half
@each_quantity
def test_quantities(family, dtype, quantity):
    kappa = concentrations(family.declared, dtype)
    x = unit(len(kappa), D, dtype=dtype, seed=9)
    check(
        lambda kappas, locs: QUANTITIES[quantity](make(family, *kappas, *locs), x),
        kappa,
        families=[family],
    )


@each_concentrated
@each_half
@each_marginal
def test_marginal(family, dtype, quantity):
    kappa = concentrations(family.declared, dtype)
    check(
        lambda kappas, locs: MARGINAL[quantity](make(family, *kappas, *locs).marginal_t),
        kappa,
        families=[family],
    )


@pytest.mark.usefixtures(path.__name__)
@pytest.mark.parametrize(("p", "q"), PAIRS, ids=str)
def test_divergences(p, q):
    kappas = [concentrations(f.declared, torch.float64, seed) for seed, f in enumerate((p, q))]

    def divergence(kappas, locs):
        return kl_divergence(*map(make, (p, q), kappas, locs))

    check(divergence, *kappas, families=(p, q))


@ignores_warnings_of_torch
@each_concentrated
@each_quantity
def test_transforms(family, quantity):
    """vmap, jvp and a gradient of functorch, which take plain torch."""
    kappa = concentrations(family.declared, torch.float64)
    outside, loc = is_outside(family.declared, kappa), unit(len(kappa), D)
    x = unit(len(kappa), D, seed=9)

    def of_row(kappa, loc, x):
        return QUANTITIES[quantity](make(family, kappa, loc), x)

    assert_nan_outside(torch.vmap(of_row)(kappa, loc, x), outside)
    slope = torch.vmap(torch.func.grad(lambda *row: of_row(*row).sum()))(kappa, loc, x)
    assert_nan_outside(slope, outside)
    ones = torch.ones_like(kappa)
    value, tangent = torch.func.jvp(lambda k: of_row(k, loc, x), (kappa,), (ones,))
    assert_nan_outside(value, outside)
    assert_nan_outside(tangent, outside)


@pytest.mark.slow
@ignores_warnings_of_torch
@each_concentrated
def test_compiled(family):

    kappa = concentrations(family.declared, torch.float32)
    outside, loc = is_outside(family.declared, kappa), unit(len(kappa), D, dtype=kappa.dtype)
    x = unit(len(kappa), D, dtype=kappa.dtype, seed=9)

    def quantities(kappa, loc):
        p = make(family, kappa, loc)
        return [quantity(p, x) for quantity in QUANTITIES.values()]

    leaves = [kappa.requires_grad_(), loc.requires_grad_()]
    results = torch.compile(quantities, backend="aot_eager", fullgraph=True)(*leaves)
    for result in results:
        assert_nan_outside(result, outside)
        for grad in torch.autograd.grad(result.sum(), leaves, retain_graph=True, allow_unused=True):
            if grad is not None:
                assert_nan_outside(grad, outside)
