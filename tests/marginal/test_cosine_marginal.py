"""CosineMarginal against the truth in cosine_truth.py, gradcheck, and its sampler."""

from __future__ import annotations

import copy
import itertools
import math
import pickle

import mpmath
import numpy as np
import pytest
import scipy.stats
import torch
from cases import (
    POWER_SPHERICAL,
    VON_MISES_FISHER,
    each_concentrated,
    each_float,
    exact_mean,
)
from cosine_truth import exact_log_density, exact_tail, points, tails
from mpmath import mpf
from torch.distributions import constraints

from powerspherical_ext import PowerSpherical
from powerspherical_ext.distributions import CosineMarginal

DIMENSIONS = [2, 3, 4, 5, 8, 16, 64, 512, 2048, 100_000, 1_000_000]
CONCENTRATIONS = [0, 1e-3, 1, 10, 100, 1e4, 1e6, 1e7]


def marginal(family, d, kappa, dtype=torch.float64):
    loc = torch.zeros(d, dtype=dtype)
    loc[0] = 1
    return family.make(loc, torch.as_tensor(kappa, dtype=dtype)).marginal_t


def concentrations(family):
    return [family.at(kappa) for kappa in CONCENTRATIONS]


@each_concentrated
@each_float
@pytest.mark.parametrize("d", DIMENSIONS)
def test_cdf(family, dtype, d):
    """Relative error of the smaller tail, down to 1e-100 (1e-35 in float32)."""
    p = np.array([1e-100 if dtype == torch.float64 else 1e-35, 1e-30, 1e-10, 1e-3, 0.1, 0.4])
    law = marginal(family, d, concentrations(family), dtype)
    kappas = law.concentration.double().numpy()
    columns = [points(family, d, kappa, p) for kappa in kappas]
    t = torch.tensor(np.stack(columns, -1), dtype=dtype)  # [points, concentrations]
    lower, upper = tails(family, d, kappas, t.double().numpy())
    small, at_most, above = np.minimum(lower, upper), law.cdf(t), law.survival(t)
    torch.testing.assert_close(at_most + above, torch.ones_like(t))
    ours = torch.where(torch.tensor(lower < upper), at_most, above).double().numpy()
    keep = small > (1e-37 if dtype == torch.float32 else 1e-300)
    error = (np.abs(ours - small)[keep] / small[keep]).astype(float)
    limit = 1e-7 if dtype == torch.float32 else 5e-12 if d > 1e5 else 2e-12
    assert error.max() < limit, error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "d", "kappa", "t", "upper"),
    [
        (POWER_SPHERICAL, 2, 0, -1 + 2.0**-50, False),
        (POWER_SPHERICAL, 2, 1e7, 1 - 2.0**-52, True),
        (POWER_SPHERICAL, 2, 1e7, 1 - 2.0**-20, False),
        (POWER_SPHERICAL, 2, 1e6, 0.9995461085434065, False),
        (POWER_SPHERICAL, 3, 1e-3, -1 + 2.0**-40, False),
        (POWER_SPHERICAL, 16, 1e4, 0.87, False),
        (POWER_SPHERICAL, 64, 1e7, 0.99984, False),
        (POWER_SPHERICAL, 1_000_000, 0, 0.0214, True),
        (POWER_SPHERICAL, 1_000_000, 1e7, 0.9063939477390937, False),
        (VON_MISES_FISHER, 2, 0, -1 + 2.0**-50, False),
        (VON_MISES_FISHER, 2, 1e7, 1 - 2.0**-52, True),
        (VON_MISES_FISHER, 2, 1e7, 1 - 2.0**-20, False),
        (VON_MISES_FISHER, 2, 100, -0.5, False),
        (VON_MISES_FISHER, 2, 10, 0.44, False),
        (VON_MISES_FISHER, 3, 1e-3, -1 + 2.0**-40, False),
        (VON_MISES_FISHER, 16, 1e4, 0.99, False),
        (VON_MISES_FISHER, 64, 1e7, 0.99999, False),
        (VON_MISES_FISHER, 1_000_000, 0, 0.0214, True),
        (VON_MISES_FISHER, 1_000_000, 1e7, 0.9512, False),
    ],
)
def test_cdf_by_mpmath(family, d, kappa, t, upper):
    with mpmath.workdps(40):
        exact = exact_tail(family, d, kappa, t, upper)
    law = marginal(family, d, kappa)
    value = torch.tensor(t, dtype=torch.float64)
    ours = law.survival(value) if upper else law.cdf(value)
    assert abs(ours.item() / exact - 1) < (3e-12 if d > 1e5 else 1e-12)


@pytest.mark.slow
@each_concentrated
@pytest.mark.parametrize(("d", "kappa"), [(2, 10), (3, 1e7), (16, 1e-3), (2048, 1e4)])
def test_tails_by_mpmath(family, d, kappa):
    kappa = family.at(kappa)
    t = points(family, d, kappa, np.array([1e-10, 0.1]))
    law = marginal(family, d, kappa)
    for value, upper in zip(t.tolist(), [False, False, True, True], strict=True):
        if not -1 < value < 1:
            continue
        with mpmath.workdps(60):
            exact = exact_tail(family, d, kappa, value, upper)
        ours = (law.survival if upper else law.cdf)(torch.tensor(value, dtype=torch.float64))
        assert abs(ours.item() / exact - 1) < 1e-12


@each_concentrated
@each_float
@pytest.mark.parametrize("d", DIMENSIONS)
def test_icdf(family, dtype, d):
    """The exact quantile lies within 9 (float32: 1) units of 2^-52 (2^-23) of ours."""
    smallest = 1e-200 if dtype == torch.float64 else 1e-35
    q = torch.tensor(
        [smallest, 1e-30, 1e-16, 1e-8, 1e-3, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999, 1 - 1e-6], dtype=dtype
    ).unsqueeze(-1)
    law = marginal(family, d, concentrations(family), dtype)
    kappa, t = law.concentration.double().numpy(), law.icdf(q).double()
    step = (9 if dtype == torch.float64 else 1) * torch.finfo(dtype).eps
    before = tails(family, d, kappa, (t - step).clamp(-1, 1).numpy())
    behind = tails(family, d, kappa, (t + step).clamp(-1, 1).numpy())
    p = q.double().numpy()
    lower = (before[0] <= p) & (p <= behind[0])
    upper = (before[1] >= 1 - p) & (1 - p >= behind[1])
    assert np.where(p < 0.5, lower, upper).all(), t


@pytest.mark.slow
@each_concentrated
def test_log_prob_and_moments(family):
    """log f, E[t], Var[t] and the entropy against mpmath."""
    for d, kappa in itertools.product([2, 3, 16, 512], [0, 0.1, 10, 1e3]):
        kappa = family.at(kappa)
        law = marginal(family, d, kappa)
        t = torch.tensor(points(family, d, kappa, np.array([1e-3, 0.2])))

        def log_density(y, d=d, kappa=kappa):
            return exact_log_density(family, d, kappa, y) - mpmath.log(2 * y * (1 - y))

        expected = [float(log_density((1 - mpf(x)) / 2)) for x in t.tolist()]
        np.testing.assert_allclose(law.log_prob(t).numpy(), expected, rtol=1e-9, atol=1e-9)
        mean, square = family.moments(d, mpf(kappa))
        np.testing.assert_allclose(law.mean.item(), float(mean), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(law.variance.item(), float(square - mean**2), rtol=1e-12)
        entropy = exact_mean(family, d, kappa, lambda y, _, f=log_density: -f(y))
        np.testing.assert_allclose(law.entropy().item(), float(entropy), rtol=1e-9, atol=1e-10)


@pytest.mark.slow
@each_concentrated
@pytest.mark.parametrize(("d", "kappa"), [(2, 3.0), (5, 0.5), (64, 40.0)])
def test_gradients(family, d, kappa):
    kappa = family.at(kappa)
    law = marginal(family, d, kappa)
    p = torch.tensor([1e-3, 0.9], dtype=torch.float64)
    t = law.icdf(p)
    kappa = torch.full_like(p, kappa)
    for method, x in [("cdf", t), ("survival", t), ("icdf", p), ("log_prob", t)]:

        def function(x, kappa, method=method):
            return getattr(marginal(family, d, kappa), method)(x)

        inputs = (x.clone().requires_grad_(), kappa.clone().requires_grad_())
        assert torch.autograd.gradcheck(function, inputs, eps=1e-7, rtol=1e-4, atol=1e-6)
    parameter = kappa.requires_grad_()
    assert torch.autograd.gradcheck(lambda k: marginal(family, d, k).entropy(), (parameter,))


@pytest.mark.slow
@each_concentrated
def test_second_derivatives(family):
    t = torch.tensor([0.4], dtype=torch.float64, requires_grad=True)
    kappa = family.at(torch.tensor([3.0], dtype=torch.float64)).requires_grad_()
    q = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    for method, x in [("cdf", t), ("icdf", q)]:

        def function(x, kappa, method=method):
            return getattr(marginal(family, 5, kappa), method)(x)

        assert torch.autograd.gradgradcheck(function, (x, kappa), rtol=1e-4)
    assert torch.autograd.gradgradcheck(lambda k: marginal(family, 5, k).entropy(), kappa)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's own, in jvp
@each_concentrated
def test_transforms(family):
    kappa = family.at(torch.tensor([0.5, 20.0], dtype=torch.float64))
    t = torch.tensor([0.1, 0.6], dtype=torch.float64)

    def function(t, kappa):
        loc = torch.zeros(4, dtype=kappa.dtype)
        law = family.make(loc, kappa, validate_args=False).marginal_t
        return law.icdf(law.cdf(t))

    torch.testing.assert_close(torch.vmap(function)(t, kappa), t)
    gradient = torch.vmap(torch.func.grad(function, (0, 1)))(t, kappa)
    torch.testing.assert_close(gradient, (torch.ones_like(t), torch.zeros_like(t)))
    tangent = torch.func.jvp(function, (t, kappa), (torch.ones_like(t), torch.ones_like(t)))[1]
    torch.testing.assert_close(tangent, torch.ones_like(t))


@each_concentrated
@each_float
@pytest.mark.parametrize("d", [2, 3, 4, 1_000_000])
def test_ends(family, d, dtype):
    law = marginal(family, d, family.at(torch.tensor([0.0, 1e-3, 1.0, 1e7], dtype=dtype)), dtype)
    ends = torch.tensor([[-1.0], [1.0]], dtype=dtype)
    assert law.cdf(ends).tolist() == [[0] * 4, [1] * 4]
    assert law.survival(ends).tolist() == [[1] * 4, [0] * 4]
    assert law.icdf((ends + 1) / 2).tolist() == ends.expand(2, 4).tolist()
    assert not law.log_prob(ends).isnan().any()
    inside = torch.tensor([torch.finfo(dtype).tiny, 1 - torch.finfo(dtype).eps], dtype=dtype)
    assert law.icdf(inside[:, None]).abs().le(1).all()
    unchecked = CosineMarginal(family.make(torch.eye(2)[0], family.at(1.0)), validate_args=False)
    assert unchecked.icdf(torch.tensor([-0.1, 1.1, math.nan])).isnan().all()
    assert unchecked.cdf(torch.tensor([-1.1, 1.1])).tolist() == [0, 1]


@pytest.mark.slow
@each_concentrated
@pytest.mark.parametrize("d", [2, 3, 8, 512, 1_000_000])
def test_sampler(family, d):
    """KS of y = (1 - t)/2: 20 tests of each family at 1e-4, so 2e-3 of false alarms at these fixed
    seeds.

    The largest 1/kappa is the order of y, which is known to 1e-16. In a family that is not of
    exponential form y may be of the order 1/kappa^2.
    """
    torch.manual_seed(d)
    for kappa in [0, 0.3, 50, 1e7 if family.declared.exponential_form else 1e7**0.5]:
        kappa = family.at(kappa)
        t = marginal(family, d, kappa).sample((5000,))
        result = scipy.stats.kstest((1 - t.numpy()) / 2, lambda y, k=kappa: family.cdf(y, d, k))
        assert result.pvalue > 1e-4, (kappa, result)


@each_concentrated
def test_law_of_the_cosine_of_samples(family):
    """cdf(mu . x) is uniform on (0, 1): KS at 1e-4, false alarms 1e-4 at a fixed seed."""
    torch.manual_seed(0)
    loc = torch.nn.functional.normalize(torch.randn(6, dtype=torch.float64), dim=0)
    p = family.make(loc, family.at(torch.tensor(9.0, dtype=torch.float64)))
    u = p.marginal_t.cdf((p.sample((5000,)) * loc).sum(-1))
    assert scipy.stats.kstest(u.numpy(), "uniform").pvalue > 1e-4


@pytest.mark.slow
@each_concentrated
@each_float
@pytest.mark.parametrize(("d", "kappa"), [(2, 0.5), (3, 4.0), (64, 30.0), (3, 1e7), (64, 1e7)])
def test_gradient_of_samples(family, dtype, d, kappa):
    """E[dt/dkappa] = dE[t]/dkappa within 4.5 standard errors: 10 tests of each family, 7e-5 of
    false alarms."""
    if d == 3 and kappa == 1e7 and not family.declared.exponential_form:
        pytest.skip("a heavy tail of 1 - t may carry the mean, which is then not normal")
    torch.manual_seed(1)
    kappa = family.at(torch.tensor(kappa, dtype=dtype)).expand(20000).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(marginal(family, d, kappa, dtype).rsample().sum(), kappa)
    exact = torch.func.grad(lambda k: marginal(family, d, k).mean)(kappa[0].detach().double())
    gradient = gradient.double()
    z = (gradient.mean() - exact) / (gradient.std() / len(gradient) ** 0.5)
    assert abs(z.item()) < 4.5


def test_citizenship():
    loc = torch.eye(4)[:3]
    law = PowerSpherical(loc, torch.tensor([0.0, 1.0, 50.0])).marginal_t
    assert isinstance(law, CosineMarginal)
    assert (law.batch_shape, law.event_shape) == ((3,), ())
    assert law.rsample((2,)).shape == (2, 3)
    assert law.support.check(law.sample((10,))).all()
    wide = law.expand((5, 3))
    assert type(wide) is CosineMarginal
    assert wide.batch_shape == (5, 3)
    t = torch.tensor([[0.5], [-0.5]])
    for method in ("log_prob", "cdf", "survival"):
        torch.testing.assert_close(getattr(law.expand((2, 3)), method)(t), getattr(law, method)(t))
    assert wide.mean.shape == wide.variance.shape == wide.entropy().shape == (5, 3)
    assert constraints.is_dependent(law.support) is False
    assert repr(law).startswith("CosineMarginal(family: ")
    first, second = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    assert torch.equal(law.sample((4,), generator=first), law.sample((4,), generator=second))
    half = PowerSpherical(loc.bfloat16(), torch.ones(3, dtype=torch.bfloat16)).marginal_t
    assert half.sample().dtype == torch.bfloat16
    assert half.cdf(torch.tensor(0.5, dtype=torch.bfloat16)).dtype == torch.float32


@each_concentrated
def test_copies(family):
    law, t = marginal(family, 4, family.at(2.0)), torch.tensor(0.3, dtype=torch.float64)
    for copied in (copy.copy(law), copy.deepcopy(law), pickle.loads(pickle.dumps(law))):
        assert type(copied) is CosineMarginal
        assert torch.equal(copied.cdf(t), law.cdf(t))


@pytest.mark.parametrize("method", ["log_prob", "cdf", "survival", "icdf"])
def test_bad_input(method):
    law = marginal(POWER_SPHERICAL, 3, 1.0)
    with pytest.raises(TypeError, match="must be a tensor"):
        getattr(law, method)(0.5)
    with pytest.raises(TypeError, match="floating-point"):
        getattr(law, method)(torch.tensor(1))
    with pytest.raises(ValueError, match="must satisfy"):
        getattr(law, method)(torch.tensor(1.1))
    with pytest.raises(ValueError, match="must satisfy"):
        getattr(law, method)(torch.tensor(math.nan))
