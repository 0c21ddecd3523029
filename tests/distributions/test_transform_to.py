"""transform_to and biject_to of the constraints of all distributions."""

from __future__ import annotations

import math

import pytest
import torch
from cases import CONCENTRATED, close, each_concentrated, each_family, unit
from torch.distributions import (
    Independent,
    Normal,
    TransformedDistribution,
    biject_to,
    transform_to,
)
from torch.distributions.constraints import half_open_interval

from powerspherical_ext import PowerSpherical, constraints
from powerspherical_ext.distributions.transform_to import into_domain

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def domain(end):
    """[0, end), as a family with that bound declares it."""
    constraint = type(constraints.finite_nonnegative)()
    constraint.upper_bound = end
    constraint.check = lambda value: (value >= 0) & (value < end)
    return constraint


DOMAINS = {
    **{str(family): family.declared.concentration for family in CONCENTRATED},
    **{f"{end:g}": domain(end) for end in (0.5, 100.0, 1e15, math.inf)},
    "torch's": half_open_interval(0.0, 3.0),
}
each_domain = pytest.mark.parametrize("name", DOMAINS)


def reals(dtype):
    ends = [-1e30, -1e4, -100, -3, -1, 0, 1, 3, 17, 40, 1e4, 1e16, 1e30]
    x = torch.tensor(ends, dtype=torch.float64).to(dtype)
    return x.clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max).requires_grad_()


@each_domain
@each_dtype
def test_concentrations_are_in_their_domain(name, dtype):
    constraint, x = DOMAINS[name], reals(dtype)
    for registry in (transform_to, biject_to):
        y = registry(constraint)(x)
        assert y.dtype == dtype
        assert constraint.check(y).all()
        assert (y > 0).all()
        (grad,) = torch.autograd.grad(y.sum(), x)
        assert grad.isfinite().all()
        assert (grad >= 0).all()
        assert (grad[3:8] > 0).all()


@each_domain
def test_inverse_and_log_determinant(name):
    transform = biject_to(DOMAINS[name])
    x = torch.tensor([-30.0, -3, -1, 0, 1, 3, 10], dtype=torch.float64, requires_grad=True)
    y = transform(x)
    close(transform.inv(y), x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    close(transform.log_abs_det_jacobian(x, y), slope.log())
    assert transform == biject_to(DOMAINS[name])
    law = TransformedDistribution(Normal(0.0, 1.0), [transform])
    assert DOMAINS[name].check(law.sample((100,))).all()
    assert law.log_prob(law.sample()).isfinite()


def test_a_wide_domain_keeps_the_scale_of_softplus():
    """A sigmoid times 1e15 would start at 5e14."""
    for end in (1e15, math.inf):
        close(transform_to(domain(end))(torch.tensor(0.0)), torch.tensor(2.0).log())
    assert into_domain(torch.tensor(0.0), 1e15, scale=10.0).item() == pytest.approx(
        10 * math.log(2)
    )


# Directions


@each_dtype
@pytest.mark.parametrize("d", [2, 3, 2048])
def test_directions(dtype, d):
    transform = transform_to(constraints.sphere)
    top = torch.finfo(dtype).max
    for size in (1.0, 30.0, 1e-30, 1e30, top):
        x = (unit(50, d) * min(size, top)).to(dtype).requires_grad_()
        if (x == 0).all():  # in float16
            continue
        y = transform(x)
        assert y.dtype == dtype
        assert constraints.sphere.check(y).all()
        (grad,) = torch.autograd.grad(y[..., 0].sum(), x)
        assert grad.isfinite().all()
    x = unit(50, d, dtype=torch.float64).requires_grad_()
    normalised = torch.nn.functional.normalize(3 * x, dim=-1)
    close(transform(3 * x), normalised)
    upstream = unit(50, d, seed=4)
    grads = (torch.autograd.grad(y, x, upstream)[0] for y in (transform(3 * x), normalised))
    close(*grads)


@each_dtype
def test_a_vector_without_a_direction(dtype):
    """It gets the first unit vector, and no gradient."""
    x = torch.zeros(2, 4, dtype=dtype)
    x[1] = torch.finfo(dtype).smallest_normal / 4
    x.requires_grad_()
    y = transform_to(constraints.sphere)(x)
    if dtype is not torch.float16:  # whose numbers are all large in float32
        assert (y == torch.eye(4, dtype=dtype)[0]).all()
    assert constraints.sphere.check(y).all()
    y.sum().backward()
    assert x.grad.isfinite().all()
    assert (x.grad[0] == 0).all()
    assert transform_to(constraints.sphere)(torch.full((4,), torch.nan, dtype=dtype)).isnan().all()


def test_no_bijection_onto_a_sphere():
    with pytest.raises(NotImplementedError, match="no smooth bijection of real vectors"):
        biject_to(constraints.sphere)
    transform = transform_to(constraints.sphere)
    assert not transform.bijective
    y = unit(3, 5)
    close(transform(transform.inv(y)), y)


# Of distributions


@each_family
def test_support(family):
    p = family.make(unit(2, 4), family.kappas[-1])
    for q in (p, Independent(p, 1)):
        x = transform_to(q.support)(torch.randn(2, 4, dtype=torch.float64))
        assert q.support.check(x).all()
        assert q.log_prob(x).isfinite().all()


@each_concentrated
def test_parameters_by_an_optimiser(family):
    """The parameters of the samples' law, from real numbers at 0."""
    torch.manual_seed(0)
    truth = family.make(unit(3), family.at(5.0))
    x = truth.sample((4000,))
    real = {"loc": torch.ones(3), "concentration": torch.zeros(())}
    real = {name: value.double().requires_grad_() for name, value in real.items()}
    optimizer = torch.optim.LBFGS(real.values(), line_search_fn="strong_wolfe", max_iter=60)

    def law():
        constraint = family.distribution.arg_constraints
        return family.distribution(
            **{name: transform_to(constraint[name])(value) for name, value in real.items()}
        )

    def step():
        optimizer.zero_grad()
        loss = -law().log_prob(x).mean()
        loss.backward()
        return loss

    optimizer.step(step)
    best = family.distribution.fit(x)
    close(law().loc, best.loc, rtol=0, atol=1e-4)
    close(law().concentration, best.concentration, rtol=1e-3, atol=0)


def test_transforms_are_values():
    loc = PowerSpherical.arg_constraints["loc"]
    assert transform_to(loc) == transform_to(loc)
    assert hash(transform_to(loc)) == hash(transform_to(loc))
    concentration = PowerSpherical.arg_constraints["concentration"]
    cached = transform_to(concentration).with_cache()
    x = torch.tensor(0.3)
    assert cached.inv(cached(x)) is x
