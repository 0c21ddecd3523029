"""RotationallySymmetric.fit against scipy's optimiser, the truth, symmetry laws and gradcheck."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from allocations import Largest
from cases import CONCENTRATED, concentration_at, exact_mean
from scipy.special import gammaln, ive

from powerspherical_ext import PowerSpherical, VonMisesFisher, reference
from powerspherical_ext.fit import Settings
from powerspherical_ext.fit import concentration as concentration_module
from powerspherical_ext.fit.maximum_likelihood import scalar_functions
from powerspherical_ext.fit.products import coordinates

ROWS = {row.distribution: row for row in CONCENTRATED if row.declared.fit is not None}
FAMILIES = list(ROWS)
EXPONENTIAL = [family for family in FAMILIES if family._family.exponential_form]
DTYPES = [torch.float32, torch.float64]


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def concentration(family, kappa):
    """The concentration for which 1 - E[t] is of the order of 1/kappa, or of 1 for small kappa."""
    return concentration_at(
        family._family, kappa if family._family.exponential_form else kappa**0.5
    )


def draw(family, shape, d, kappa, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    loc = unit(torch.randn(d, dtype=dtype))
    return loc, family(loc, concentration(family, torch.tensor(kappa, dtype=dtype))).sample(shape)


def negative_log_likelihood(family, x, w):
    """Of (unnormalised direction, log kappa), in numpy and scipy alone."""
    d = x.shape[-1]
    b = (d - 1) / 2

    def power_spherical(direction, kappa):
        t = x @ (direction / np.linalg.norm(direction))
        log_c = -(
            (2 * b + kappa) * math.log(2)
            + b * math.log(math.pi)
            + gammaln(b + kappa)
            - gammaln(2 * b + kappa)
        )
        return -(w * (log_c + kappa * np.log1p(t))).sum() / w.sum()

    def von_mises_fisher(direction, kappa):
        t, v = x @ (direction / np.linalg.norm(direction)), d / 2 - 1
        log_c = v * math.log(kappa) - d / 2 * math.log(2 * math.pi) - math.log(ive(v, kappa))
        return -(w * (log_c + kappa * (t - 1))).sum() / w.sum()

    function = {PowerSpherical: power_spherical, VonMisesFisher: von_mises_fisher}[family]
    return lambda parameters: function(parameters[:-1], math.exp(parameters[-1]))


@pytest.mark.parametrize("family", [PowerSpherical, VonMisesFisher])
@pytest.mark.parametrize(
    ("n", "d", "kappa"), [(7, 3, 4.0), (30, 5, 0.8), (40, 4, 60.0), (25, 2, 9.0)]
)
def test_no_point_is_more_likely(family, n, d, kappa):
    _, x = draw(family, (n,), d, kappa, seed=1)
    w = torch.rand(n, dtype=torch.float64)
    p = family.fit(x, w)
    loss = negative_log_likelihood(family, x.numpy(), w.numpy())
    ours = np.append(p.loc.numpy(), math.log(p.concentration))
    starts = [ours, np.append(unit(x.sum(0)).numpy(), 1.0)]
    best = min(
        (scipy.optimize.minimize(loss, s, method="BFGS", tol=1e-12) for s in starts),
        key=lambda result: result.fun,
    )
    assert loss(ours) <= best.fun + 1e-12
    direction = best.x[:-1] / np.linalg.norm(best.x[:-1])
    np.testing.assert_allclose(p.loc.numpy(), direction, atol=2e-5)
    np.testing.assert_allclose(float(p.concentration), math.exp(best.x[-1]), rtol=2e-5)


def fisher_information(family, d, kappa):
    """Of one sample: in kappa, and in a direction orthogonal to mu; from the row's density."""
    row, kappa = ROWS[family], float(kappa)
    slope = mpmath.diff(lambda k: row.log_normalizer(d, k), kappa)

    def of_kappa(y, _):
        return (slope + mpmath.diff(lambda k: row.log_density(d, k, y), kappa)) ** 2

    def of_mu(y, _):  # E[(1 - t^2) (d log p/dt)^2]/(d - 1), by l = log(y/(1 - y))
        def log_density(l):  # noqa: E741
            return row.log_density(d, mpmath.mpf(kappa), 1 / (1 + mpmath.exp(-l)))

        slope = mpmath.diff(log_density, mpmath.log(y) - mpmath.log1p(-y))
        return slope**2 / (y * (1 - y)) / (d - 1)

    with mpmath.workdps(120):  # exp(-reach) of the quadrature is 1e-60, and diff takes a half
        return tuple(float(exact_mean(row, d, kappa, f)) for f in (of_kappa, of_mu))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("d", "kappa"), [(2, 0.7), (3, 1.0), (3, 1e4), (3, 1e7), (16, 30.0), (64, 1e3), (512, 200.0)]
)
def test_consistent(family, dtype, d, kappa):
    """The estimate of kappa within 4.5 standard errors of the truth: 1e-5 of false alarms for all
    cells together, at a fixed seed; that of mu within the corresponding quantile of chi-square."""
    n = 20000 if d < 100 else 4000
    loc, x = draw(family, (n,), d, kappa, dtype, seed=2)
    p = family.fit(x)
    assert p.loc.dtype == p.concentration.dtype == dtype
    truth = float(concentration(family, torch.tensor(kappa, dtype=dtype)))
    variance, information = fisher_information(family, d, truth)
    assert abs(float(p.concentration) - truth) < 4.5 / math.sqrt(n * variance)
    angle = 2 * torch.asin((p.loc - loc).double().norm() / 2)
    chi_square = n * information * float(angle) ** 2
    assert chi_square < d - 1 + 4.5 * math.sqrt(2 * (d - 1)) + 20


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kappa", [0.8, 4.0, 60.0, 1e4])
def test_other_parameters_are_less_likely(family, kappa):
    """By the exact density: the gradient is 0, and the likelihood falls in every direction."""
    _, x = draw(family, (8, 60), 4, kappa, seed=5)
    w = torch.rand(8, 60, dtype=torch.float64)
    p = family.fit(x, w)

    def likelihood(loc, concentration):
        law = family(unit(loc), concentration, validate_args=False)
        return (w * law.log_prob(x.movedim(-2, 0)).movedim(0, -1)).sum(-1)

    best = likelihood(p.loc, p.concentration)
    bound = family._family.upper_bound
    size = 1 / (1 / p.concentration - 1 / bound)  # bound size/(bound + size) = concentration
    spread = (1 - p.mean_resultant_length()).sqrt().unsqueeze(-1)
    for step in (1e-3, 1e-2, 0.1, 0.5):
        turned = p.loc + step * spread * torch.randn(8, 4, dtype=torch.float64)
        assert (likelihood(turned, p.concentration) < best).all()
        for other in (size * (1 + step), size / (1 + step)):
            assert (likelihood(p.loc, 1 / (1 / other + 1 / bound)) < best).all()
    loc, kappa = (v.detach().requires_grad_() for v in (p.loc, p.concentration))
    along, across = torch.autograd.grad(likelihood(loc, kappa).sum(), (loc, kappa))
    slope = (size * (1 - p.concentration / bound) ** 2).abs()
    assert (along * spread).abs().max() < 1e-6
    assert (across * slope).abs().max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [2, 3, 8])
def test_converges_on_any_sample(family, dtype, d):
    """To a local maximum and without a warning: few or many, spread out or concentrated."""
    for n, kappa in itertools.product([1, 2, 3, 10, 100], [0.0, 0.1, 10.0, 1e7]):
        torch.manual_seed(n)
        loc = unit(torch.randn(20, d, dtype=dtype))
        x = family(loc, concentration(family, torch.tensor(kappa, dtype=dtype))).sample((n,))
        w = torch.rand(n, 20, dtype=dtype)
        p = family.fit(x, w, dim=0)
        assert p.loc.isfinite().all()
        if family not in EXPONENTIAL:  # float32 cannot hold a maximum near the upper bound
            p = family.fit(unit(x.double()), w.double(), dim=0)

        def likelihood(loc, concentration, x=x, w=w):
            law = family(loc.double(), concentration.double(), validate_args=False)
            return (w * law.log_prob(x.double())).sum(0)

        best = likelihood(p.loc, p.concentration)
        step = 1e-3 * torch.randn(20, d) / (1 + p.concentration).sqrt().unsqueeze(-1)
        rounded = unit(p.loc + torch.finfo(dtype).eps * torch.randn(20, d))
        slack = 1e-6 * (1 + best.abs()) + 4 * (likelihood(rounded, p.concentration) - best).abs()
        assert (likelihood(unit(p.loc + step), p.concentration) < best + slack).all()
        assert (likelihood(p.loc, p.concentration * 0.99) < best + slack).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_is_float64_rounded(family):
    _, x = draw(family, (5, 200), 8, 20.0, torch.float32)
    p, q = family.fit(x), family.fit(unit(x.double()))
    torch.testing.assert_close(p.loc, q.loc.float(), rtol=0, atol=1e-7)
    torch.testing.assert_close(p.concentration, q.concentration.float(), rtol=2e-6, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(family, dtype):
    _, x = draw(family, (500,), 8, 20.0, torch.float32)
    p = family.fit(x.to(dtype))
    assert p.loc.dtype == torch.float32
    assert abs(float(p.concentration) / float(family.fit(x).concentration) - 1) < 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_batch_equals_loop_in_every_dimension(family):
    _, x = draw(family, (3, 50, 2), 4, 5.0)
    w = torch.rand(50, 1, dtype=torch.float64)
    p = family.fit(x, w, dim=1)
    assert p.batch_shape == (3, 2)
    assert p.event_shape == (4,)
    for i in range(3):
        for j in range(2):
            one = family.fit(x[i, :, j], w[:, 0])
            torch.testing.assert_close(p.loc[i, j], one.loc, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(p.concentration[i, j], one.concentration, rtol=1e-9, atol=0)
    torch.testing.assert_close(family.fit(x, w, dim=-3).loc, p.loc)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_repetitions_and_make_a_batch(family):
    _, x = draw(family, (12,), 5, 6.0)
    counts = torch.tensor([1, 2, 0, 3, 1, 1, 5, 0, 1, 2, 1, 1])
    p = family.fit(x, 0.3 * counts.double())
    q = family.fit(x.repeat_interleave(counts, 0))
    torch.testing.assert_close(p.loc, q.loc, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(p.concentration, q.concentration, rtol=1e-9, atol=0)
    many = family.fit(x, torch.stack([counts.double(), torch.ones(12, dtype=torch.float64)]))
    assert many.batch_shape == (2,)
    torch.testing.assert_close(many.loc[0], p.loc, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(many.concentration[1], family.fit(x).concentration)


LAYOUTS = [  # batch shape and strides of 0 of the samples, batch shape of the weights
    ((), (), (3,)),
    ((2,), (), (3, 1)),
    ((1, 2), (), (3, 1)),
    ((2, 1), (), (3,)),
    ((2, 1, 2), (), (2, 3, 1)),
    ((3, 2), (0,), (3, 2)),
    ((3, 2), (1,), (2,)),
    ((3,), (0,), ()),
    ((0,), (), ()),
    ((), (), (0,)),
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("batch", "repeated", "weighted"), LAYOUTS, ids=str)
def test_samples_that_weights_share(family, batch, repeated, weighted):
    """Each fit of a batch is that of its samples and weights alone, however they broadcast."""
    own = tuple(1 if i in repeated else size for i, size in enumerate(batch))
    _, x = draw(family, (*own, 20), 3, 6.0)
    x = x.expand(*batch, 20, 3)
    w = torch.rand(*weighted, 20, dtype=torch.float64)
    p = family.fit(x, w)
    shape = torch.broadcast_shapes(batch, weighted)
    assert p.batch_shape == shape
    x, w = x.expand(*shape, 20, 3), w.expand(*shape, 20)
    for i in itertools.product(*map(range, shape)):
        one = family.fit(x[i], w[i])
        torch.testing.assert_close(p.loc[i], one.loc, rtol=0, atol=1e-10)
        torch.testing.assert_close(p.concentration[i], one.concentration, rtol=1e-9, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("expanded", [False, True])
def test_memory_is_that_of_the_samples_and_of_the_weights(family, expanded):
    """No tensor of shape (K, n, d), whose 2.6e6 numbers are 16 times those of the weights."""
    k, n, d = 16, 10_000, 16
    _, x = draw(family, (n,), d, 20.0)
    w = torch.rand(k, n, dtype=torch.float64)
    with Largest() as largest:
        family.fit(x.expand(k, n, d) if expanded else x, w)
    assert largest.numbers <= k * n
    with Largest() as largest:
        p = family.fit(x.requires_grad_(), w.requires_grad_())
        (p.loc.sum() + p.concentration.sum()).backward()
    assert largest.numbers <= k * n


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_of_repeated_samples_is_that_of_each(family):
    _, x = draw(family, (12,), 3, 6.0)
    w = torch.rand(2, 12, dtype=torch.float64)
    repeated = x.expand(2, 12, 3).detach().requires_grad_()
    copied = x.expand(2, 12, 3).clone().requires_grad_()
    p, q = family.fit(repeated, w), family.fit(copied, w)
    scale = torch.tensor([1.0, 2.0], dtype=torch.float64)
    (a,) = torch.autograd.grad((scale * p.concentration).sum() + p.loc[1, 0], repeated)
    (b,) = torch.autograd.grad((scale * q.concentration).sum() + q.loc[1, 0], copied)
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_many_components_with_few_samples_each(family):
    """One weight in 40 is not 0, so that a sparse product sums the samples. NaN stays NaN."""
    n, k = 120, 40
    _, x = draw(family, (n,), 3, 6.0)
    w = torch.eye(k, dtype=torch.float64).repeat_interleave(3, 1)
    p, q = family.fit(x, w), family.fit(x.reshape(k, 3, 3))
    torch.testing.assert_close(p.loc, q.loc, rtol=0, atol=1e-10)
    torch.testing.assert_close(p.concentration, q.concentration, rtol=1e-9, atol=0)
    x[0] = math.nan
    assert family.fit(x, w, validate_args=False).loc.isnan().all()


BAD_WEIGHTS = {"all 0": 0.0, "NaN": math.nan, "infinite": math.inf}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bad", BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_a_fit_without_weight_is_nan_and_harms_no_other(family, bad):
    _, x = draw(family, (15,), 3, 6.0)
    x.requires_grad_()
    good = torch.rand(2, 15, dtype=torch.float64)
    rows = [good[:1], torch.full_like(good[:1], bad), good[1:]]
    w = torch.cat(rows).requires_grad_()
    p, q = family.fit(x, w, validate_args=False), family.fit(x, good)
    assert p.loc[1].isnan().all()
    assert p.concentration[1].isnan()
    keep = torch.tensor([0, 2])
    torch.testing.assert_close(p.loc[keep], q.loc)
    torch.testing.assert_close(p.concentration[keep], q.concentration)
    of_p = torch.autograd.grad(p.concentration.sum() + p.loc[:, 0].sum(), (x, w), retain_graph=True)
    good.requires_grad_()
    q = family.fit(x, good)
    of_q = torch.autograd.grad(q.concentration.sum() + q.loc[:, 0].sum(), (x, good))
    torch.testing.assert_close(of_p[0], of_q[0])
    torch.testing.assert_close(of_p[1][keep], of_q[1])
    assert of_p[1][1].isnan().all()
    masked = torch.where(p.concentration.isnan(), 0.0, p.concentration).sum()
    assert all(g.isfinite().all() for g in torch.autograd.grad(masked, (x, w)))


@pytest.mark.parametrize("family", FAMILIES)
def test_nan_in_nan_out(family):
    _, x = draw(family, (2, 15), 3, 6.0)
    x[0, 3, 1] = torch.nan
    p = family.fit(x, validate_args=False)
    assert p.loc[0].isnan().all()
    assert p.concentration[0].isnan()
    torch.testing.assert_close(p.loc[1], family.fit(x[1]).loc)


def few_samples(family, dtype):
    """90 batches of 8 samples in 384 dimensions, where coordinates of their span are used."""
    torch.manual_seed(3)
    loc = unit(torch.randn(90, 384, dtype=dtype))
    kappa = torch.logspace(0, 7, 90, dtype=dtype)
    x = family(loc, concentration(family, kappa)).sample((8,)).movedim(0, 1)
    x[1] = x[1, :1]  # all equal
    x[2, 4:] = x[2, :4]
    x[3, 4:] = -x[3, :4]  # no mean direction
    x[4, 1:] = -x[4, :1]
    x[5, :7] = x[5, :1]
    x[5, 7] = -x[5, 0]
    x[6, 2, 3] = torch.nan
    w = 0.5 + torch.rand(90, 8, dtype=dtype)
    w[7, 3:] = 0
    w[8] = 0
    w[3] = 1
    return x, w


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_few_samples_in_many_dimensions(family, dtype):
    x, w = few_samples(family, dtype)
    options = {"tolerance": 1e-12, "validate_args": False}
    p = family.fit(x, w, **options)
    for i in [*range(10), 40, 70, 89]:
        q = family.fit(x[i], w[i], **options)
        names = ["concentration"] if q.concentration < 1e-9 else ["loc", "concentration"]
        for name in names:
            both = getattr(p, name)[i], getattr(q, name)
            torch.testing.assert_close(*both, rtol=1e-6, atol=1e-6, equal_nan=True)
    assert p.concentration.isnan().nonzero().flatten().tolist() == [6, 8]


def test_coordinates_have_the_products_of_the_samples():
    x, _ = few_samples(VonMisesFisher, torch.float64)
    c = coordinates(x)
    assert c.shape == (90, 8, 8)
    assert c[6].isnan().all()
    others = torch.arange(90) != 6
    products = unit(x[others]) @ unit(x[others]).mT
    torch.testing.assert_close(c[others] @ c[others].mT, products, rtol=0, atol=1e-14)
    assert coordinates(x[:80]) is None  # few numbers
    assert coordinates(x[..., :100].repeat(4, 1, 1)) is None  # n is not small beside d


def test_an_error_names_the_fits_without_weight():
    w = torch.ones(4, 5)
    w[1] = w[3] = 0
    with pytest.raises(ValueError, match=r"index 1, 3 of the batch \(4,\).*validate_args=False"):
        PowerSpherical.fit(GOOD, w)
    with pytest.raises(ValueError, match=r"index \(0, 1\), \(1, 1\) of the batch \(2, 2\)"):
        PowerSpherical.fit(GOOD, w.reshape(2, 2, 5))
    with pytest.raises(ValueError, match=r"index 0, .*, 7 and 92 more of"):
        PowerSpherical.fit(GOOD, torch.zeros(100, 5))


@pytest.mark.parametrize("family", FAMILIES)
def test_rotation_and_reflection_equivariance(family):
    _, x = draw(family, (40,), 6, 8.0)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    p, q = family.fit(x), family.fit(unit(x @ rotation))
    torch.testing.assert_close(p.loc @ rotation, q.loc, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(p.concentration, q.concentration, rtol=1e-9, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 10])
def test_equal_samples_give_the_largest_concentration(family, dtype, n):
    x = unit(torch.arange(1.0, 6.0, dtype=dtype)).expand(n, 5).clone().requires_grad_()
    p = family.fit(x)
    torch.testing.assert_close(p.loc, x[0], rtol=1e-6, atol=0)
    if family in EXPONENTIAL:
        assert p.concentration.item() == concentration_module.MAX_CONCENTRATION
    assert concentration_at(family._family, 1e6) < p.concentration < family._family.upper_bound
    (p.concentration + p.loc.sum()).backward()
    assert x.grad.isfinite().all()


def test_octahedron():
    """No mean direction: the likelihood of any direction then averages to that of the uniform over
    all directions, so that the best one is above it; here one of the eight with |mu_i| equal."""
    axes = torch.eye(3, dtype=torch.float64)
    x = torch.cat([axes, -axes]).requires_grad_()
    p = PowerSpherical.fit(x)
    torch.testing.assert_close(p.loc.abs(), torch.full((3,), 3**-0.5, dtype=torch.float64))
    assert 0 < p.concentration.item() < 0.2
    (p.concentration + p.loc.sum()).backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("family", EXPONENTIAL)
def test_concentration_is_zero_where_the_uniform_is_more_likely(family):
    """Its mean of -phi is at least that of the uniform: at a poor local maximum, for d = 2."""
    module = family._family.reference
    at_zero = module.log_prob_at_mode_dkappa(torch.zeros(3, dtype=torch.float64), 5)
    moment = at_zero * torch.tensor([0.999, 1.0, 2.0], dtype=torch.float64)
    settings = Settings(0, 1e-10, scalar_functions(family._family, 5))
    mass, sin2_mean = torch.ones_like(moment), torch.full_like(moment, 0.5)
    kappa, *_ = concentration_module.concentration(settings, mass, moment, sin2_mean, 5)
    assert kappa[0] > 0
    assert kappa[1:].tolist() == [0, 0]


def test_without_mean_direction_the_best_von_mises_fisher_is_uniform():
    """The octahedron again: sum x_i = 0, and the concentration is 0 to rounding."""
    axes = torch.eye(3, dtype=torch.float64)
    x = torch.cat([axes, -axes]).requires_grad_()
    p = VonMisesFisher.fit(x)
    assert 0 <= p.concentration.item() < 1e-14
    (p.concentration + p.loc.sum()).backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("kappa", [1e-3, 0.5, 30.0, 1e5])
@pytest.mark.parametrize("d", [2, 3, 20, 300])
def test_von_mises_fisher_has_closed_forms(d, kappa):
    """mu along sum w_i x_i, and A(kappa) = |sum w_i x_i|, or scipy's fit."""
    _, x = draw(VonMisesFisher, (50,), d, kappa, seed=4)
    w = torch.rand(50, dtype=torch.float64)
    p = VonMisesFisher.fit(x, w)
    mean = (w.unsqueeze(-1) * x).sum(0) / w.sum()
    torch.testing.assert_close(p.loc, unit(mean), rtol=0, atol=1e-14)
    found = p.concentration
    length = reference.von_mises_fisher.mean_resultant_length(found, d)
    slope = reference.von_mises_fisher.mean_resultant_length_dkappa(found, d)
    # 1 - |mean| is known to 1e-16 absolutely
    assert abs((length - mean.norm()) / slope) <= 1e-14 * (1 + kappa) * found
    if d == 300:  # where its Bessel functions underflow
        return
    loc, concentration = scipy.stats.vonmises_fisher.fit(x.numpy())
    q = VonMisesFisher.fit(x)
    np.testing.assert_allclose(q.loc.numpy(), loc, atol=1e-12)
    np.testing.assert_allclose(q.concentration.item(), concentration, rtol=1e-6)


def test_a_sample_opposite_to_the_mean_direction():
    """x = e1 three times and -e1 once: three log cos^2 + log sin^2 of half the angle is largest at
    tan^2 = 1/3, that is 60 degrees from e1."""
    x = torch.zeros(4, 3, dtype=torch.float64)
    x[:, 0] = torch.tensor([1.0, 1.0, 1.0, -1.0])
    p = PowerSpherical.fit(x)
    assert abs(float(p.loc[0]) - 0.5) < 1e-9
    assert float(p.concentration) > 0


def test_bounded_steps_warn():
    _, x = draw(PowerSpherical, (30,), 3, 1.0)
    with pytest.warns(RuntimeWarning, match="1 of 1 fits did not converge"):
        PowerSpherical.fit(x, max_iterations=0)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("n", "d", "kappa"), [(5, 3, 5.0), (5, 4, 1.5), (4, 2, 12.0)])
def test_gradients(family, n, d, kappa):
    _, x = draw(family, (2, n), d, kappa, seed=3)
    w = 0.5 + torch.rand(2, n, dtype=torch.float64)

    def estimate(x, w):
        p = family.fit(unit(x), w, tolerance=1e-13)
        return p.loc, p.concentration

    assert torch.autograd.gradcheck(
        estimate, (x.requires_grad_(), w.requires_grad_()), rtol=1e-5, atol=1e-6
    )


def test_second_derivative_raises():
    _, x = draw(PowerSpherical, (6,), 3, 5.0)
    loc = PowerSpherical.fit(x.requires_grad_()).loc
    (gradient,) = torch.autograd.grad(loc[0], x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


GOOD = unit(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("samples", "options", "error", "match"),
    [
        ([[1.0, 0.0]], {}, TypeError, "samples must be a tensor"),
        (torch.ones(5, 3, dtype=torch.int64), {}, TypeError, "floating-point"),
        (GOOD[0], {}, ValueError, "shape"),
        (GOOD[:, :1], {}, ValueError, "d >= 2"),
        (GOOD[:0], {}, ValueError, "at least one sample"),
        (2 * GOOD, {}, ValueError, "unit vectors"),
        (GOOD * torch.nan, {}, ValueError, "unit vectors"),
        (GOOD, {"dim": -1}, ValueError, "dim must be"),
        (GOOD, {"dim": 1}, ValueError, "dim must be"),
        (GOOD, {"dim": 2}, ValueError, "dim must be"),
        (GOOD, {"dim": -3}, ValueError, "dim must be"),
        (GOOD, {"weights": torch.ones(4)}, ValueError, "broadcast"),
        (GOOD, {"weights": -torch.ones(5)}, ValueError, "non-negative"),
        (GOOD, {"weights": torch.ones(5) * torch.nan}, ValueError, "non-negative"),
        (GOOD, {"weights": torch.zeros(5)}, ValueError, "not all be 0"),
        (GOOD, {"weights": torch.ones(5, dtype=torch.int64)}, TypeError, "floating-point"),
    ],
)
def test_bad_input(samples, options, error, match):
    with pytest.raises(error, match=match):
        PowerSpherical.fit(samples, **options)
