"""Gradients: exact where the function is, unbiased where it is a sample.

Monte-Carlo tests have fixed seeds and fail a correct estimator with probability
FALSE_POSITIVE_RATE for a whole test function.
"""

from __future__ import annotations

import itertools

import mpmath
import pytest
import scipy.stats
import torch
from cases import (
    at_distance,
    each_concentrated,
    each_float,
    path,
    unit,
)
from fixed_noise import rsample_fixed_noise
from torch.autograd import gradcheck, gradgradcheck
from torch.distributions import kl_divergence

from powerspherical_ext import HypersphericalUniform, ops
from powerspherical_ext.families import FAMILIES

pytestmark = pytest.mark.usefixtures(path.__name__)

FALSE_POSITIVE_RATE = 1e-3


def leaf(tensor):
    return tensor.clone().requires_grad_()


def parameters(d, kappas, dtype=torch.float64):
    kappa = torch.tensor(kappas, dtype=dtype)
    return leaf(unit(len(kappa), d, dtype=dtype)), leaf(kappa)


# Exact functions


@pytest.mark.slow
@each_concentrated
@pytest.mark.parametrize("d", [2, 3, 8])
@pytest.mark.parametrize("length", [1.0, 1.2])
def test_gradcheck_of_log_prob(family, d, length):
    """In the ambient space, where log_prob is that of the directions, as well as on the sphere."""
    loc, kappa = parameters(d, [family.at(kappa) for kappa in (0.1, 1.0, 30.0)])
    y = torch.tensor([0.01, 0.4, 0.9], dtype=torch.float64)
    x = leaf(length * at_distance(loc.detach(), y))

    def log_prob(x, loc, kappa):
        return family.make(loc, kappa, validate_args=False).log_prob(x)

    assert gradcheck(log_prob, (x, loc, kappa))
    assert gradgradcheck(log_prob, (x, loc, kappa))


@pytest.mark.slow
@each_concentrated
@pytest.mark.parametrize("d", [2, 3, 64])
def test_gradcheck_of_functions_of_kappa(family, d):
    loc, kappa = parameters(d, [family.at(kappa) for kappa in (0.1, 1.0, 30.0)])
    for function in (
        lambda p: p.entropy(),
        lambda p: p.mean_resultant_length(),
        lambda p: p.log_normalizer(),
        lambda p: kl_divergence(p, HypersphericalUniform(d, dtype=torch.float64)),
    ):
        assert gradcheck(lambda k, f=function: f(family.make(loc.detach(), k)), kappa)
        assert gradgradcheck(lambda k, f=function: f(family.make(loc.detach(), k)), kappa)
    if d > 3:
        return
    for function in (lambda p: p.mean, lambda p: p.variance, lambda p: p.covariance_matrix):
        inputs = (loc, kappa)
        assert gradcheck(lambda m, k, f=function: f(family.make(m, k, validate_args=False)), inputs)


@each_concentrated
@pytest.mark.parametrize("d", [2, 5])
def test_gradcheck_of_divergences(family, d):
    p = parameters(d, [family.at(kappa) for kappa in (0.1, 30.0)])
    q = parameters(d, [family.at(kappa) for kappa in (2.0, 20.0)])
    near = leaf(at_distance(p[0].detach(), torch.tensor([0.8, 0.01], dtype=torch.float64)))

    def divergence(mu_p, kappa_p, mu_q, kappa_q):
        return kl_divergence(
            family.make(mu_p, kappa_p, validate_args=False),
            family.make(mu_q, kappa_q, validate_args=False),
        )

    assert gradcheck(divergence, (*p, near, q[1]))


@each_concentrated
@each_float
def test_gradients_of_log_prob_are_tangent(family, dtype):
    """To the rounding of the lengths of x and mu times the slope d log p/dt."""
    eps = torch.finfo(dtype).eps
    for d, kappa in itertools.product((2, 3, 64), family.kappas):
        mu, concentration = parameters(d, [kappa] * 5, dtype)
        y = torch.tensor([1e-10, 1e-4, 0.1, 0.5, 0.9], dtype=torch.float64)
        x = leaf(at_distance(mu.detach(), y).to(dtype))
        family.make(mu, concentration).log_prob(x).sum().backward()
        slope = x.grad.double().norm(dim=-1) / (2 * (y * (1 - y)).sqrt())
        for vector in (x, mu):
            along = (vector.grad * vector).sum(-1).detach().double().abs()
            assert (along <= 4 * eps * slope).all(), (d, kappa, along / (eps * slope))
            assert (vector.grad.norm(dim=-1) > 0).all() or kappa == 0


@each_concentrated
@each_float
@pytest.mark.parametrize("d", [2, 3, 64])
def test_gradients_of_log_prob_near_the_poles(family, dtype, d, path):
    """In units of rounding of the gradient itself, which is small beside its terms near a pole."""
    near = torch.logspace(-11 if dtype == torch.float64 else -9, -2, 40, dtype=torch.float64)
    mu = unit(40, d, dtype=dtype)
    for y, z in ((near, 1 - near), (1 - near, near)):
        x, loc = leaf(at_distance(mu, y, z).to(dtype)), leaf(mu)
        law = family.make(loc, family.at(torch.tensor(3.0, dtype=dtype)), validate_args=False)
        law.log_prob(x).sum().backward()
        for a, b in ((x, loc), (loc, x)):
            for actual, row, other in zip(a.grad, a.detach(), b.detach(), strict=True):
                expected = exact_gradient_of_log_prob(family, row, other)
                size = max(map(abs, expected))
                pairs = zip(actual.tolist(), expected, strict=True)
                error = max(abs(value - exact) for value, exact in pairs) / size
                assert error <= 16 * torch.finfo(dtype).eps


def exact_gradient_of_log_prob(family, x, mu):
    """In x, at family.at(3): (m - t x/|x|)/|x| d log p/dt, where m = mu/|mu| and t = m . x/|x|."""
    d, kappa = len(mu), mpmath.mpf(family.at(3.0))
    x, mu = ([mpmath.mpf(v) for v in vector.tolist()] for vector in (x, mu))
    length, size = (mpmath.sqrt(sum(a * a for a in vector)) for vector in (x, mu))
    x, mu = [a / length for a in x], [b / size for b in mu]
    t = sum(a * b for a, b in zip(x, mu, strict=True))
    y = sum((a - b) ** 2 for a, b in zip(x, mu, strict=True)) / 4
    slope = mpmath.diff(lambda y: family.log_density(d, kappa, y), y) / -2
    return [slope * (b - t * a) / length for a, b in zip(x, mu, strict=True)]


@each_concentrated
@each_float
@pytest.mark.parametrize("d", [2, 3, 64])
def test_everything_is_finite(family, dtype, d):
    """At kappa = 0, in a needle, at x = mu, mu = e1 and in d = 2."""
    e1 = torch.eye(d, dtype=dtype)[0]
    loc = leaf(torch.stack([e1, -e1, unit(d, dtype=dtype)]).unsqueeze(1))
    kappa = leaf(torch.tensor(family.kappas, dtype=dtype))
    p = family.make(loc, kappa)
    torch.manual_seed(0)
    sample = p.rsample((50,))
    for output in (
        p.log_prob(p.loc),
        p.log_prob(loc.detach()),
        p.log_prob(sample),
        sample.sin(),
        p.entropy(),
        kl_divergence(p, HypersphericalUniform(d, dtype=dtype)),
        kl_divergence(p, family.make(loc.detach(), family.at(2.0))),
        kl_divergence(family.make(-loc.detach(), family.at(2.0)), p),
        p.mean,
        p.variance,
    ):
        assert output.isfinite().all()
        for grad in torch.autograd.grad(
            output.sum(), (loc, kappa), retain_graph=True, allow_unused=True
        ):
            assert grad is None or grad.isfinite().all()


@pytest.mark.slow
@each_concentrated
@each_float
def test_slope_in_kappa_is_accurate(family, dtype):
    """d log p/dkappa at the mode against mpmath: the difference of two digammas is not formed."""
    for d, kappa in itertools.product((2, 3, 8, 512, 2048), family.kappas[1:]):
        mu, concentration = parameters(d, [kappa], dtype)
        family.make(mu, concentration).log_prob(mu.detach()).backward()
        exact_kappa = concentration.item()
        y = mpmath.mpf(0)
        expected = mpmath.diff(
            lambda k, d=d, y=y: family.log_normalizer(d, k) + family.log_density(d, k, y),
            mpmath.mpf(exact_kappa),
        )
        bound = 1e-6 if dtype == torch.float32 else 1e-13
        assert concentration.grad.item() == pytest.approx(float(expected), rel=bound)


# Samples

DRAWS = 200_000
CELLS = [(2, 0.0), (2, 1e6), (3, 0.5), (3, 1e4), (4, 66573.5), (8, 30.0), (64, 100.0)]


def concentration_of_cell(family, kappa, dtype):
    """As it is in dtype. Where the tails may be heavy, a needle is left out: the mean of 1 - t is
    that of few samples far from mu, and a mean of some thousand draws is not normal."""
    if not family.declared.exponential_form:
        kappa = min(kappa, 30.0)
    return family.at(torch.tensor(kappa, dtype=dtype)).item()


def per_draw_gradients(family, mu, kappa, draws, *functions):
    """The gradients in loc and in kappa of each function of x, one row for each draw."""
    loc = leaf(mu.expand(draws, -1))
    concentration = leaf(torch.full((draws,), kappa, dtype=mu.dtype))
    torch.manual_seed(4)
    x = family.make(loc, concentration, validate_args=False).rsample()
    for function in functions:
        grads = torch.autograd.grad(function(x).sum(), (loc, concentration), retain_graph=True)
        assert all(grad.isfinite().all() for grad in grads)
        yield tuple(grad.double() for grad in grads)


def moment_slopes(family, d, kappa):
    """E[t^2] and v = E[1 - t^2]/(d - 1), and d/dkappa of E[t] and E[t^2]."""
    kappa, step = mpmath.mpf(kappa), mpmath.mpf(10) ** -15
    second = family.moments(d, kappa)[1]
    low, high = family.moments(d, kappa), family.moments(d, kappa + step)
    slopes = [(b - a) / step for a, b in zip(low, high, strict=True)]
    return float(second), float((1 - second) / (d - 1)), *map(float, slopes)


def z_score(draws, expected):
    return ((draws.mean() - expected) / (draws.std() / len(draws) ** 0.5)).item()


@pytest.mark.slow
@each_concentrated
@each_float
def test_rsample_gradients_are_unbiased(family, dtype, path):
    """With c a fixed direction, t = mu . x: d/dkappa E[t], d/dkappa E[(c . x)^2] and the gradient
    2 (E[t^2] - v) (c . mu) (c - (c . mu) mu) of E[(c . x)^2] in mu. In float32 at (2, 1e6)
    power_spherical is 33 % off."""
    draws, cells = (DRAWS, CELLS) if path == "kernels" else (4000, CELLS[1:4])
    bound = scipy.stats.norm.isf(FALSE_POSITIVE_RATE / 2 / (3 * len(cells) * 4))
    for d, kappa in cells:
        kappa = concentration_of_cell(family, kappa, dtype)
        mu, c = unit(d, dtype=dtype), unit(d, seed=7).to(dtype)
        # On the sphere t = 1 - |x - mu|^2/2, which does not cancel.
        (_, of_t), (in_mu, of_square) = per_draw_gradients(
            family,
            mu,
            kappa,
            draws,
            lambda x, mu=mu: -(x - mu).square().sum(-1) / 2,
            lambda x, c=c: (x @ c).square(),
        )
        mu, c = mu.double(), c.double()
        second, v, slope, second_slope = moment_slopes(family, d, kappa)
        along = (c @ mu).item()
        tangent = c - along * mu
        across = tangent.square().sum().item()
        scores = (
            z_score(of_t, slope),
            z_score(of_square, second_slope * (along**2 - across / (d - 1))),
            z_score(in_mu @ tangent, 2 * (second - v) * along * across),
        )
        assert max(map(abs, scores)) < bound, (d, kappa, scores)


@each_concentrated
@each_float
def test_rsample_gradient_in_loc_is_tangent(family, dtype):
    mu = unit(1000, 5, dtype=dtype)
    loc = leaf(mu)
    torch.manual_seed(0)
    x = family.make(loc, family.at(torch.tensor(3.0, dtype=dtype))).rsample()
    (x * unit(1000, 5, dtype=dtype, seed=3)).sum().backward()
    assert (loc.grad * mu).sum(-1).abs().max() < 10 * torch.finfo(dtype).eps


def householder(mu, t, v):
    """The estimator of power_spherical and TFP: reflects (t, sqrt(1 - t^2) v) from e1 onto mu."""
    x = torch.cat([t.unsqueeze(-1), (1 - t * t).sqrt().unsqueeze(-1) * v], -1)
    u = torch.nn.functional.normalize(torch.eye(mu.shape[-1], dtype=mu.dtype)[0] - mu, dim=-1)
    return x - 2 * (x * u).sum(-1, keepdim=True) * u


@each_concentrated
@pytest.mark.parametrize("start", [1.0, 0.05])
def test_variance_is_not_above_householders(family, start, path):
    """Total variance of the gradient in mu of (c . x)^2 and of a nonlinear function, at mu a
    distance ``start`` from e1, to 3 standard errors. Near e1 the Householder gradient is singular,
    and worse by orders of magnitude."""
    d, n = 3, 20_000 if path == "kernels" else 4000
    e1, c = torch.eye(d, dtype=torch.float64)[0], unit(d, seed=7)
    mu = torch.nn.functional.normalize(e1 + start * unit(d, seed=2), dim=-1)
    functions = (lambda x: (x @ c).square(), lambda x: (3 * x).sin().sum(-1))
    for kappa in map(family.at, (0.5, 50.0)):
        ours = per_draw_gradients(family, mu, kappa, n, *functions)
        torch.manual_seed(1)
        x = family.make(e1, kappa).sample((n,))
        t, v = x[:, 0], torch.nn.functional.normalize(x[:, 1:], dim=-1)
        for f, (mine, _) in zip(functions, ours, strict=True):
            loc = leaf(mu.expand(n, d))
            f(householder(loc, t, v)).sum().backward()
            theirs = loc.grad - (loc.grad @ mu).unsqueeze(-1) * mu
            ratio = theirs.var(0).sum() / mine.var(0).sum()
            assert ratio > (1 - 3 / n**0.5 if start == 1.0 else 10), (kappa, ratio)
            error = (theirs.var(0).sum() / n).sqrt() + (mine.var(0).sum() / n).sqrt()
            assert (theirs.mean(0) - mine.mean(0)).norm() < 4 * error, kappa


@pytest.mark.parametrize("kappa", [0.5, 20.0])
@pytest.mark.parametrize("d", [2, 3, 8])
@pytest.mark.parametrize("path", ["reference"], indirect=True)  # the kernels have no such sampler
def test_fixed_noise_gradient(d, kappa):
    """The same sample; the same mean of the gradients of (c . x)^2, to 4 standard errors of their
    difference; and a variance not below that of the rotation field, to 10 %."""
    n, state, c = 4000, torch.tensor([8, 0]), unit(d, seed=7)
    family = FAMILIES[0]
    grads = []
    for sampler, declared in ((ops.rsample, family), (rsample_fixed_noise, family.reference)):
        loc, concentration = leaf(unit(d).expand(n, d)), leaf(torch.full((n,), kappa).double())
        x = sampler(loc, concentration, state, declared)
        in_loc, in_kappa = torch.autograd.grad((x @ c).square().sum(), (loc, concentration))
        grads.append((x.detach(), in_loc, in_kappa))
    (x, rotated, slope), (same_x, fixed, same_slope) = grads
    torch.testing.assert_close(x, same_x, rtol=0, atol=1e-12)
    torch.testing.assert_close(slope, same_slope, rtol=1e-8, atol=1e-12)
    difference = rotated - fixed
    error = (difference.var(0).sum() / n).sqrt()
    assert difference.mean(0).norm() <= 4 * error + 1e-12
    assert rotated.var(0).sum() <= 1.1 * fixed.var(0).sum()


@each_concentrated
def test_rsample_has_no_second_derivative(family):
    loc, kappa = parameters(3, [family.at(1.0), family.at(2.0)])
    x = family.make(loc, kappa).rsample()
    grads = torch.autograd.grad(x.sin().sum(), (loc, kappa), create_graph=True)
    for grad in grads:
        with pytest.raises(RuntimeError, match="rsample has no second derivative"):
            torch.autograd.grad(grad.sum(), (loc, kappa), retain_graph=True)


@each_concentrated
def test_first_derivative_with_create_graph_is_the_same(family):
    loc, kappa = parameters(3, [family.at(1.0), family.at(2.0)])
    torch.manual_seed(0)
    x = family.make(loc, kappa).rsample()
    plain = torch.autograd.grad(x.sin().sum(), (loc, kappa), retain_graph=True)
    graphed = torch.autograd.grad(x.sin().sum(), (loc, kappa), create_graph=True)
    torch.testing.assert_close(plain, graphed)
