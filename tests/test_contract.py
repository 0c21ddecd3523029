"""What torch.distributions promises, for every row of the table in cases.py."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
import torch
from cases import (
    BATCHES,
    CASES,
    CONCENTRATED,
    FAMILIES,
    POWER_SPHERICAL,
    Case,
    at_distance,
    each_case,
    each_concentrated,
    each_family,
    each_float,
    exact_entropy,
    unit,
)
from mpmath import mpf
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, kl
from torch.distributions.utils import _sum_rightmost

import powerspherical_ext
from powerspherical_ext import HypersphericalUniform, PowerSpherical
from powerspherical_ext.distributions import CosineMarginal, RotationallySymmetric, constraints

# Not laws on the sphere of their own: the base class, and that of t, which has test_marginal.py.
BASES = {RotationallySymmetric, CosineMarginal}
SAMPLE_SHAPES = [(), 3, (2,), [2], (2, 1), (0,), torch.Size([4, 2])]


def close(actual, expected, **tolerances):
    torch.testing.assert_close(actual, expected, **tolerances)


def subclasses(parent):
    for child in parent.__subclasses__():
        yield child
        yield from subclasses(child)


def compute_dtype(case):
    return torch.promote_types(case.dtype, torch.float32)


# The table


def test_every_distribution_has_a_row():
    ours = {
        child
        for child in subclasses(Distribution)
        if child.__module__.startswith("powerspherical_ext.")
    }
    assert ours - BASES == {family.distribution for family in FAMILIES}
    for family in FAMILIES:
        assert family.distribution.__name__ in powerspherical_ext.__all__
        covered = {case.batch for case in CASES if case.family is family}
        assert covered == set(BATCHES)


# Shapes and dtypes


@each_case
def test_shapes(case):
    p = case.make()
    batch, d = case.batch_shape, case.d
    assert p.batch_shape == batch
    assert p.event_shape == (d,)
    for vector in (p.mode, p.mean, p.variance, p.stddev):
        assert vector.shape == (*batch, d)
    assert p.covariance_matrix.shape == (*batch, d, d)
    assert p.entropy().shape == batch
    assert p.has_rsample
    assert not p.has_enumerate_support
    if case.family in CONCENTRATED:
        assert p.log_normalizer().shape == p.mean_resultant_length().shape == batch


@each_case
@pytest.mark.parametrize("sample_shape", SAMPLE_SHAPES, ids=str)
def test_sample_shapes_and_dtype(case, sample_shape):
    p = case.make()
    lead = (sample_shape,) if isinstance(sample_shape, int) else tuple(sample_shape)
    for x in (p.sample(sample_shape), p.rsample(sample_shape=sample_shape)):
        assert x.shape == lead + case.batch_shape + (case.d,)
        assert x.dtype == case.dtype
        assert p.log_prob(x).shape == lead + case.batch_shape
        assert p.support.check(x).all()


@each_case
def test_dtypes_of_densities(case):
    """Half precision is computed and returned in float32."""
    p, dtype = case.make(), compute_dtype(case)
    assert p.mode.dtype == case.dtype
    for tensor in (p.log_prob(p.sample()), p.entropy(), kl.kl_divergence(p, p_uniform(case))):
        assert tensor.dtype == dtype


def p_uniform(case):
    return HypersphericalUniform(case.d, dtype=case.dtype)


@each_case
def test_log_prob_broadcasts_values(case):
    p = case.make()
    for shape in [
        (),
        case.batch_shape,
        (5, *case.batch_shape),
        (5, *(1 for _ in case.batch_shape)),
    ]:
        x = unit(*shape, case.d, dtype=case.dtype)
        log_p = p.log_prob(x)
        assert log_p.shape == torch.broadcast_shapes(shape, case.batch_shape)
        close(log_p, p.log_prob(x.expand(*log_p.shape, case.d)), rtol=0, atol=0)


@each_case
def test_expand_is_repeat(case):
    p = case.make()
    shape = (4, *case.batch_shape)
    expanded = p.expand(shape)
    assert type(expanded) is type(p)
    assert expanded.batch_shape == shape
    assert expanded.event_shape == p.event_shape
    assert expanded.expand((2, *shape)).batch_shape == (2, *shape)
    assert p.expand(torch.Size(shape)).sample((2,)).shape == (2, *shape, case.d)
    x = p.sample((4,))
    close(expanded.log_prob(x), p.log_prob(x), rtol=0, atol=0)
    for name in ("mode", "mean", "variance", "stddev", "covariance_matrix"):
        close(getattr(expanded, name), getattr(p, name).expand(4, *getattr(p, name).shape))
    close(expanded.entropy(), p.entropy().expand(shape))
    torch.manual_seed(0)
    x = expanded.sample()
    torch.manual_seed(0)
    assert torch.equal(x, p.sample((4,)))
    if case.batch_shape.numel() > 1:
        with pytest.raises(RuntimeError):
            p.expand((7,))
    for setting in (True, False):
        assert case.make(validate_args=setting).expand(shape)._validate_args is setting


@each_case
def test_repr_names_the_class_and_its_shapes(case):
    assert type(case.make()).__name__ in repr(case.make())
    assert str(case.d) in repr(case.make())


# Parameters and support


@each_case
def test_parameters_satisfy_their_constraints(case):
    p = case.make()
    for name, constraint in p.arg_constraints.items():
        assert constraint.check(getattr(p, name)).all()
    assert p.support is constraints.sphere
    assert p.support.event_dim == 1
    assert not p.support.is_discrete
    assert p.support.check(p.mode).shape == case.batch_shape
    with pytest.raises(NotImplementedError):
        p.enumerate_support()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("d", [2, 64, 2048])
def test_sphere(dtype, d):
    x = unit(200, d, dtype=dtype)
    assert constraints.sphere.check(x).all()
    for wrong in (0 * x, 1.05 * x, 0.95 * x, x * float("nan"), x / 0):
        assert not constraints.sphere.check(wrong).any()
    assert constraints.sphere.check(x[0]).shape == ()


def test_sphere_is_strict_in_float32():
    x = torch.tensor([1.0, 0.0, 0.0])
    assert not constraints.sphere.check(x * (1 + 1e-5))
    assert constraints.sphere.check(x * (1 + 5e-7))


@each_concentrated
def test_finite_concentration_number(family):
    """A Python number takes the dtype and device of loc."""
    for number in (2.5, 3):
        p = family.make(unit(4, 3), number)
        assert p.concentration.dtype == torch.float64
        assert p.concentration.shape == p.batch_shape == (4,)
        assert (p.concentration == number).all()


@each_concentrated
def test_dtypes_promote(family):
    p = family.make(unit(4, 3, dtype=torch.float32), torch.ones(4, dtype=torch.float64))
    assert p.loc.dtype == p.concentration.dtype == p.sample().dtype == torch.float64
    p = family.make(unit(4, 3, dtype=torch.bfloat16), torch.ones(4))
    assert p.sample().dtype == p.mode.dtype == torch.float32


def test_scale_is_concentration():
    """Code written for the power-spherical package."""
    loc, kappa = unit(2, 3), torch.tensor([1.0, 2.0], dtype=torch.float64)
    x = unit(2, 3, seed=3)
    expected = PowerSpherical(loc, kappa).log_prob(x)
    for p in (
        PowerSpherical(loc, scale=kappa),
        PowerSpherical(loc=loc, scale=kappa),
        PowerSpherical(loc, concentration=kappa),
    ):
        assert p.scale is p.concentration
        close(p.log_prob(x), expected)
    for wrong in ({}, {"concentration": kappa, "scale": kappa}):
        with pytest.raises(TypeError, match="exactly one of concentration and scale"):
            PowerSpherical(loc, **wrong)


def test_validate_args():
    loc, value = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 3.0])
    assert PowerSpherical(loc, -1.0, validate_args=False).batch_shape == ()
    with pytest.raises(ValueError, match="loc"):
        PowerSpherical(loc, 1.0, validate_args=True)
    try:
        Distribution.set_default_validate_args(False)
        PowerSpherical(loc, 1.0).log_prob(value)
        HypersphericalUniform(2).log_prob(value)
    finally:
        Distribution.set_default_validate_args(True)
    with pytest.raises(ValueError, match="value"):
        HypersphericalUniform(2).log_prob(value)


# Moments


def tolerance(case):
    return {torch.float64: 1e-13, torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[
        case.dtype
    ]


@each_case
def test_moments_are_exact(case):
    """E[x] = E[t] mu, Cov[x] = v (I - mu mu^T) + Var[t] mu mu^T, v = E[1 - t^2]/(d - 1)."""
    p, d = case.make(), case.d
    mu = torch.nn.functional.normalize(p.mode.double(), dim=-1)
    kappa = getattr(p, "concentration", torch.zeros(case.batch_shape)).double()
    moments = [case.family.moments(d, mpf(k)) for k in kappa.flatten().tolist()]
    scalars = [
        (float(t), float((1 - square) / (d - 1)), float(square - t * t)) for t, square in moments
    ]
    t, v, variance = torch.tensor(scalars, dtype=torch.float64).view(*p.batch_shape, 3).unbind(-1)
    outer = mu.unsqueeze(-1) * mu.unsqueeze(-2)
    covariance = v[..., None, None] * (torch.eye(d) - outer) + variance[..., None, None] * outer
    relative = tolerance(case)
    scale = 0.0 if v.numel() == 0 else v.max().item()
    close(p.mean.double(), t.unsqueeze(-1) * mu, rtol=relative, atol=relative)
    close(p.covariance_matrix.double(), covariance, rtol=relative, atol=relative * scale)
    diagonal = covariance.diagonal(dim1=-2, dim2=-1)
    close(p.variance.double(), diagonal, rtol=relative, atol=relative * scale)
    close(p.stddev.double(), diagonal.sqrt(), rtol=relative, atol=relative * scale**0.5)
    if case.family in CONCENTRATED:
        close(p.mean_resultant_length().double(), t, rtol=relative, atol=0)


@each_family
@pytest.mark.parametrize("d", [2, 3, 8, 64])
def test_moments_of_samples(family, d):
    """z-scores of the mean of x and of (c . x)^2; the false-positive rate of each call is 1e-3."""
    n, c = 20_000, unit(d, seed=8)
    bound = scipy.stats.norm.isf(1e-3 / 2 / (len(family.kappas) * (d + 1)))
    for kappa in family.kappas:
        p = family.make(unit(d), torch.tensor(kappa, dtype=torch.float64))
        torch.manual_seed(d)
        x = p.sample((n,)) - p.mean
        square = (x @ c).square() - c @ p.covariance_matrix @ c
        for series in (x, square.unsqueeze(-1)):
            z = series.mean(0) / (series.std(0) / n**0.5)
            assert z.abs().max() < bound, kappa


@each_family
@each_float
@pytest.mark.parametrize("d", [2, 3, 8, 64, 512])
def test_entropy_and_divergence_from_uniform(family, dtype, d):
    """Against quadrature of -p log p in mpmath; KL = log area - entropy."""
    mu = torch.eye(d, dtype=dtype)[0]
    uniform = HypersphericalUniform(d, dtype=dtype)
    log_area = uniform.entropy().item()
    bound = {torch.float32: 5e-7, torch.float64: 3e-12}[dtype]
    for kappa in family.kappas:
        p = family.make(mu, torch.tensor(kappa, dtype=dtype))
        expected = exact_entropy(family, d, p.concentration.item() if kappa else 0.0)
        assert abs(p.entropy().item() - expected) <= bound * max(abs(expected), 1)
        divergence = kl.kl_divergence(p, uniform).item()
        assert divergence >= 0
        assert abs(divergence - (log_area - expected)) <= bound * max(abs(expected), log_area, 1)


# Combinations with torch's own


@each_case
def test_independent(case):
    p = case.make()
    for n in range(len(case.batch_shape) + 1):
        q = Independent(p, n)
        cut = len(case.batch_shape) - n
        assert q.batch_shape == case.batch_shape[:cut]
        assert q.event_shape == (*case.batch_shape[cut:], case.d)
        x = q.rsample((2,))
        close(q.log_prob(x), _sum_rightmost(p.log_prob(x), n))
        close(q.entropy(), _sum_rightmost(p.entropy(), n))
        assert q.expand((3, *q.batch_shape)).sample().shape == (3, *p.batch_shape, case.d)
        close(kl.kl_divergence(q, q_uniform(case, n)), _sum_rightmost(divergence(p, case), n))


def q_uniform(case, n):
    return Independent(p_uniform(case).expand(case.batch_shape), n)


def divergence(p, case):
    return kl.kl_divergence(p, p_uniform(case))


@each_family
@each_float
def test_mixture(family, dtype):
    components = family.make(
        unit(2, 4, 3, dtype=dtype), torch.full((4,), family.kappas[-1], dtype=dtype)
    )
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=dtype).expand(2, 4)
    p = MixtureSameFamily(Categorical(weights), components)
    assert p.batch_shape == (2,)
    x = p.sample((5,))
    assert x.shape == (5, 2, 3)
    assert x.dtype == dtype
    assert components.support.check(x).all()
    expected = torch.logsumexp(weights.log() + components.log_prob(x.unsqueeze(-2)), -1)
    close(p.log_prob(x), expected)
    close(p.mean, (weights.unsqueeze(-1) * components.mean).sum(-2))
    assert p.variance.shape == (2, 3)
    assert p.expand((3, 2)).sample().shape == (3, 2, 3)


@each_case
def test_divergences_broadcast(case):
    p, uniform = case.make(), p_uniform(case).expand((5, *(1 for _ in case.batch_shape)))
    value = kl.kl_divergence(p, uniform)
    assert value.shape == (5, *case.batch_shape)
    assert (value >= 0).all()
    zero = kl.kl_divergence(uniform, p_uniform(case))
    assert zero.shape == uniform.batch_shape
    assert (zero == 0).all()


@pytest.mark.parametrize("p_family", FAMILIES, ids=str)
@pytest.mark.parametrize("q_family", FAMILIES, ids=str)
def test_divergence_is_the_mean_log_ratio(p_family, q_family):
    """z-scores of E_p[log p - log q] over samples; the false-positive rate of each call is 1e-3.
    Shapes broadcast, and half precision gives float32."""
    n, bound = 20_000, scipy.stats.norm.isf(1e-3 / 2 / 18)
    kappa_p = torch.tensor([0.0, 2.0, 300.0], dtype=torch.float64)
    kappa_q = torch.tensor([0.0, 5.0], dtype=torch.float64).unsqueeze(-1)
    for d in (2, 3, 8):
        p = p_family.make(unit(3, d), kappa_p)
        q = q_family.make(unit(2, 1, d, seed=4), kappa_q)
        torch.manual_seed(d)
        x = p.sample((n,)).unsqueeze(1)
        ratio = p.log_prob(x.squeeze(1)).unsqueeze(1) - q.log_prob(x)
        divergence = kl.kl_divergence(p, q)
        assert divergence.shape == (2, 3)
        error = (ratio.std(0) / n**0.5).clamp(min=1e-12)
        assert ((ratio.mean(0) - divergence).abs() < bound * error).all()
        assert (kl.kl_divergence(p, p) == 0).all()
        half = p_family.make(unit(3, d, dtype=torch.bfloat16), kappa_p.bfloat16())
        assert kl.kl_divergence(half, half).dtype == torch.float32


@each_family
def test_divergence_needs_one_sphere(family):
    p = family.make(unit(3), 0.0)
    for other, d in itertools.product(FAMILIES, (2, 4)):
        with pytest.raises(ValueError, match=f"same sphere.* 3 and {d}"):
            kl.kl_divergence(p, other.make(unit(d), 0.0))


# Randomness


@each_case
def test_reproducible(case):
    p = case.make()
    torch.manual_seed(5)
    one, two = p.sample((3,)), p.sample((3,))
    torch.manual_seed(5)
    assert torch.equal(one, p.sample((3,)))
    assert torch.equal(two, p.rsample((3,)))
    assert one.numel() == 0 or not torch.equal(one, two)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        assert torch.equal(one, p.sample((3,)))
    state = torch.get_rng_state()
    draws = [p.sample((3,), generator=torch.Generator().manual_seed(9)) for _ in range(2)]
    draws.append(p.rsample((3,), generator=torch.Generator().manual_seed(9)))
    assert torch.equal(draws[0], draws[1])
    assert torch.equal(draws[0], draws[2])
    assert torch.equal(state, torch.get_rng_state())
    assert one.numel() == 0 or not torch.equal(draws[0], p.sample((3,)))


@each_case
def test_gradients_flow_through_rsample_only(case):
    loc, kappa = case.parameters()
    loc.requires_grad_()
    p = case.family.make(loc, kappa)
    assert not p.sample((2,)).requires_grad
    x = p.rsample((2,))
    if case.family in CONCENTRATED:
        assert x.requires_grad
        assert p.mean.requires_grad
        x.sum().backward()
        assert loc.grad.shape == loc.shape
        assert loc.grad.dtype == loc.dtype
        assert loc.grad.isfinite().all()


# Living in a program


@each_case
def test_copies(case):
    p = case.make()
    buffer = io.BytesIO()
    torch.save(p, buffer)
    buffer.seek(0)
    others = [
        copy.deepcopy(p),
        copy.copy(p),
        pickle.loads(pickle.dumps(p)),
        torch.load(buffer, weights_only=False),
    ]
    x = p.sample((2,))
    for other in others:
        assert type(other) is type(p)
        close(other.log_prob(x), p.log_prob(x), rtol=0, atol=0)
        torch.manual_seed(1)
        expected = p.sample()
        torch.manual_seed(1)
        assert torch.equal(other.sample(), expected)


@pytest.mark.parametrize(
    "case", [Case(f, 3, f.kappas[-1], "outer", torch.bfloat16) for f in FAMILIES], ids=str
)
def test_device_is_preserved(case):
    """On the meta device, which computes shapes only: nothing lands on the CPU behind the back."""
    loc, kappa = case.parameters()
    kappa = kappa.to("meta") if isinstance(kappa, torch.Tensor) else kappa
    p = case.family.make(loc.to("meta"), kappa, validate_args=False)
    x = p.rsample((2,))
    results = (p.mean, p.mode, p.variance, p.covariance_matrix, p.entropy(), x, p.log_prob(x))
    for tensor in (*results, kl.kl_divergence(p, HypersphericalUniform(case.d, device="meta"))):
        assert tensor.device.type == "meta"
    assert x.shape == (2, *case.batch_shape, case.d)
    assert p.expand((2, *case.batch_shape)).sample().device.type == "meta"


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit")
@each_family
def test_jit_trace(family):
    loc, kappa = unit(4, 3), torch.full((4,), family.kappas[-1], dtype=torch.float64)
    x = unit(4, 3, seed=2)

    def log_p(loc, kappa, x):
        return family.make(loc, kappa, validate_args=False).log_prob(x)

    traced = torch.jit.trace(log_p, (loc, kappa, x))
    close(traced(loc, 2 * kappa, -x), log_p(loc, 2 * kappa, -x))


def test_import_leaves_torch_as_it_is():
    code = """
import torch
from torch.distributions import Distribution
torch.manual_seed(0)
def state():
    return (torch.get_default_dtype(), torch.get_num_threads(), torch.get_num_interop_threads(),
            torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(),
            torch.get_float32_matmul_precision(), torch.get_rng_state().tolist(),
            Distribution._Distribution__validate_args if hasattr(Distribution,
            "_Distribution__validate_args") else Distribution._validate_args,
            torch.backends.cudnn.benchmark, str(torch.get_default_device()))
before = state()
import powerspherical_ext
assert state() == before
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# Bad input: what was wrong, what was wanted, what came

E1 = torch.tensor([1.0, 0.0, 0.0])
BAD_PARAMETERS = {
    "loc of a wrong length": ((2 * E1, 1.0), ValueError, r"loc .* Sphere\(\)[\s\S]*2\."),
    "zero loc": ((0 * E1, 1.0), ValueError, r"loc .* Sphere\(\)"),
    "NaN loc": ((E1 * float("nan"), 1.0), ValueError, r"loc .* Sphere\(\)[\s\S]*nan"),
    "scalar loc": ((torch.tensor(1.0), 1.0), ValueError, r"loc .*\(\.\.\., d\).*got \(\)"),
    "d = 1": ((torch.ones(5, 1), 1.0), ValueError, r"loc .*d >= 2, got \(5, 1\)"),
    "d = 0": ((torch.ones(0), 1.0), ValueError, r"loc .*d >= 2, got \(0,\)"),
    "integer loc": ((E1.long(), 1.0), TypeError, "loc .*floating-point.*int64"),
    "complex loc": ((E1.cfloat(), 1.0), TypeError, "loc .*floating-point.*complex64"),
    "numpy loc": ((E1.numpy(), 1.0), TypeError, "loc must be a tensor, got ndarray"),
    "list loc": (([1.0, 0.0], 1.0), TypeError, "loc must be a tensor, got list"),
    "negative kappa": ((E1, -1.0), ValueError, r"concentration .*Nonnegative[\s\S]*-1"),
    "NaN kappa": ((E1, float("nan")), ValueError, r"concentration .*Nonnegative[\s\S]*nan"),
    "inf kappa": ((E1, float("inf")), ValueError, r"concentration .*Finite[\s\S]*inf"),
    "integer kappa": ((E1, torch.tensor(1)), TypeError, "concentration .*floating.*int64"),
    "numpy kappa": ((E1, np.ones(3)), TypeError, "concentration must be a tensor.*ndarray"),
    "string kappa": ((E1, "1"), TypeError, "concentration must be a tensor.*str"),
    "wrong shape": (
        (E1.expand(2, 3), torch.ones(5)),
        ValueError,
        r"concentration must broadcast .*\(2,\).*\(5,\)",
    ),
    "column": (
        (E1.expand(2, 3), torch.ones(3, 1, 5)),
        ValueError,
        r"concentration must broadcast .*\(2,\).*\(3, 1, 5\)",
    ),
    "mixed devices": (
        (E1, torch.ones((), device="meta")),
        ValueError,
        "concentration must be on the device of loc, cpu, got meta",
    ),
}


@each_concentrated
@pytest.mark.parametrize("bad", BAD_PARAMETERS)
def test_bad_parameters(family, bad):
    arguments, error, message = BAD_PARAMETERS[bad]
    with pytest.raises(error, match=f"{family}.*{message}|{message}") as caught:
        family.make(*arguments)
    assert family.distribution.__name__ in str(caught.value)


BAD_VALUES = {
    "length 2": (2 * E1, ValueError, r"value argument .*Sphere\(\)[\s\S]*2\."),
    "zero": (0 * E1, ValueError, r"value argument .*Sphere\(\)"),
    "NaN": (E1 * float("nan"), ValueError, r"value argument .*Sphere\(\)[\s\S]*nan"),
    "other d": (torch.eye(4), ValueError, r"value must .*\(\.\.\., 2, 3\), got \(4, 4\)"),
    "scalar": (torch.tensor(1.0), ValueError, r"value must .*\(\.\.\., 2, 3\), got \(\)"),
    "integers": (E1.long(), TypeError, "value must .*floating-point.*int64"),
    "numpy": (E1.numpy(), TypeError, "value must .*tensor, got ndarray"),
    "number": (1.0, TypeError, "value must .*tensor, got float"),
    "other device": (E1.to("meta"), ValueError, "value must be on the device.*cpu.*got meta"),
    "batch": (E1.expand(7, 3), ValueError, r"value must .*\(\.\.\., 2, 3\), got \(7, 3\)"),
}


@each_family
@pytest.mark.parametrize("bad", BAD_VALUES)
def test_bad_values(family, bad):
    value, error, message = BAD_VALUES[bad]
    p = family.make(E1.expand(2, 3), family.kappas[-1])
    with pytest.raises(error, match=message) as caught:
        p.log_prob(value)
    assert family.distribution.__name__ in str(caught.value)


@pytest.mark.parametrize(
    ("dim", "error", "message"),
    [
        (1, ValueError, "dim must be at least 2, got 1"),
        (0, ValueError, "dim must be at least 2, got 0"),
        (-3, ValueError, "dim must be at least 2, got -3"),
        (3.0, TypeError, r"dim must be an integer, got 3\.0"),
        (True, TypeError, "dim must be an integer, got True"),
        ("3", TypeError, "dim must be an integer, got '3'"),
        (torch.ones(2), TypeError, "dim must be an integer, got tensor"),
    ],
)
def test_bad_dimension_of_uniform(dim, error, message):
    with pytest.raises(error, match=message):
        HypersphericalUniform(dim)


def test_bad_dtype_of_uniform():
    with pytest.raises(TypeError, match=r"dtype must be a floating-point.*torch\.int64"):
        HypersphericalUniform(3, dtype=torch.int64)
    assert HypersphericalUniform(torch.tensor(3)).event_shape == (3,)


@each_family
def test_bad_sample_shapes(family):
    p = family.make(E1, 0.0)
    for wrong in ("ab", 1.5, (1.5,)):
        with pytest.raises(TypeError):
            p.sample(wrong)
    for wrong in (-1, (2, -3)):
        with pytest.raises((ValueError, RuntimeError)):
            p.sample(wrong)


def test_cases_cover_the_domain():
    for family in CONCENTRATED:
        concentrated = [case for case in CASES if case.family is family]
        assert {case.d for case in concentrated} >= {2, 3, 8, 64}
        assert {case.kappa for case in concentrated} >= {0.0, 1e7}
    assert Case(POWER_SPHERICAL).make().batch_shape == (2, 3)
    assert at_distance(unit(3), torch.tensor(0.5)).norm().item() == pytest.approx(1)
