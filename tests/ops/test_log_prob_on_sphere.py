"""log_prob with validation, by kernels that check values as they read them."""

from __future__ import annotations

import itertools
import math
from unittest import mock

import pytest
import torch
from cases import (
    each_concentrated,
    each_float,
    ignores_warnings_of_torch,
    needs_kernels,
    path,
    unit,
)

from powerspherical_ext import _kernels, constraints, ops
from powerspherical_ext.families import FAMILIES

both_paths = pytest.mark.usefixtures(path.__name__)
pytestmark = ignores_warnings_of_torch

# The shapes of loc and of value. Each batch has rows on several threads, or in several tiles.
SHAPES = {
    "one": ((5,), (5,)),
    "rows": ((300, 3), (300, 3)),
    "long rows": ((70, 2048), (70, 2048)),
    "samples": ((2, 70, 17), (4, 2, 70, 17)),
    "samples of one law": ((5,), (1000, 5)),
    "values under several laws": ((6, 5), (200, 1, 5)),
    "a value under several laws": ((70, 5), (5,)),
    "no rows": ((0, 5), (0, 5)),
}
each_shape = pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)


def law_and_value(family, shapes, dtype, validate_args):
    loc, value = (unit(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes))
    kappa = family.at(torch.full(loc.shape[:-1], 2.0, dtype=dtype))
    leaves = [x.requires_grad_() for x in (loc, kappa, value)]
    return family.make(loc, kappa, validate_args=validate_args), value, leaves


@needs_kernels
@each_concentrated
@each_float
@each_shape
def test_validation_changes_no_bit(family, dtype, shapes):
    results = []
    for validate_args in (False, True):
        p, value, leaves = law_and_value(family, shapes, dtype, validate_args)
        log_p = p.log_prob(value)
        grads = torch.autograd.grad(log_p.sum(), leaves)
        with torch.no_grad():
            results.append((log_p, p.log_prob(value), *grads))
    for off, on in zip(*results, strict=True):
        assert torch.equal(off, on)


@both_paths
@each_concentrated
@each_shape
def test_one_value_off_the_sphere_is_found(family, shapes):
    """At either end and in the middle of a batch, whether or not a gradient is wanted."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        p, value, _ = law_and_value(family, shapes, dtype, True)
        rows = value.detach().reshape(-1, value.shape[-1])
        for place, factor in ((0, 1.1), (0.5, math.nan), (1, 0.0)):
            if not len(rows):
                break
            changed = rows.clone()
            changed[round(place * (len(rows) - 1))] *= factor
            changed = changed.view(value.shape)
            for x in (changed, changed.clone().requires_grad_()):
                with pytest.raises(ValueError, match="value must be unit vectors"):
                    p.log_prob(x)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("d", [2, 15, 16, 300, 3000])
def test_it_finds_what_the_constraint_finds(dtype, d):
    """Its sums of chords give the length of a value, also where x is near mu or -mu, and loc is as
    long as the constraint allows."""
    x = unit(8, d)
    tolerance = constraints.sphere.tolerance(x.to(dtype))
    locs = [unit(8, d, seed=1), x, -x]
    wrong = [-1.5, -1.2, 1.2, 1.5, 1e3, -1 / tolerance, math.nan, math.inf]
    found = []
    for loc, stretched in itertools.product(locs, (-0.8, 0.0, 0.8)):
        loc = (loc * (1 + stretched * tolerance)).to(dtype)
        for factor in (-0.8, -0.5, 0.0, 0.5, 0.8, *wrong):
            value = x.clone()
            value[5] *= 1 + factor * tolerance
            value = value.to(dtype)
            is_valid = bool(constraints.sphere.check(value).all())
            kappa = torch.ones(8, dtype=dtype)
            result = ops.log_prob_on_sphere(value, loc, kappa, FAMILIES[0], tolerance)
            assert (result is not None) == is_valid
            found.append(is_valid)
    assert 0 < sum(found) < len(found)


@needs_kernels
@each_concentrated
@pytest.mark.parametrize("grad", [False, True])
def test_values_are_checked_by_the_kernel_of_log_prob(family, grad):
    """They are read once."""
    for name, (loc, value) in SHAPES.items():
        p, x, _ = law_and_value(family, (loc, value), torch.float32, True)
        with (
            torch.set_grad_enabled(grad),
            mock.patch.object(constraints, "_on_sphere", wraps=constraints._on_sphere) as check,
        ):
            p.log_prob(x)
        assert not check.called, name


@each_concentrated
def test_validation_in_compiled_programs(family):
    """It breaks the graph, as that of torch's own distributions does where it is asked for."""

    @torch.compile(backend="eager")
    def log_p(loc, kappa, x):
        return family.make(loc, kappa, validate_args=True).log_prob(x) + 1

    loc, kappa, x = unit(4, 3), family.at(torch.ones(4).double()), unit(4, 3, seed=1)
    expected = family.make(loc, kappa).log_prob(x) + 1
    torch.testing.assert_close(log_p(loc, kappa, x), expected)
    with pytest.raises(ValueError, match="value must be unit"):
        log_p(loc, kappa, 2 * x)
    with pytest.raises(ValueError, match="loc must be unit"):
        log_p(2 * loc, kappa, x)


@both_paths
@each_concentrated
def test_within_transforms_validation_changes_no_value(family):
    loc, x, kappa = unit(4, 3), unit(4, 3, seed=1), family.at(torch.ones(4).double())

    def log_p(loc, kappa, x, validate_args=True):
        return family.make(loc, kappa, validate_args=validate_args).log_prob(x)

    expected = log_p(loc, kappa, x, validate_args=False)
    torch.testing.assert_close(torch.func.vmap(log_p)(loc, kappa, x), expected)
    value, tangent = torch.func.jvp(lambda x: log_p(loc, kappa, x), (x,), (loc,))
    torch.testing.assert_close(value, expected)
    assert tangent.isfinite().all()
    with pytest.raises(ValueError, match="value must be unit"):
        torch.func.jvp(lambda x: log_p(loc, kappa, x), (2 * x,), (loc,))


def test_no_kernel_checks_where_python_cannot_read_the_answer(monkeypatch):
    """Under a transform, in a program that is traced, and without kernels."""
    x, kappa = unit(4, 3), torch.ones(4).double()
    answers = []

    def ask(x):
        answers.append(ops.log_prob_on_sphere(x, x, kappa, FAMILIES[0], 1e-3))
        return x.sum()

    torch.func.grad(ask)(x)
    torch.fx.experimental.proxy_tensor.make_fx(ask)(x)
    monkeypatch.setattr(_kernels, "CPU_KERNELS", False)
    ask(x)
    assert answers == [None] * 3
