"""Parameters, support, and what is said of bad input, for every row of the table in cases.py."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
import torch
from cases import close, each_case, each_concentrated, each_family, needs_kernels, unit
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Distribution

from powerspherical_ext import HypersphericalUniform, PowerSpherical, _kernels, constraints

E1 = torch.tensor([1.0, 0.0, 0.0])

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


# The checks by kernels and by plain torch are the same

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SPECIAL = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, 1e-310, 3e38, 65504.0, 1.0]
LAYOUTS = {
    "contiguous": lambda x: x,
    "columns": lambda x: x.mT.contiguous().mT,
    "steps": lambda x: torch.stack([x, x * math.nan], -1)[..., 0],
    "rows from behind": lambda x: x.flip(0).contiguous().flip(0),
    "expanded": lambda x: x[:1].expand(x.shape),
    "slice": lambda x: torch.cat([x * math.nan, x, x * math.nan], -1)[
        ..., x.shape[-1] : -x.shape[-1]
    ],
    "zero rows": lambda x: x[:0],
    "one row": lambda x: x[0],
    "dimensions": lambda x: x.expand(2, 1, 3, *x.shape).transpose(0, 2),
    "many dimensions": lambda x: x[0].expand(*(2,) * 10, x.shape[-1]).contiguous(),
    "negated": lambda x: torch._neg_view(-x),
}


def both_checks(constraint, x):
    """What the kernel says, and plain torch."""
    kernel = "_on_sphere" if constraint is constraints.sphere else "_in_interval"
    with mock.patch.object(constraints, kernel, wraps=getattr(constraints, kernel)) as called:
        fast = constraint.check(x)
        assert called.called
    with mock.patch.object(_kernels, "CPU_KERNELS", False):
        plain = constraint.check(x)
    assert fast.dtype == plain.dtype == torch.bool
    assert fast.shape == plain.shape
    return fast, plain


@needs_kernels
@settings(max_examples=150)
@given(
    st.sampled_from(DTYPES),
    st.sampled_from([2, 3, 7, 8, 16, 65, 255, 256, 700, 5000]),
    st.sampled_from([1, 2, 70]),
    st.sampled_from(list(LAYOUTS)),
    st.integers(0, 99),
)
def test_kernel_and_plain_torch_agree_on_unit_vectors(dtype, d, n, layout, seed):
    """Both are right, but within a few roundings of the tolerance, on lengths from far below to far
    above 1 and on vectors with a special entry."""
    generator = torch.Generator().manual_seed(seed)
    x = unit(n, d, seed=seed)
    tolerance = constraints.sphere.tolerance(x.to(dtype))
    factors = torch.tensor([0, 0.5, 0.8, 0.99, 1.01, 1.2, 1.5, 1e3, 1e30])
    chosen = torch.randint(len(factors), (n, 1), generator=generator)
    signs = torch.randint(2, (n, 1), generator=generator) * 2 - 1
    x = (x * (1 + signs * factors.double()[chosen] * tolerance)).to(dtype)
    special = torch.rand(n, generator=generator) < 0.2
    entries = torch.tensor(SPECIAL, dtype=torch.float64).to(dtype)
    x[special, -1] = entries[torch.randint(len(SPECIAL), (n,), generator=generator)][special]
    x = LAYOUTS[layout](x)
    fast, plain = both_checks(constraints.sphere, x)
    computed_in = torch.promote_types(dtype, torch.float32)
    deviation = (torch.linalg.vector_norm(x.double(), dim=-1) - 1).abs()
    rounding = (2 + d**0.5 / 8) * torch.finfo(computed_in).eps
    clear = ~((deviation - tolerance).abs() <= rounding)
    assert (fast == (deviation <= tolerance))[clear].all()
    assert (plain == (deviation <= tolerance))[clear].all()


@needs_kernels
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("end", [math.inf, constraints.UPPER_BOUND, 1.0])
def test_kernel_and_plain_torch_agree_on_concentrations(end, dtype, layout):
    """At both ends of the domain and beside them, too."""
    constraint = type(constraints.concentration)(end)
    zero, last = (torch.tensor(x, dtype=dtype) for x in (0.0, end))
    beside = [(zero, last), (zero, -last), (last, zero), (last, 2 * last)]
    edges = [zero, last, *(torch.nextafter(a, b) for a, b in beside)]
    special = torch.tensor(SPECIAL, dtype=torch.float64).to(dtype)
    x = torch.cat([torch.stack(edges), special, torch.linspace(-2, 2, 200).to(dtype)])
    fast, plain = both_checks(constraint, LAYOUTS[layout](x.view(8, -1)))
    assert torch.equal(fast, plain)


@pytest.mark.parametrize("shape", [(3, 1), (1,), (3, 0), (0, 0)])
def test_vectors_that_no_sphere_has(shape):
    """A row of one number may have length 1; a row of none has not."""
    x = torch.ones(shape)
    assert torch.equal(constraints.sphere.check(x), x.any(-1))


def test_checks_where_no_kernel_reads():
    """Integers, and tensors under a transform."""
    count = torch.tensor([-1, 0, 3])
    assert constraints.concentration.check(count).tolist() == [False, True, True]
    x = torch.stack([E1, 2 * E1])
    assert torch.func.vmap(constraints.sphere.check)(x).tolist() == [True, False]
    assert torch.func.vmap(constraints.concentration.check)(x - 1).tolist() == [
        [True, False, False],
        [True, False, False],
    ]


NUMBERS = {
    "float": 0.75,
    "integer": 0,
    "boolean": False,
    "fraction": Fraction(3, 4),
    **{
        name: getattr(np, name)(0.75)
        for name in ("float16", "float32", "float64", "longdouble", "int64", "uint8")
    },
    "bool_": np.bool_(False),
    "array": np.array(0.75),
    "array of integers": np.array(0),
    **{f"tensor, {dtype}": torch.zeros((), dtype=dtype) for dtype in (torch.int32, torch.uint8)},
    "tensor of booleans": torch.zeros(4, dtype=torch.bool),
}


@each_concentrated
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_and_integers_take_the_dtype_of_loc(family, name):
    """As numbers, integers and booleans do in torch.distributions.Normal."""
    number = NUMBERS[name]
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        p = family.make(unit(4, 3, dtype=dtype), number)
        assert p.concentration.dtype == dtype
        assert p.concentration.shape == p.batch_shape == (4,)
        assert (p.concentration == float(number if np.ndim(number) == 0 else 0)).all()
        assert p.log_prob(p.sample()).isfinite().all()


@each_concentrated
def test_dtypes_promote(family):
    p = family.make(unit(4, 3, dtype=torch.float32), family.at(torch.ones(4, dtype=torch.float64)))
    assert p.loc.dtype == p.concentration.dtype == p.sample().dtype == torch.float64
    p = family.make(unit(4, 3, dtype=torch.bfloat16), family.at(torch.ones(4)))
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


class _Anywhere(PowerSpherical):
    """A subclass with constraints of its own: the first entry is at least 1/2."""

    class _First(type(constraints.sphere)):
        def check(self, value):
            return value[..., 0] >= 0.5

        def __repr__(self):
            return "First()"

    arg_constraints = {"loc": _First(), "concentration": constraints.finite_nonnegative}  # noqa: RUF012
    support = _First()


def test_constraints_of_a_subclass_are_asked():
    p = _Anywhere(3 * E1, 1e20)
    p.log_prob(2 * E1)
    with pytest.raises(ValueError, match=r"loc .* First\(\)"):
        _Anywhere(-E1, 1.0)
    with pytest.raises(ValueError, match=r"value .*First\(\)"):
        p.log_prob(E1 / 4)


# Bad input: what was wrong, what was wanted, what came

# DOMAIN stands for the constraint of the concentration, and 0.5 is in every domain.
BAD_PARAMETERS = {
    "loc of a wrong length": (
        (2 * E1, 0.5),
        ValueError,
        r"loc must be unit .*2\.1e-06 .*length 2,.*off by 1\.",
    ),
    "zero loc": ((0 * E1, 0.5), ValueError, "loc must be unit vectors.*length 0,"),
    "NaN loc": ((E1 * float("nan"), 0.5), ValueError, "loc must be unit .*length nan"),
    "scalar loc": ((torch.tensor(1.0), 0.5), ValueError, r"loc .*\(\.\.\., d\).*got \(\)"),
    "d = 1": ((torch.ones(5, 1), 0.5), ValueError, r"loc .*d >= 2, got \(5, 1\)"),
    "d = 0": ((torch.ones(0), 0.5), ValueError, r"loc .*d >= 2, got \(0,\)"),
    "integer loc": ((E1.long(), 0.5), TypeError, r"loc .*floating-point.*int64.*loc\.float\(\)"),
    "complex loc": ((E1.cfloat(), 0.5), TypeError, "loc .*floating-point.*complex64"),
    "numpy loc": ((E1.numpy(), 0.5), TypeError, "loc must be a tensor, got ndarray"),
    "list loc": (([1.0, 0.0], 0.5), TypeError, "loc must be a tensor, got list"),
    "negative kappa": ((E1, -1.0), ValueError, r"concentration .*DOMAIN[\s\S]*-1"),
    "NaN kappa": ((E1, float("nan")), ValueError, r"concentration .*DOMAIN[\s\S]*nan"),
    "inf kappa": ((E1, float("inf")), ValueError, r"concentration .*DOMAIN[\s\S]*inf"),
    "complex kappa": ((E1, 1j), TypeError, "concentration must be .*real.* got complex"),
    "complex tensor": ((E1, torch.ones(3) * 1j), TypeError, "concentration .*real.*complex64"),
    "numpy kappa": ((E1, np.ones(3)), TypeError, "concentration must be a tensor.*ndarray"),
    "complex numpy": ((E1, np.complex64(1)), TypeError, "concentration .*real.*complex64"),
    "string kappa": ((E1, "1"), TypeError, "concentration must be a tensor.*str"),
    "huge kappa": ((E1, 10**5000), ValueError, "concentration must fit into torch.float32"),
    "wrong shape": (
        (E1.expand(2, 3), torch.zeros(5)),
        ValueError,
        r"concentration must broadcast .*\(2,\).*\(5,\)",
    ),
    "column": (
        (E1.expand(2, 3), torch.zeros(3, 1, 5)),
        ValueError,
        r"concentration must broadcast .*\(2,\).*\(3, 1, 5\)",
    ),
    "mixed devices": (
        (E1, torch.zeros((), device="meta")),
        ValueError,
        "concentration must be on the device of loc, cpu, got meta",
    ),
}


@each_concentrated
@pytest.mark.parametrize("bad", BAD_PARAMETERS)
def test_bad_parameters(family, bad):
    arguments, error, message = BAD_PARAMETERS[bad]
    message = message.replace("DOMAIN", re.escape(repr(family.declared.concentration)))
    with pytest.raises(error, match=f"{family}.*{message}|{message}") as caught:
        family.make(*arguments)
    assert family.distribution.__name__ in str(caught.value)


@each_concentrated
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_domain_ends_below_its_bound(family, dtype):
    bound = torch.tensor(family.declared.upper_bound, dtype=dtype)
    last = torch.nextafter(bound, torch.zeros_like(bound))
    assert family.make(unit(3, dtype=dtype), last).concentration == last
    number = re.escape(f"{bound.item():g}")
    with pytest.raises(ValueError, match=rf"concentration [\s\S]*{number}"):
        family.make(unit(3, dtype=dtype), bound)


BAD_VALUES = {
    "length 2": (2 * E1, ValueError, r"log_prob: value must be unit .*length 2,.*normalize\(value"),
    "zero": (0 * E1, ValueError, "value must be unit .*length 0,"),
    "NaN": (E1 * float("nan"), ValueError, "value must be unit .*length nan"),
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


@pytest.mark.parametrize("dim", [3, torch.tensor(3), torch.tensor([3]), np.int64(3), np.array(3)])
def test_dimension_of_uniform(dim):
    p = HypersphericalUniform(dim)
    assert p.event_shape == (3,)
    assert type(p.dim) is int


@each_family
def test_bad_sample_shapes(family):
    p = family.make(E1, 0.0)
    for wrong in ("ab", 1.5, (1.5,)):
        with pytest.raises(TypeError):
            p.sample(wrong)
    for wrong in (-1, (2, -3)):
        with pytest.raises((ValueError, RuntimeError)):
            p.sample(wrong)
