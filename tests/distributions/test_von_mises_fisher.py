"""What is particular to VonMisesFisher: products, peers, and divergences from another family."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats
import torch
from cases import at_distance, close, each_float, unit
from torch.autograd import gradcheck
from torch.distributions import VonMises, kl_divergence

from powerspherical_ext import HypersphericalUniform, PowerSpherical, VonMisesFisher
from powerspherical_ext.distributions import RotationallySymmetric

# Products


@each_float
@pytest.mark.parametrize("d", [2, 3, 17])
def test_product_is_the_normalised_product_of_densities(d, dtype):
    """log p - sum_j log p_j is the same at every x, for p a density: batches broadcast."""
    kappas = torch.tensor([[0.0], [1.0], [30.0]], dtype=dtype)
    experts = [
        VonMisesFisher(unit(3, 4, d, dtype=dtype, seed=1), kappas),
        VonMisesFisher(unit(4, d, dtype=dtype, seed=2), 7.0),
        VonMisesFisher(unit(d, dtype=dtype, seed=3), 2.0),
    ]
    p = VonMisesFisher.product(*experts)
    assert p.batch_shape == (3, 4)
    assert p.concentration.dtype == dtype
    x = unit(50, 1, 1, d, dtype=dtype, seed=4)
    constant = p.log_prob(x) - sum(q.log_prob(x) for q in experts)
    size = 100 * torch.finfo(dtype).eps
    close(constant, constant[:1].expand(50, 3, 4), rtol=size, atol=size)
    close(VonMisesFisher.product(p).loc, p.loc)
    first, *others = experts
    close(first.product(*others).concentration, p.concentration, rtol=0, atol=0)


def test_product_of_opposites_is_uniform():
    loc = unit(5).requires_grad_()
    p = VonMisesFisher.product(VonMisesFisher(loc, 3.0), VonMisesFisher(-loc, 3.0))
    assert p.concentration == 0
    close(p.loc, loc)
    close(p.entropy(), HypersphericalUniform(5, dtype=torch.float64).entropy())
    p.log_prob(unit(5, seed=1)).backward()
    assert loc.grad.isfinite().all()


def test_product_beyond_the_domain_is_refused():
    p = VonMisesFisher(unit(3), 1e15)
    with pytest.raises(ValueError, match="concentration"):
        VonMisesFisher.product(p, p)
    q = VonMisesFisher(unit(3), 1e15, validate_args=False)
    assert VonMisesFisher.product(q, q).log_prob(q.loc).isnan()


def test_product_in_float32():
    """Of experts that nearly cancel, against float64 at the same parameters."""
    locs = unit(2, 64).float()
    locs = torch.stack([locs[0], 1e-3 * locs[1] - locs[0]])
    single, double = (
        VonMisesFisher.product(*(VonMisesFisher(m.to(x), 1e4, validate_args=False) for m in locs))
        for x in (torch.float32, torch.float64)
    )
    close(single.concentration.double(), double.concentration, rtol=1e-7, atol=0.0)
    close(single.loc.double(), double.loc, rtol=0.0, atol=5e-8)


def test_gradcheck_of_product():
    locs, kappas = unit(2, 3, 4).requires_grad_(), torch.tensor([2.0, 5.0]).double()

    def product(locs, kappas):
        experts = (
            VonMisesFisher(m, k, validate_args=False) for m, k in zip(locs, kappas, strict=True)
        )
        p = VonMisesFisher.product(*experts)
        return p.loc, p.concentration

    assert gradcheck(product, (locs, kappas.requires_grad_()))


def test_bad_products():
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        VonMisesFisher.product()
    with pytest.raises(ValueError, match=r"same sphere.*\(3,\), \(4,\)"):
        VonMisesFisher.product(VonMisesFisher(unit(3), 1.0), VonMisesFisher(unit(4), 1.0))


# Peers, where they are finite


@pytest.mark.parametrize("d", [2, 3, 16, 64])
@pytest.mark.parametrize("kappa", [1e-2, 1.0, 50.0, 1e4])
def test_scipy(d, kappa):
    mu, x = unit(d), unit(30, d, seed=1)
    peer = scipy.stats.vonmises_fisher(mu.numpy(), kappa)
    p = VonMisesFisher(mu, kappa)
    expected = peer.logpdf(x.numpy())
    keep = np.isfinite(expected)
    assert keep.all() or d == 64
    np.testing.assert_allclose(
        p.log_prob(x).numpy()[keep], expected[keep], rtol=1e-11, atol=1e-13 * (1 + kappa)
    )
    if np.isfinite(peer.entropy()):
        assert p.entropy().item() == pytest.approx(peer.entropy(), rel=1e-11, abs=1e-11 * kappa)


@pytest.mark.parametrize("kappa", [1e-2, 1.0, 50.0, 1e4])
def test_von_mises_of_torch(kappa):
    """On the circle, to the accuracy of the polynomials that torch uses for I_0, and in float64."""
    angle, centre = torch.linspace(-3, 3, 20, dtype=torch.float64), 0.4

    def point(a):
        return torch.stack([torch.cos(a), torch.sin(a)], -1)

    mean = torch.tensor(centre, dtype=torch.float64)
    expected = VonMises(mean, torch.tensor(kappa).double()).log_prob(angle)
    actual = VonMisesFisher(point(mean), kappa).log_prob(point(angle))
    close(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("d", [2, 3, 5])
def test_tensorflow_probability(d):
    jax = pytest.importorskip("jax")
    tfp = pytest.importorskip("tensorflow_probability.substrates.jax")
    mu, x, kappa = unit(d), unit(20, d, seed=1), 3.0
    p = VonMisesFisher(mu, kappa)
    with jax.enable_x64(True):
        peer = tfp.distributions.VonMisesFisher(mu.numpy(), np.float64(kappa))
        expected = np.asarray(peer.log_prob(x.numpy()))
    assert expected.dtype == np.float64
    np.testing.assert_allclose(p.log_prob(x).numpy(), expected, rtol=1e-10)


# Divergences


def divergence_from(p_class, q_class):
    def divergence(mu_p, kappa_p, mu_q, kappa_q):
        p = p_class(mu_p, kappa_p, validate_args=False)
        return kl_divergence(p, q_class(mu_q, kappa_q, validate_args=False))

    return divergence


PAIRS = [(VonMisesFisher, PowerSpherical), (PowerSpherical, VonMisesFisher)]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0].__name__}-first")
@pytest.mark.parametrize("d", [2, 8])
def test_gradcheck_of_mixed_divergences(pair, d):
    mu = unit(d)
    near = at_distance(mu, torch.tensor(0.1, dtype=torch.float64))
    kappa_p, kappa_q = torch.tensor([12.0, 3.0], dtype=torch.float64)
    inputs = [x.requires_grad_() for x in (mu, kappa_p, near, kappa_q)]
    assert gradcheck(divergence_from(*pair), inputs)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0].__name__}-first")
def test_mixed_divergences_of_large_batches(pair):
    """The rows of a batch are those of single calls, and of a batch above the size of a chunk."""
    n = 300
    mu_p, mu_q = unit(n, 3), unit(n, 3, seed=1)
    kappa = torch.logspace(-2, 4, n, dtype=torch.float64)
    divergence = divergence_from(*pair)
    together = divergence(mu_p, kappa, mu_q, kappa.flip(0))
    rows = [0, 255, 256, 299]
    alone = torch.stack([divergence(mu_p[i], kappa[i], mu_q[i], kappa.flip(0)[i]) for i in rows])
    close(together[rows], alone, rtol=1e-12, atol=0)
    assert (together > 0).all()
    folded = divergence(
        mu_p.view(3, 100, 3), kappa.view(3, 100), mu_q.view(3, 100, 3), kappa.flip(0).view(3, 100)
    )
    close(folded.flatten(), together, rtol=1e-12, atol=0)


def test_subclasses_inherit_divergences():
    class Narrow(VonMisesFisher):
        pass

    class Broad(PowerSpherical):
        pass

    mu = unit(4)
    p, q = Narrow(mu, 5.0), Broad(mu, 2.0)
    close(kl_divergence(p, q), kl_divergence(VonMisesFisher(mu, 5.0), PowerSpherical(mu, 2.0)))
    close(kl_divergence(q, p), kl_divergence(PowerSpherical(mu, 2.0), VonMisesFisher(mu, 5.0)))
    close(kl_divergence(p, p), torch.zeros((), dtype=torch.float64))
    assert kl_divergence(p, HypersphericalUniform(4)) > 0
    assert issubclass(Narrow, RotationallySymmetric)
    assert type(p.expand((2,))) is Narrow
    assert isinstance(Narrow.fit(unit(9, 4)), Narrow)


def test_an_unknown_family_has_no_divergence(monkeypatch):
    mu = unit(3)
    unknown = dataclasses.replace(VonMisesFisher._family, name="unknown", kl={})
    monkeypatch.setattr(VonMisesFisher, "_family", unknown)
    with pytest.raises(NotImplementedError, match="from unknown to power_spherical is not known"):
        kl_divergence(VonMisesFisher(mu, 1.0), PowerSpherical(mu, 1.0))
    with pytest.raises(NotImplementedError, match="from power_spherical to unknown is not known"):
        kl_divergence(PowerSpherical(mu, 1.0), VonMisesFisher(mu, 1.0))


def test_divergence_from_uniform_is_the_limit_of_small_concentration():
    mu = unit(6)
    for kappa in (0.0, 3.0, 1e3):
        q = VonMisesFisher(mu, kappa)
        uniform = HypersphericalUniform(6, dtype=torch.float64)
        expected = -uniform.entropy() - q.log_normalizer()  # E[t] = 0 under the uniform
        close(kl_divergence(uniform, q), expected, rtol=1e-9, atol=1e-14)
        assert math.isfinite(kl_divergence(uniform, q))
