"""Parameters, support, and what is said of bad input, for every row of the table in cases.py."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from cases import close, each_case, each_concentrated, each_family, unit
from torch.distributions import Distribution

from powerspherical_ext import HypersphericalUniform, PowerSpherical, constraints

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


# Bad input: what was wrong, what was wanted, what came

E1 = torch.tensor([1.0, 0.0, 0.0])
# DOMAIN stands for the constraint of the concentration, and 0.5 is in every domain.
BAD_PARAMETERS = {
    "loc of a wrong length": ((2 * E1, 0.5), ValueError, r"loc .* Sphere\(\)[\s\S]*2\."),
    "zero loc": ((0 * E1, 0.5), ValueError, r"loc .* Sphere\(\)"),
    "NaN loc": ((E1 * float("nan"), 0.5), ValueError, r"loc .* Sphere\(\)[\s\S]*nan"),
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
