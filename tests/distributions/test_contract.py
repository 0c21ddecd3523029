"""What torch.distributions promises of shapes, randomness and copies, for every row of cases.py."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from cases import (
    BATCHES,
    CASES,
    CONCENTRATED,
    FAMILIES,
    POWER_SPHERICAL,
    Case,
    at_distance,
    close,
    each_case,
    each_concentrated,
    each_family,
    each_float,
    unit,
)
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, kl
from torch.distributions.utils import _sum_rightmost

import powerspherical_ext
from powerspherical_ext import HypersphericalUniform, SphericalCauchy
from powerspherical_ext.distributions import CosineMarginal, RotationallySymmetric

# Not laws on the sphere of their own: the base class, and that of t, which has a file of its own.
BASES = {RotationallySymmetric, CosineMarginal}
SAMPLE_SHAPES = [(), 3, (2,), [2], (2, 1), (0,), torch.Size([4, 2])]


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


def test_cases_cover_the_domain():
    for family in CONCENTRATED:
        concentrated = [case for case in CASES if case.family is family]
        assert {case.d for case in concentrated} >= {2, 3, 8, 64}
        assert family.kappas[0] == 0
        assert {case.kappa for case in concentrated} >= {family.kappas[0], family.kappas[-1]}
    assert Case(POWER_SPHERICAL).make().batch_shape == (2, 3)
    assert at_distance(unit(3), torch.tensor(0.5)).norm().item() == pytest.approx(1)


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


@each_family
def test_what_samples_are_asked_for(family):
    """Numbers of other libraries count; an error says what a shape and a generator are."""
    p = Case(family).make()
    for number in (np.int64(3), torch.tensor(3)):
        assert p.sample(number).shape == (3, *p.batch_shape, *p.event_shape)
    for wrong in (2.5, (2.5,), None, "3"):
        with pytest.raises(TypeError, match=r"sample_shape must be a shape such as \(2, 3\), or"):
            p.sample(wrong)
    for wrong in (0, np.random.default_rng(0)):
        with pytest.raises(TypeError, match=r"must be a torch\.Generator, got .*manual_seed\(0\)"):
            p.rsample((2,), generator=wrong)


@each_case
def test_dtypes_of_densities(case):
    """Half precision is computed and returned in float32."""
    p, dtype = case.make(), compute_dtype(case)
    assert p.mode.dtype == case.dtype
    for tensor in (p.log_prob(p.sample()), p.entropy(), kl.kl_divergence(p, case.uniform())):
        assert tensor.dtype == dtype


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


@each_concentrated
def test_expand_of_a_subclass(family):
    """As in torch: a subclass with an __init__ of its own has an expand of its own, or none."""
    parent = family.distribution

    class Named(parent):
        """Adds no parameter."""

    class Labelled(parent):
        def __init__(self, loc, concentration, label):
            super().__init__(loc, concentration)
            self.label = label

    class Expanding(Labelled):
        def expand(self, batch_shape, _instance=None):
            new = self._get_checked_instance(Expanding, _instance)
            new.label = self.label
            return super().expand(batch_shape, new)

    loc = unit(3)
    assert type(Named(loc, 0.5).expand((2,))) is Named
    with pytest.raises(NotImplementedError, match=r"Subclass Labelled .* also define a custom"):
        Labelled(loc, 0.5, "a").expand((2,))
    expanded = Expanding(loc, 0.5, "a").expand((2,))
    assert type(expanded) is Expanding
    assert expanded.label == "a"
    assert expanded.sample().shape == (2, 3)
    with pytest.raises(NotImplementedError):
        Independent(Labelled(loc.expand(2, 3), 0.5, "a"), 1).expand((4,))


@each_case
def test_repr_names_the_class_and_its_shapes(case):
    p = case.make()
    assert type(p).__name__ in repr(p)
    assert str(case.d) in repr(p)
    if len(case.batch_shape) > 1:
        assert ", ".join(map(str, case.batch_shape)) in repr(p)


def test_representations():
    loc = torch.tensor([0.0, 1.0])
    assert repr(HypersphericalUniform(3)) == "HypersphericalUniform(dim=3)"
    p = HypersphericalUniform(3, batch_shape=(4,))
    assert repr(p) == "HypersphericalUniform(dim=3, batch_shape=(4,))"
    p = SphericalCauchy(loc, 0.5)
    assert repr(p) == "SphericalCauchy(loc: torch.Size([2]), concentration: 0.5)"
    assert repr(p.marginal_t) == (
        "CosineMarginal(family: spherical_cauchy, dim: 2, concentration: 0.5)"
    )


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
    return Independent(case.uniform().expand(case.batch_shape), n)


def divergence(p, case):
    return kl.kl_divergence(p, case.uniform())


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


@pytest.mark.slow
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
    close(traced(loc, kappa / 2, -x), log_p(loc, kappa / 2, -x))


@pytest.mark.slow
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
