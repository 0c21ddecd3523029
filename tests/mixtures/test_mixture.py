"""fit_mixture against EM written out in numpy, against fit, and by the laws of EM."""

from __future__ import annotations

import itertools
import math
import re
import warnings

import numpy as np
import pytest
import scipy.optimize
import torch
from allocations import Largest
from cases import CONCENTRATED, concentration_at
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ive

from powerspherical_ext import VonMisesFisher, fit_mixture
from powerspherical_ext.mixtures.seeding import seeds

ROWS = [row for row in CONCENTRATED if row.declared.fit is not None]
FAMILIES = [row.distribution for row in ROWS]
OPTIONS = list(itertools.product(["soft", "hard"], ["free", "shared"]))
each_family = pytest.mark.parametrize("family", FAMILIES)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def planted(family=VonMisesFisher, n=300, d=3, k=3, kappa=20.0, dtype=torch.float64, seed=0):
    """Mean directions (k, d) and samples (n k, d): n of each component, shuffled."""
    g = generator(seed)
    loc = unit(torch.randn(k, d, generator=g, dtype=torch.float64)).to(dtype)
    spread = kappa * torch.linspace(1, 2, k, dtype=dtype)
    spread = spread if family._family.exponential_form else spread.sqrt()
    x = family(loc, concentration_at(family._family, spread)).sample((n,), generator=g)
    x = x.flatten(0, 1)
    return loc, x[torch.randperm(len(x), generator=g)]


def fit(x, k, *args, **options):
    """fit_mixture for a few iterations, converged or not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return fit_mixture(x, k, *args, **{"generator": generator(), **options})


def log_density(d, kappa, t):
    """log p of von Mises-Fisher, by scipy."""
    v = d / 2 - 1
    log_c = v * np.log(kappa) - d / 2 * np.log(2 * np.pi) - np.log(ive(v, kappa))
    return log_c + kappa * (t - 1)


def best_kappa(d, length):
    """A(kappa) = length, by scipy."""
    v = d / 2 - 1
    return scipy.optimize.brentq(lambda k: ive(v + 1, k) / ive(v, k) - length, 1e-3, 600)


def em_in_numpy(x, mu, iterations, assignments, concentration):
    """The objective at the start and after each iteration, the weights, mu and kappa."""
    n, d = x.shape
    k = len(mu)

    def maximise(r, shared):
        sums, mass = r.T @ x, r.sum(0)
        lengths = np.linalg.norm(sums, axis=1)
        if shared:
            kappa = np.full(k, best_kappa(d, lengths.sum() / n))
        else:
            kappa = np.array([best_kappa(d, s / m) for s, m in zip(lengths, mass, strict=True)])
        return mass / n, sums / lengths[:, None], kappa

    _, mu, kappa = maximise(np.eye(k)[(x @ mu.T).argmax(1)], True)
    pi, history = np.full(k, 1 / k), []
    for iteration in range(iterations + 1):
        joint = np.log(pi) + log_density(d, kappa, x @ mu.T)
        if assignments == "hard":
            r = np.eye(k)[joint.argmax(1)]
            history.append(joint.max(1).sum())
        else:
            density = np.exp(joint)
            r = density / density.sum(1, keepdims=True)
            history.append(np.log(density.sum(1)).sum())
        if iteration < iterations:
            pi, mu, kappa = maximise(r, concentration == "shared")
    return history, pi, mu, kappa


@pytest.mark.parametrize(("assignments", "concentration"), OPTIONS)
@pytest.mark.parametrize("d", [2, 3, 6])
def test_is_em_written_out(assignments, concentration, d):
    _, x = planted(d=d, n=40, kappa=4.0, seed=2)
    init, steps = x[:3], 7
    options = {"assignments": assignments, "concentration": concentration}
    found = fit(x, 3, init=init, max_iterations=steps, tolerance=-math.inf, **options)
    history, pi, mu, kappa = em_in_numpy(x.numpy(), init.numpy(), steps, **options)
    np.testing.assert_allclose(found.log_likelihoods, history, rtol=1e-9)
    law = found.mixture.component_distribution
    np.testing.assert_allclose(found.mixture.mixture_distribution.probs, pi, rtol=1e-7)
    np.testing.assert_allclose(law.loc, mu, atol=1e-7)
    np.testing.assert_allclose(law.concentration, kappa, rtol=1e-6)


@each_family
@pytest.mark.parametrize(("assignments", "concentration"), OPTIONS)
@pytest.mark.parametrize("kappa", [0.5, 20.0, 1e5])
def test_the_likelihood_never_falls(family, assignments, concentration, kappa):
    """For more components than there are, too."""
    _, x = planted(family, n=50, kappa=kappa, d=4)
    for seed, k in enumerate((2, 3, 6)):
        found = fit(
            x,
            k,
            family,
            assignments=assignments,
            concentration=concentration,
            generator=generator(seed),
            tolerance=0.0,
            max_iterations=40,
        )
        history = found.log_likelihoods
        assert (history.diff() >= -1e-10 * (1 + history[1:].abs())).all()


@given(
    d=st.integers(2, 6),
    n=st.integers(1, 30),
    data=st.data(),
    family=st.sampled_from(FAMILIES),
    options=st.sampled_from(OPTIONS),
    seed=st.integers(0, 2**20),
)
@settings(max_examples=60, deadline=None)
def test_any_data(d, n, data, family, options, seed):
    """Few samples, equal ones, any weights: finite parameters, and a likelihood that does not fall,
    but for rounding where a component shrinks to equal samples."""
    k = data.draw(st.integers(1, n))
    g = generator(seed)
    x = unit(torch.randn(n, d, generator=g, dtype=torch.float64))
    x = x[torch.randint(0, n, (n,), generator=g)]
    w = torch.rand(n, generator=g, dtype=torch.float64) + 0.01
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = fit_mixture(
            x,
            k,
            family,
            weights=w,
            assignments=options[0],
            concentration=options[1],
            generator=g,
            max_iterations=15,
        )
    history, law = found.log_likelihoods, found.mixture.component_distribution
    if not any("shrunk" in str(warning.message) for warning in caught):
        assert (history.diff() >= -1e-6 * (1 + history[1:].abs())).all()
    assert law.loc.isfinite().all()
    assert law.concentration.isfinite().all()
    assert math.isfinite(found.bic)


@each_family
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_planted_components_are_found(family, dtype):
    """Within 5 standard errors of fits to the components' own samples, about 1/sqrt(n kappa)."""
    loc, x = planted(family, n=400, d=8, k=4, kappa=60.0, dtype=dtype)
    found = fit_mixture(x, 4, family, n_init=3, generator=generator())
    law = found.mixture.component_distribution
    rows, columns = scipy.optimize.linear_sum_assignment(-(loc @ law.loc.T).numpy())
    assert found.converged
    angle = (loc[rows] - law.loc[columns]).norm(dim=-1)
    assert (angle < 5 * math.sqrt(7 / (400 * 60))).all()
    probs = found.mixture.mixture_distribution.probs
    assert (probs - 0.25).abs().max() < 0.02
    assert law.loc.dtype == law.concentration.dtype == probs.dtype == dtype


@each_family
def test_one_component_is_a_fit(family):
    _, x = planted(family)
    w = torch.rand(len(x), generator=generator(), dtype=torch.float64)
    found = fit_mixture(x, 1, family, weights=w, tolerance=1e-14)
    one = family.fit(x, w)
    law = found.mixture.component_distribution
    torch.testing.assert_close(law.loc[0], one.loc, rtol=0, atol=1e-9)
    torch.testing.assert_close(law.concentration[0], one.concentration, rtol=1e-8, atol=0)
    expected = float((w * one.log_prob(x)).sum())
    assert math.isclose(found.log_likelihood, expected, rel_tol=1e-9)


@each_family
@pytest.mark.parametrize("assignments", ["soft", "hard"])
def test_what_is_returned(family, assignments):
    _, x = planted(family, kappa=5.0)
    w = torch.rand(len(x), generator=generator(), dtype=torch.float64)
    found = fit(x, 4, family, weights=w, assignments=assignments)
    pi, law = found.mixture.mixture_distribution.probs, found.mixture.component_distribution
    joint = pi.log() + law.log_prob(x[:, None])
    torch.testing.assert_close(found.responsibilities(x), joint.softmax(1), rtol=1e-7, atol=1e-9)
    assert torch.equal(found.labels, joint.argmax(1))
    total = float((w * found.mixture.log_prob(x)).sum())
    assert math.isclose(found.log_likelihood, total, rel_tol=1e-9)
    objective = joint.logsumexp(1) if assignments == "soft" else joint.amax(1)
    torch.testing.assert_close(found.log_likelihoods[-1], (w * objective).sum())
    assert found.mixture.sample((5,)).shape == (5, 3)


def test_repr_fits_on_a_line():
    found = fit_mixture(unit(torch.randn(500, 4, generator=generator())), 3, generator=generator())
    shown = repr(found)
    assert re.fullmatch(r"FittedMixture\(3 x VonMisesFisher, d=4, n=500, .*converged=True\)", shown)
    assert f"bic={found.bic:.6g}" in shown
    assert len(shown) < 130


@pytest.mark.parametrize(("concentration", "parameters"), [("free", 2 + 3 * 4 + 3), ("shared", 15)])
def test_bic(concentration, parameters):
    _, x = planted(d=5)
    found = fit_mixture(x, 3, concentration=concentration, generator=generator())
    assert found.n_parameters == parameters
    assert found.bic == parameters * math.log(len(x)) - 2 * found.log_likelihood
    kappa = found.mixture.component_distribution.concentration
    assert (kappa.unique().numel() == 1) == (concentration == "shared")


@each_family
def test_weights_are_repetitions(family):
    _, x = planted(family, n=40)
    counts = torch.randint(0, 3, (len(x),), generator=generator())
    options = {"init": x[:3], "max_iterations": 6}
    a = fit(x, 3, family, weights=counts.double(), **options)
    b = fit(x.repeat_interleave(counts, 0), 3, family, **options)
    torch.testing.assert_close(a.log_likelihoods, b.log_likelihoods, rtol=1e-9, atol=0)
    assert math.isclose(a.bic, b.bic, rel_tol=1e-9)


def test_hard_and_shared_is_spherical_k_means():
    """In the limit of a high concentration, where the weights of the components do not matter."""
    _, x = planted(n=60, d=3, k=4, kappa=100.0, seed=3)
    centres = x[:4]
    found = fit_mixture(x, 4, init=centres, assignments="hard", concentration="shared")
    for _ in range(50):
        label = (x @ centres.T).argmax(1)
        centres = unit(torch.nn.functional.one_hot(label, 4).double().T @ x)
    assert torch.equal(found.labels, label)
    torch.testing.assert_close(found.mixture.component_distribution.loc, centres)


@each_family
@pytest.mark.parametrize("concentration", ["free", "shared"])
def test_a_component_without_samples_keeps_its_place(family, concentration):
    """One start is opposite to all samples."""
    loc, x = planted(family, k=2, kappa=200.0)
    init = torch.stack([loc[0], unit(-loc.sum(0)), loc[1]])
    options = {"assignments": "hard", "concentration": concentration, "tolerance": 1e-13}
    found = fit_mixture(x, 3, family, init=init, **options)
    other = fit_mixture(x, 2, family, init=loc, **options)
    probs, law = found.mixture.mixture_distribution.probs, found.mixture.component_distribution
    torch.testing.assert_close(law.loc[1], init[1])
    assert probs[1] == 0
    assert law.concentration.isfinite().all()
    keep = torch.tensor([0, 2])
    torch.testing.assert_close(law.loc[keep], other.mixture.component_distribution.loc)
    assert (found.labels != 1).all()


@each_family
def test_a_component_that_shrinks_is_told_and_avoided(family):
    _, x = planted(family, k=1, n=60, kappa=3.0, d=4)
    x = torch.cat([x, -x[:1].expand(5, -1)])
    with pytest.warns(RuntimeWarning, match="shrunk to equal samples.*'shared'"):
        fit_mixture(x, 2, family, init=torch.stack([x[0], -x[0]]))
    fit_mixture(x, 2, family, concentration="shared", generator=generator())


def test_bounded_iterations_warn():
    _, x = planted(kappa=2.0)
    with pytest.warns(RuntimeWarning, match=r"in 3 iterations the gain .* did not fall to 1e-09"):
        found = fit_mixture(x, 4, max_iterations=3, tolerance=1e-9, generator=generator())
    assert not found.converged
    assert found.log_likelihoods.shape == (4,)


def test_the_best_of_several_starts():
    _, x = planted(k=6, kappa=30.0, seed=5)
    g = generator(1)
    single = [fit(x, 6, generator=g).log_likelihoods[-1] for _ in range(6)]
    assert len(set(single)) > 1
    best = fit(x, 6, n_init=6, generator=generator(1)).log_likelihoods[-1]
    assert best == max(single)


def test_the_generator_is_the_only_source_of_randomness():
    _, x = planted()
    state = torch.get_rng_state()
    a, b = fit(x, 5), fit(x, 5)
    assert torch.equal(a.log_likelihoods, b.log_likelihoods)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision(dtype):
    _, x = planted(d=16, kappa=50.0)
    init = x[:3]
    found = fit_mixture(x.to(dtype), 3, init=init)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = fit_mixture(x.to(dtype), 3, init=init)
    assert found.mixture.component_distribution.loc.dtype == torch.float32
    exact = fit_mixture(x.to(dtype).double(), 3, init=init, validate_args=False)
    loc = exact.mixture.component_distribution.loc
    torch.testing.assert_close(found.mixture.component_distribution.loc.double(), loc, **CLOSE)
    assert torch.equal(cast.log_likelihoods, found.log_likelihoods)


CLOSE = {"rtol": 0, "atol": 1e-6}


def test_a_graph_is_left_alone():
    _, x = planted()
    found = fit_mixture(x.requires_grad_(), 3, generator=generator())
    assert not found.mixture.component_distribution.loc.requires_grad
    assert not found.responsibilities(x).requires_grad


@each_family
def test_memory_is_that_of_the_samples(family):
    """No tensor is larger than the samples, or the responsibilities, in their dtype."""
    n, d, k = 40_000, 16, 16
    _, x = planted(family, n=n // 8, d=d, k=8, dtype=torch.float32)
    with Largest() as largest:
        found = fit(x, k, family, max_iterations=2)
        found.responsibilities(x)
    assert largest.numbers <= n * max(d, k) / 2


@pytest.mark.parametrize("spread", [1.0, 1e-5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_seeds_are_in_different_clusters(spread, dtype):
    """20 clusters whose distances are 200 times their size, for any spread of their centres."""
    g = generator()
    centres = torch.randn(20, 16, generator=g, dtype=torch.float64)
    x = centres.repeat_interleave(30, 0)
    x = x + 0.005 * torch.randn(x.shape, generator=g, dtype=torch.float64)
    x = unit(torch.eye(16, dtype=torch.float64)[0] + spread * x).to(dtype)
    chosen = seeds(x, None, 20, g)
    cluster = (chosen[:, None] - x).norm(dim=-1).argmin(1) // 30
    assert cluster.unique().numel() == 20


def test_seeds_have_weight_and_may_repeat():
    x = unit(torch.randn(3, 4, generator=generator())).repeat(5, 1)
    w = torch.ones(15)
    w[0::3] = 0
    chosen = seeds(x, w, 5, generator())
    assert all((c == x[1:3]).all(-1).any() for c in chosen)
    assert len({tuple(c) for c in chosen[:2].tolist()}) == 2


GOOD = unit(torch.randn(6, 3, generator=generator()))


@pytest.mark.parametrize(
    ("x", "k", "options", "error", "match"),
    [
        ([[1.0, 0.0]], 1, {}, TypeError, "x must be a tensor"),
        (GOOD.long(), 1, {}, TypeError, "floating-point"),
        (GOOD[0], 1, {}, ValueError, r"shape \(N, d\).*got \(3,\)"),
        (GOOD[:0], 1, {}, ValueError, "N >= 1"),
        (GOOD[:, :1], 1, {}, ValueError, "d >= 2"),
        (GOOD, 0, {}, ValueError, "n_components must be at least 1, got 0"),
        (GOOD, 7, {}, ValueError, "at most the number of samples, 6, got 7"),
        (GOOD, 2.0, {}, TypeError, "n_components must be an int"),
        (GOOD, True, {}, TypeError, "n_components must be an int"),
        (
            GOOD * torch.tensor([1, 1, 2, 1, 1, 1])[:, None],
            2,
            {},
            ValueError,
            "index 2, has the length 2",
        ),
        (GOOD * torch.nan, 2, {}, ValueError, "6 of 6 are not; .* length nan"),
        (GOOD, 2, {"weights": [1.0]}, TypeError, "weights must be a tensor"),
        (GOOD, 2, {"weights": torch.ones(5)}, ValueError, r"weights must have shape \(6,\)"),
        (GOOD, 2, {"weights": -torch.ones(6)}, ValueError, "non-negative"),
        (GOOD, 2, {"weights": torch.eye(6)[0]}, ValueError, "that have weight, 1, got 2"),
        (GOOD, 2, {"init": GOOD}, ValueError, r"init must have shape .*\(2, 3\), got \(6, 3\)"),
        (GOOD, 2, {"init": 2 * GOOD[:2]}, ValueError, "init must be unit vectors"),
        (GOOD, 2, {"init": GOOD[:2], "n_init": 2}, ValueError, "n_init must be 1"),
        (GOOD, 2, {"n_init": 0}, ValueError, "n_init must be at least 1"),
        (GOOD, 2, {"max_iterations": -1}, ValueError, "max_iterations must be at least 0"),
        (GOOD, 2, {"assignments": "firm"}, ValueError, "assignments must be one of"),
        (GOOD, 2, {"concentration": "tied"}, ValueError, "concentration must be one of"),
        (GOOD, 2, {"family": "vmf"}, TypeError, "family must be a distribution"),
        (GOOD, 2, {"tolerance": math.nan}, ValueError, "tolerance must not be NaN"),
        (GOOD, 2, {"tolerance": "low"}, TypeError, "tolerance must be a number"),
        (
            GOOD,
            2,
            {"weights": torch.full((6,), 1e300, dtype=torch.float64)},
            ValueError,
            "finite in",
        ),
        (GOOD, 2, {"weights": torch.zeros(6), "validate_args": False}, ValueError, "weight, 0"),
    ],
)
def test_bad_input(x, k, options, error, match):
    with pytest.raises(error, match=match):
        fit_mixture(x, k, **options)


@pytest.mark.parametrize(
    ("x", "error", "match"),
    [
        (GOOD[:, :2], ValueError, r"\(N, 3\), got \(6, 2\)"),
        (GOOD.tolist(), TypeError, "x must be a tensor"),
    ],
)
def test_bad_input_of_responsibilities(x, error, match):
    found = fit(GOOD, 2, concentration="shared")
    with pytest.raises(error, match=match):
        found.responsibilities(x)


@each_family
@pytest.mark.parametrize("concentration", ["free", "shared"])
@pytest.mark.parametrize("where", ["x", "weights"])
def test_unchecked_nan_makes_nan(family, concentration, where):
    _, x = planted(family, n=20)
    w = torch.ones(len(x), dtype=torch.float64)
    (x if where == "x" else w)[3] = math.nan
    options = {"weights": w, "concentration": concentration, "validate_args": False}
    found = fit(x, 3, family, **options)
    law = found.mixture.component_distribution
    assert found.mixture.mixture_distribution.probs.isnan().all()
    assert law.concentration.isnan().all()
    assert found.mixture.log_prob(x).isnan().all()
    assert math.isnan(found.bic)
    assert not found.converged


def test_numpy_integers_and_no_samples():
    found = fit(GOOD, np.int64(2), concentration="shared")
    assert found.responsibilities(GOOD[:0]).shape == (0, 2)
