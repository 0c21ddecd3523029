"""Concentrations from a divergence, an entropy, a mean cosine and a cap, and the angle of a cap."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from cases import (
    CONCENTRATED,
    VON_MISES_FISHER,
    close,
    each_concentrated,
    each_float,
    exact_entropy,
    ignores_warnings_of_torch,
)
from cases import path as path  # a fixture
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mpf
from torch.distributions import kl_divergence
from torch.fx.experimental.proxy_tensor import make_fx

from powerspherical_ext import HypersphericalUniform, PowerSpherical
from powerspherical_ext.inverse.concentration import largest
from powerspherical_ext.reference import log_area

RATES = ("kl", "entropy", "cosine", "cap")
each_rate = pytest.mark.parametrize("rate", RATES)
P = 0.9  # probability of the caps


def axis(d, dtype=torch.float64):
    return torch.eye(1, d, dtype=dtype)[0]


def law(family, d, kappa, dtype=torch.float64):
    kappa = torch.as_tensor(kappa, dtype=dtype)
    return family.distribution(axis(d, dtype), kappa, validate_args=False)


def rate_of(rate, p):
    """The quantity of a distribution."""
    if rate == "kl":
        return kl_divergence(p, HypersphericalUniform(p.event_shape[0], dtype=p.loc.dtype))
    if rate == "entropy":
        return p.entropy()
    return p.mean_resultant_length() if rate == "cosine" else p.angle_quantile(P)


def from_rate(family, rate, d, value, **options):
    """The distribution that has it."""
    loc = axis(d, value.dtype)
    if rate == "cap":
        return family.distribution.with_angle_quantile(loc, value, P, **options)
    name = {"kl": "kl_to_uniform", "entropy": "entropy", "cosine": "mean_cosine"}[rate]
    return getattr(family.distribution, f"with_{name}")(loc, value, **options)


def kappas(family, dtype=torch.float64):
    """From far below to far above d, for families without a bound; towards 1 for the others."""
    s = torch.linspace(-9, 20, 30, dtype=torch.float64)
    if family.declared.is_bounded:
        s = torch.cat([s[:10].exp(), 1 - (-torch.linspace(0.2, 9, 12, dtype=torch.float64)).exp()])
        return torch.cat([torch.zeros(1, dtype=torch.float64), s]).to(dtype)
    return torch.cat([torch.zeros(1, dtype=torch.float64), s.exp()]).to(dtype)


def assert_round_trip(family, rate, d, kappa, tolerance):
    """Of the quantity, but for what one spacing of the concentration, and of the quantity, are."""
    dtype = kappa.dtype
    value = rate_of(rate, law(family, d, kappa, dtype))
    if rate == "cosine":  # one that rounds to 1 is that of no distribution
        kappa, value = kappa[value < 1], value[value < 1]
    found = from_rate(family, rate, d, value, validate_args=False).concentration
    assert found.dtype == dtype
    again, beside = (
        rate_of(rate, law(family, d, k.clamp(0, family.declared.upper_bound), dtype))
        for k in (found, found * (1 + 2 * torch.finfo(dtype).eps))
    )
    grid = (beside - again).abs().nan_to_num(torch.inf)  # at the end of the domain there is no next
    size = value.abs()
    if rate == "entropy":
        size = size.clamp(min=abs(log_area(d)))  # it is the difference of two such terms
    excess = (again - value).abs() - grid
    assert (excess <= tolerance * size).all(), (excess / size, kappa, found)


@pytest.mark.parametrize("d", [2, 3, 5, 64, 2048, 100_000])
@each_concentrated
@each_rate
def test_round_trip(rate, family, d):
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        grid = kappas(family, dtype)
        grid = grid[grid < 1] if family.declared.is_bounded else grid
        assert_round_trip(family, rate, d, grid[:: 3 if rate == "cap" else 1], tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [2, 3, 4, 5, 64])
@each_concentrated
@each_rate
def test_round_trip_at_the_largest_concentration(rate, family, d, dtype):
    """Its quantity, rounded, may be beyond that of every number of the dtype."""
    kappa = torch.tensor([largest(family.declared, dtype)], dtype=dtype)
    value = rate_of(rate, law(family, d, kappa, dtype))
    found = from_rate(family, rate, d, value, validate_args=False).concentration
    assert found <= kappa or (rate == "cosine" and value == 1)


@pytest.mark.slow
@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.sampled_from(CONCENTRATED), st.sampled_from(RATES), st.floats(0.7, 11.5), st.floats(0, 1))
def test_round_trip_at_random(family, rate, log_d, share):
    d = round(math.exp(log_d))
    kappa = math.exp(-12 + 30 * share)
    kappa = torch.tensor([family.at(kappa)], dtype=torch.float64)
    assert_round_trip(family, rate, d, kappa, 1e-12)
    single = kappa.float()
    if single < family.declared.upper_bound:
        assert_round_trip(family, rate, d, single, 1e-6)


# Truth that the package does not compute


@pytest.mark.parametrize(("d", "kappa"), [(2, 0.01), (2, 1e4), (3, 1.0), (64, 1e-3), (64, 100.0)])
@each_concentrated
def test_kl_and_entropy_against_mpmath(family, d, kappa):
    """kappa to 1e-9 where the divergence, known to 1e-12 absolutely, determines it that well."""
    kappa = float(family.at(kappa))
    entropy = exact_entropy(family, d, kappa)
    step = 1e-3 * min(kappa, 1 - kappa) if family.declared.is_bounded else 1e-3 * kappa
    slope = abs(exact_entropy(family, d, kappa + step) - entropy) / step
    tolerance = 1e-12 / slope + 1e-9 * kappa
    nats = torch.tensor([log_area(d) - entropy, entropy], dtype=torch.float64)
    for rate, value in zip(("kl", "entropy"), nats, strict=True):
        found = from_rate(family, rate, d, value).concentration
        assert found.item() == pytest.approx(kappa, abs=tolerance)


@pytest.mark.parametrize(("d", "kappa"), [(2, 1e-6), (2, 1e4), (3, 1.0), (64, 1e-3), (64, 1e3)])
@each_concentrated
def test_mean_cosine_against_mpmath(family, d, kappa):
    kappa = float(family.at(kappa))
    cosine = family.moments(d, mpf(kappa))[0]
    found = from_rate(family, "cosine", d, torch.tensor(float(cosine), dtype=torch.float64))
    rounding = 2e-16 * float(cosine / (1 - cosine))  # of the cosine, in 1 - cosine
    assert found.concentration.item() == pytest.approx(kappa, rel=1e-13 + 4 * rounding)


def exact_cap(family, d, kappa, angle):
    """P(theta <= angle)."""
    y = np.sin(angle / 2) ** 2
    if family is VON_MISES_FISHER:  # on S^2
        assert d == 3
        return -np.expm1(-2 * kappa * y) / -np.expm1(-2 * kappa)
    return family.cdf(y, d, kappa)


@pytest.mark.parametrize("angle", [1e-4, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("kappa", [0.02, 2.0, 50.0])
@each_concentrated
def test_cap_against_scipy(family, kappa, angle):
    for d in (3,) if family is VON_MISES_FISHER else (2, 3, 40):
        k = float(family.at(kappa))
        p = float(exact_cap(family, d, k, angle))
        if not 1e-200 < p < 1 - 1e-5:  # 1 - p is known to 1e-11
            continue
        assert law(family, d, k).angle_quantile(p).item() == pytest.approx(angle, rel=1e-11)
        found = family.distribution.with_angle_quantile(axis(d), angle, p).concentration
        # From a distribution function that is known to 1e-12.
        slope = abs(float(exact_cap(family, d, k * 1.0001, angle)) - p) / (1e-4 * p * (1 - p))
        assert found.item() == pytest.approx(k, rel=1e-11 + 2e-12 / slope)


def test_four_nats_on_s3():
    """The concentration that others write down for this rate, 63.7869, is right to 4e-7."""

    def kl(kappa):
        a = mpf(3) / 2 + kappa
        s = a + mpf(3) / 2
        log_c = -(s * mpmath.log(2) + 1.5 * mpmath.log(mpmath.pi)) + mpmath.log(
            mpmath.gamma(s) / mpmath.gamma(a)
        )
        mean = mpmath.log(2) + mpmath.digamma(a) - mpmath.digamma(s)
        return log_c + kappa * mean + mpmath.log(2 * mpmath.pi**2)

    exact = mpmath.findroot(lambda kappa: kl(kappa) - 4, 64)
    found = PowerSpherical.with_kl_to_uniform(axis(4), 4.0).concentration.item()
    assert found == pytest.approx(float(exact), rel=1e-14)
    assert found == pytest.approx(63.7869, abs=5e-4)
    assert float(kl(mpf("63.7869"))) == pytest.approx(4, abs=1e-5)


# Gradients


@pytest.mark.slow
@each_concentrated
@each_rate
@pytest.mark.parametrize("d", [2, 7])
def test_gradients(rate, family, d):
    kappa = family.at(torch.tensor([0.5, 3.0, 40.0], dtype=torch.float64))
    value = rate_of(rate, law(family, d, kappa)).detach().requires_grad_()

    def kappa_of(value):
        return from_rate(family, rate, d, value, validate_args=False).concentration

    assert torch.autograd.gradcheck(kappa_of, value, eps=1e-7, rtol=1e-5, atol=1e-6)
    (grad,) = torch.autograd.grad(kappa_of(value).sum(), value)
    k = kappa.clone().requires_grad_()
    (inverse,) = torch.autograd.grad(rate_of(rate, law(family, d, k)).sum(), k)
    close(grad * inverse, torch.ones_like(grad), rtol=1e-9, atol=0.0)


@pytest.mark.slow
@each_concentrated
def test_gradients_of_probabilities(family):
    kappa = family.at(torch.tensor([9.0], dtype=torch.float64)).requires_grad_()
    p = torch.tensor([0.9], dtype=torch.float64, requires_grad=True)

    def angle(p, kappa):
        return family.distribution(axis(5), kappa, validate_args=False).angle_quantile(p)

    def concentration(p, angle):
        made = family.distribution.with_angle_quantile(axis(5), angle, p, validate_args=False)
        return made.concentration

    angles = angle(p, kappa).detach().requires_grad_()
    for function, x in ((angle, kappa), (concentration, angles)):
        assert torch.autograd.gradcheck(function, (p, x), eps=1e-7, rtol=1e-5, atol=1e-6)
        assert torch.autograd.gradgradcheck(function, (p, x), rtol=1e-3, atol=1e-5)


@each_concentrated
def test_second_derivatives(family):
    for rate in ("kl", "cosine"):
        kappa = family.at(torch.tensor([0.5, 3.0], dtype=torch.float64))
        value = rate_of(rate, law(family, 5, kappa)).detach().requires_grad_()
        assert torch.autograd.gradgradcheck(
            lambda v, rate=rate: from_rate(family, rate, 5, v, validate_args=False).concentration,
            value,
            rtol=1e-4,
        )


def test_gradient_at_the_uniform_distribution():
    value = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    kappa = PowerSpherical.with_mean_cosine(axis(5), value).concentration
    (grad,) = torch.autograd.grad(kappa.sum(), value)
    assert kappa.tolist() == [0, 0]
    close(grad, torch.full_like(grad, 4.0))  # kappa = (d - 1) A/(1 - A)
    kappa = PowerSpherical.with_kl_to_uniform(axis(5), value).concentration
    (grad,) = torch.autograd.grad(kappa.sum(), value)
    assert (grad == torch.inf).all()


# Ends, types and bad input


OUTSIDE = {
    "kl": [-1e-9, -math.inf, math.inf, 1e9, math.nan],
    "entropy": [100.0, math.inf, -1e9, -math.inf, math.nan],
    "cosine": [-1e-9, 1.0, 1.5, -math.inf, math.nan],
    "cap": [0.0, -0.1, 3.1, math.inf, math.nan],
}


@pytest.mark.usefixtures(path.__name__)
@each_concentrated
@each_float
@each_rate
def test_what_cannot_be_reached(rate, family, dtype):
    """NaN without validation, in the wrong rows alone, and an error that names the range."""
    inside = rate_of(rate, law(family, 6, family.at(torch.tensor([0.2, 2.0])), dtype))
    value = torch.cat([inside, inside.new_tensor(OUTSIDE[rate])]).requires_grad_()
    kappa = from_rate(family, rate, 6, value, validate_args=False).concentration
    assert kappa[:2].isfinite().all()
    assert kappa[2:].isnan().all(), kappa
    (grad,) = torch.autograd.grad(kappa.sum(), value)
    assert grad[:2].isfinite().all()
    assert grad[2:].isnan().all(), grad
    for wrong in OUTSIDE[rate]:
        with pytest.raises(ValueError, match=r"must be between \S+ \(the .* and \S+ \(the .*got"):
            from_rate(family, rate, 6, value.new_tensor([inside[0], wrong]), validate_args=True)


@each_concentrated
@each_float
@each_rate
def test_ends_of_the_range(rate, family, dtype):
    """The uniform distribution; and the most concentrated one, or as near as the dtype can tell."""
    uniform = rate_of(rate, law(family, 4, 0.0, dtype))
    kappa = from_rate(family, rate, 4, uniform, validate_args=True).concentration
    assert kappa <= family.declared.upper_bound
    again = rate_of(rate, law(family, 4, kappa, dtype))
    close(again, uniform, rtol=4 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)
    end = torch.tensor(family.declared.upper_bound, dtype=dtype)
    last = torch.nextafter(end, 0 * end)
    if rate in ("kl", "entropy"):
        value = rate_of(rate, law(family, 4, last, dtype))
        toward = value.new_tensor(-math.inf if rate == "kl" else math.inf)
        value = torch.nextafter(value, toward)
        kappa = from_rate(family, rate, 4, value, validate_args=True).concentration
        assert 0.99 * last <= kappa <= last


def test_messages():
    loc = axis(4)
    with pytest.raises(
        ValueError, match=r"nats must be between .* and 0 \(the uniform .*got -1 at"
    ):
        PowerSpherical.with_kl_to_uniform(loc, torch.tensor([1.0, -1.0]))
    message = r"with_entropy: nats must be between -\S+ .* and 2.98261 \(the uniform.*got 3$"
    with pytest.raises(ValueError, match=message):
        PowerSpherical.with_entropy(loc, 3.0)
    with pytest.raises(
        ValueError, match=r"cosine must be between 0\.9999\d+ \(the largest .* and 0 .*got 1$"
    ):
        PowerSpherical.with_mean_cosine(loc, 1)
    # On S^3 a cap of half the uniform distribution has the angle pi/2.
    message = r"with_angle_quantile: angle must be between \S+ .* and 1.5708 .*got 1.6"
    with pytest.raises(ValueError, match=message):
        PowerSpherical.with_angle_quantile(loc, 1.6, 0.5)
    for wrong in (0.0, 1.0, 1.2, math.nan):
        with pytest.raises(ValueError, match="p must be a probability between 0 and 1, got"):
            PowerSpherical.with_angle_quantile(loc, 1.0, wrong)
    with pytest.raises(ValueError, match=r"p must be a probability from 0 to 1, got 1\.2"):
        PowerSpherical(loc, 1.0).angle_quantile(torch.tensor([0.5, 1.2]))
    with pytest.raises(ValueError, match=r"p must broadcast against the shape \(3,\) of angle"):
        PowerSpherical.with_angle_quantile(loc, torch.ones(3), torch.ones(2))
    with pytest.raises(ValueError, match=r"p must broadcast against the shape \(3,\) of the batch"):
        PowerSpherical(torch.eye(3), 1.0).angle_quantile(torch.full((2,), 0.5))
    with pytest.raises(ValueError, match=r"p must be on the device of concentration, cpu"):
        PowerSpherical(torch.eye(3), 1.0).angle_quantile(torch.ones(3, device="meta"))
    with pytest.raises(ValueError, match=r"loc must have shape \(\.\.\., d\) with d >= 2"):
        PowerSpherical.with_mean_cosine(torch.ones(1), 0.5)
    with pytest.raises(TypeError, match=r"nats must be a tensor or a real number, got str"):
        PowerSpherical.with_entropy(loc, "1")
    with pytest.raises(TypeError, match=r"loc must be a tensor"):
        PowerSpherical.with_entropy([1.0, 0.0], 1.0)
    with pytest.raises(ValueError, match=r"nats must be on the device of loc"):
        PowerSpherical.with_entropy(loc, torch.ones(2, device="meta"))
    with pytest.raises(ValueError, match="must broadcast against the batch shape"):
        PowerSpherical.with_mean_cosine(torch.eye(3), torch.full((2,), 0.5))


@each_concentrated
def test_ends_of_the_angle(family):
    p = law(family, 5, family.at(3.0))
    angle = p.angle_quantile(torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64))
    assert angle[:2].tolist() == [0.0, math.pi]
    close(angle[2].cos(), p.marginal_t.icdf(torch.tensor(0.5, dtype=torch.float64)))
    assert law(family, 5, math.nan).angle_quantile(0.5).isnan()
    assert p.angle_quantile(torch.tensor([-0.1, 1.1, math.nan])).isnan().all()


@each_concentrated
@each_rate
def test_batches_and_types(rate, family):
    """Of loc and of the value, which broadcast; numbers take the dtype of loc."""
    value = rate_of(rate, law(family, 4, family.at(torch.tensor([0.5, 2.0, 9.0]))))
    each = torch.stack([from_rate(family, rate, 4, v).concentration for v in value])
    close(from_rate(family, rate, 4, value).concentration, each)
    assert from_rate(family, rate, 4, value[:0]).concentration.shape == (0,)
    names = {"kl": "kl_to_uniform", "entropy": "entropy", "cosine": "mean_cosine"}
    make = getattr(family.distribution, f"with_{names.get(rate, 'angle_quantile')}")
    more = (P,) if rate == "cap" else ()
    loc = torch.eye(4)[:2]
    p = make(loc.unsqueeze(1), value.float(), *more)
    assert p.batch_shape == (2, 3)
    assert p.loc.dtype == p.concentration.dtype == torch.float32
    assert make(loc, value[0].item(), *more).batch_shape == (2,)
    assert make(loc, value[:1], *more).concentration.dtype == torch.float64
    half = make(loc.bfloat16(), value[0].item(), *more)
    assert half.concentration.dtype == torch.bfloat16
    close(half.concentration[0].double(), each[0], rtol=0.15, atol=0.0)
    assert p.angle_quantile(torch.tensor([0.2, 0.5, 0.9])).shape == (2, 3)
    assert p.angle_quantile(0.5).dtype == torch.float32
    assert half.angle_quantile(0.5).dtype == torch.float32


# Programs


def function_of(family, rate):
    def function(value):
        p = from_rate(family, rate, 5, value, validate_args=False)
        return p.concentration, p.angle_quantile(0.3)

    return function


@ignores_warnings_of_torch
@each_concentrated
@each_rate
def test_a_trace_does_not_see_the_steps(rate, family):
    value = rate_of(rate, law(family, 5, family.at(torch.tensor([0.5, 2.0]))))
    program = make_fx(function_of(family, rate), tracing_mode="symbolic")(value)
    assert sum(node.op == "call_function" for node in program.graph.nodes) < 40
    close(program(value.flip(0)), function_of(family, rate)(value.flip(0)))


@pytest.mark.slow
@ignores_warnings_of_torch
@each_concentrated
@each_rate
def test_compile(rate, family):
    value = rate_of(rate, law(family, 5, family.at(torch.tensor([0.5, 2.0])))).requires_grad_()
    function = function_of(family, rate)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for f in (function, compiled):
        outputs = f(value)
        grads = torch.autograd.grad(sum(x.sum() for x in outputs), value)
        if f is function:
            expected = *outputs, *grads
    close((*outputs, *grads), expected)
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's own, in jvp
@each_concentrated
@each_rate
def test_transforms(rate, family):
    value = rate_of(rate, law(family, 5, family.at(torch.tensor([0.5, 2.0]))))

    def kappa_of(value):
        return from_rate(family, rate, 5, value, validate_args=False).concentration

    close(torch.vmap(kappa_of)(value), kappa_of(value))
    leaf = value.clone().requires_grad_()
    (grad,) = torch.autograd.grad(kappa_of(leaf).sum(), leaf)
    close(torch.vmap(torch.func.grad(kappa_of))(value), grad)
    close(torch.func.jvp(kappa_of, (value,), (torch.ones_like(value),))[1], grad)
    p, one = law(family, 5, family.at(2.0)), torch.ones((), dtype=torch.float64)
    quantile = torch.func.jvp(p.angle_quantile, (0.3 * one,), (one,))[1]
    density = p.marginal_t.log_prob(p.angle_quantile(0.3).cos()).exp()
    close(quantile, 1 / (density * p.angle_quantile(0.3).sin()))
