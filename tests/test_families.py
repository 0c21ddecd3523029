"""The list of families, its contract, and the integers that Python and C++ share."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import subprocess
from types import SimpleNamespace

import pytest
import torch
from cases import needs_kernels, unit
from compiling import CSRC
from torch.distributions import kl_divergence

from powerspherical_ext import PowerSpherical, VonMisesFisher, ops
from powerspherical_ext.families import FAMILIES, family_named

FIRST = FAMILIES[0]


def without(module, name):
    return SimpleNamespace(**{k: v for k, v in vars(module).items() if k != name})


def test_families_are_numbered_by_their_position():
    assert [family.index for family in FAMILIES] == list(range(len(FAMILIES)))
    for family in FAMILIES:
        assert family_named(family.name) is family
    assert PowerSpherical._family is family_named("power_spherical")
    assert VonMisesFisher._family is family_named("von_mises_fisher")
    with pytest.raises(ValueError, match=r"must be one of \('power_spherical', .*got 'gaussian'"):
        family_named("gaussian")


@pytest.mark.parametrize("name", ["kl_uniform_dkappa", "log_prob_ratio", "sample"])
def test_a_missing_function_is_named(name):
    with pytest.raises(TypeError, match=f"power_spherical lacks {name} of FamilyReference"):
        dataclasses.replace(FIRST, reference=without(FIRST.reference, name))


def test_a_missing_function_of_the_marginal_is_named():
    with pytest.raises(TypeError, match="power_spherical lacks reach of FamilyMarginal"):
        dataclasses.replace(FIRST, marginal=without(FIRST.marginal, "reach"))


def test_what_a_family_does_not_declare_is_not_implemented(monkeypatch):
    unknown = dataclasses.replace(FIRST, name="unknown", fit=None, kl={})
    monkeypatch.setattr(PowerSpherical, "_family", unknown)
    with pytest.raises(NotImplementedError, match=r"PowerSpherical\.fit: no maximum .* unknown"):
        PowerSpherical.fit(unit(5, 3))
    p = PowerSpherical(unit(3), 1.0)
    with pytest.raises(NotImplementedError, match="from unknown to unknown is not known"):
        kl_divergence(p, p)
    names = {family.name for family in FAMILIES}
    assert all(names.issuperset(family.kl) for family in FAMILIES)


@needs_kernels
def test_cpp_knows_the_divergences_that_a_family_declares():
    kappa, sin2 = torch.full((1,), 0.5).double(), torch.full((1,), 0.25).double()
    for p, q in itertools.product(FAMILIES, repeat=2):
        arguments = kappa, kappa, sin2, 1 - sin2, 5, p.index, q.index, 0
        if q.name in p.kl:
            assert torch.ops.powerspherical_ext.kl(*arguments).isfinite().all()
        else:
            with pytest.raises(RuntimeError, match=f"no divergence from {p.name} to {q.name}"):
                torch.ops.powerspherical_ext.kl(*arguments)


def test_the_domain_of_the_concentration_is_the_familys(monkeypatch):
    unit_interval = torch.distributions.constraints.half_open_interval(0.0, 1.0)
    narrow = dataclasses.replace(FIRST, concentration=unit_interval)

    class Narrow(PowerSpherical):
        _family = narrow

    assert Narrow(unit(3), 0.5).marginal_t.arg_constraints["concentration"] is unit_interval
    for wrong in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="concentration"):
            Narrow(unit(3), wrong)


# Against C++


@pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler")
def test_lists_bounds_and_enums_of_cpp_are_the_same():
    """By static_assert, in a source that is checked and not linked."""
    names = ", ".join(f'"{family.name}"' for family in FAMILIES)
    bounds = ", ".join(f"{family.upper_bound!r}" for family in FAMILIES)
    lines = [
        '#include "families.h"',
        '#include "kl.h"',
        '#include "scalar_function.h"',
        "#include <string_view>",
        "using namespace spherical;",
        "template <class... F> constexpr bool is_list(List<F...>) {",
        f"  constexpr std::string_view here[] = {{F::name...}}, there[] = {{{names}}};",
        f"  constexpr double ends[] = {{F::upper_bound...}}, bounds[] = {{{bounds}}};",
        "  for (int i = 0; i < List<F...>::size; ++i)",
        "    if (here[i] != there[i] || ends[i] != bounds[i]) return false;",
        f"  return List<F...>::size == {len(FAMILIES)};",
        "}",
        'static_assert(is_list(Families()), "families");',
    ]
    for enum in (ops.ScalarFunction, ops.KlFunction):
        for member in enum:
            value = f"int64_t({enum.__name__}::{member.name.lower()})"
            lines.append(f'static_assert({value} == {int(member)}, "{member.name}");')
        count = f"int64_t({enum.__name__}::count)"
        lines.append(f'static_assert({count} == {len(enum)}, "{enum.__name__}");')
    command = ["c++", "-std=c++17", "-fsyntax-only", f"-I{CSRC}", "-xc++", "-"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_kernels
def test_bits_of_needs_grad_select_the_gradients():
    raw, kappa = torch.ops.powerspherical_ext, torch.ones(3)
    x, mu = unit(3, 4, dtype=torch.float32), unit(4, dtype=torch.float32, seed=1)
    bits = ops.NeedsGrad
    for one in (bits.VALUE, bits.MU, bits.KAPPA):
        grads = raw.log_prob_backward(kappa, x, mu, kappa, 0, int(one))
        assert [g.numel() > 0 for g in grads] == [one is b for b in list(bits)[:3]]
        pred, target = x.flip(0), x
        _, *grads = raw.vi_simsiam_loss(kappa, pred, target, kappa, 0, 0.0, int(one))
        assert [g.numel() > 0 for g in grads] == [
            one is b for b in (bits.MU, bits.VALUE, bits.KAPPA)
        ]
    assert raw.log_prob_backward(kappa, x, mu, kappa, 0, int(bits.MU))[1].shape == (3, 4)
    assert raw.log_prob_backward(kappa, x, mu, kappa, 0, int(bits.MU | bits.SUMMED))[1].shape == (
        4,
    )
