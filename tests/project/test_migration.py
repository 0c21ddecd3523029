"""The programs of docs/migration.md; names of other packages; code as their users write it."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import re
import warnings
from pathlib import Path

import pytest
import torch
from cases import close, each_concentrated, unit
from torch import nn
from torch.distributions import kl_divergence

import powerspherical_ext
from powerspherical_ext import HypersphericalUniform, PowerSpherical, VonMisesFisher

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"
SECTIONS = PAGE.read_text().split("\n## ")[1:]
PROGRAMS = {
    f"{section.splitlines()[0]}, {kind}": program
    for section in SECTIONS
    for kind, program in re.findall(r"\n(Before|After):\n\n```python\n(.*?)```", section, re.DOTALL)
}
# Of s-vae-pytorch a module inside, since an example of this project has the name of the package.
OTHERS = (
    *("power_spherical", "hyperspherical_vae.distributions", "jax", "tensorflow_probability"),
    *("pyro", "scipy"),
)


def test_each_package_has_two_programs():
    assert len(SECTIONS) == 5
    assert len(PROGRAMS) == 10


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.filterwarnings("ignore")  # of other packages
def test_programs(name):
    program = PROGRAMS[name]
    for library in OTHERS:
        if re.search(rf"(from|import) {re.escape(library)}\b", program):
            pytest.importorskip(library, exc_type=ImportError)
    test = doctest.DocTestParser().get_doctest(program, {}, name, str(PAGE), 0)
    report = []
    results = doctest.DocTestRunner().run(test, out=report.append)
    assert results.attempted >= 4
    assert not results.failed, "".join(report)


def test_both_programs_print_the_same_numbers():
    """But for a half that rounds either way."""
    for section in SECTIONS:
        name = section.splitlines()[0]
        before, after = (
            [float(x) for x in re.findall(r"-?\d+\.\d{4}\b", PROGRAMS[f"{name}, {kind}"])]
            for kind in ("Before", "After")
        )
        assert before
        assert before == pytest.approx(after, abs=1.01e-4)


def test_public_names_of_power_spherical():
    pytest.importorskip("power_spherical")
    import power_spherical

    page = SECTIONS[0]
    for name in vars(power_spherical):
        if name[0].isupper():
            assert f"`{name}(" in page
            if name == "MarginalTDistribution":
                with pytest.raises(ImportError, match="marginal_t"):
                    getattr(powerspherical_ext, name)
            else:
                assert getattr(powerspherical_ext, name)


def test_names_that_exist_in_other_packages_say_what_takes_their_place():
    p = PowerSpherical(torch.eye(3), 2.0)
    for name, replacement in {
        "base_dist": r"p\.marginal_t",
        "covariance": r"p\.covariance_matrix",
        "device": r"p\.loc\.device",
        "mean_direction": r"p\.loc",
        "rvs": r"p\.sample",
        "kl_divergence": r"torch\.distributions\.kl_divergence",
    }.items():
        assert not hasattr(p, name)
        with pytest.raises(AttributeError, match=rf"PowerSpherical.*{name}.*{replacement}"):
            getattr(p, name)
    with pytest.raises(AttributeError, match=r"'unknown'$"):
        _ = p.unknown
    with pytest.raises(AttributeError, match="has no attribute 'unknown'"):
        _ = powerspherical_ext.unknown
    uniform = HypersphericalUniform(3, "cpu", torch.float64)
    assert (uniform.device, uniform.dtype) == (torch.device("cpu"), torch.float64)
    with pytest.raises(ValueError, match="dim must be at least 2, got 1: it is the length"):
        HypersphericalUniform(1)
    with pytest.raises(ValueError, match="length 4 and 3; HypersphericalUniform takes the length"):
        kl_divergence(PowerSpherical(torch.eye(4), 1.0), HypersphericalUniform(3))


@each_concentrated
def test_arguments_that_exist_in_other_packages_say_what_takes_their_place(family):
    loc, kappa = torch.eye(3), family.at(torch.ones(3))
    own = r"loc, concentration, validate_args, scale, normalize$"
    for wrong, hint in {
        "mean_direction": r"\(take loc\)",
        "mu": r"\(take loc\)",
        "kappa": r"\(take concentration\)",
        "k": r"\(leave it out.*\)",
        "seed": r"\(give sample and rsample a generator instead\)",
    }.items():
        with pytest.raises(TypeError, match=rf"^{family} has no argument {wrong} {hint}.*{own}"):
            family.distribution(**{"loc": loc, "concentration": kappa, wrong: kappa})
    message = rf"^{family} has no argument kappa \(take .*\), mu \(take loc\), unknown: its .*{own}"
    with pytest.raises(TypeError, match=message):
        family.distribution(mu=loc, kappa=kappa, unknown=1)

    class Plain(family.distribution):
        """Its name is in the message."""

    class Labelled(family.distribution):
        def __init__(self, loc, kappa, label):
            super().__init__(loc, kappa)
            self.label = label

    with pytest.raises(TypeError, match=r"^Plain has no argument mu"):
        Plain(mu=loc, concentration=kappa)
    assert Labelled(loc, kappa=kappa, label="a").label == "a"
    for cls in (family.distribution, Plain, Labelled):
        constructor = inspect.signature(cls.__init__).parameters
        assert list(inspect.signature(cls).parameters) == list(constructor)[1:]


@each_concentrated
def test_scale(family):
    loc, kappa = torch.eye(3), family.at(torch.tensor([0.5, 2.0, 3.0]))
    p = family.distribution(loc, scale=kappa)
    assert p.scale is p.concentration
    close(p.concentration, kappa)
    assert family.distribution(loc, scale=0).concentration.dtype == torch.float32
    for wrong in ({}, {"concentration": kappa, "scale": kappa}):
        with pytest.raises(
            TypeError, match=f"{family}: give exactly one of concentration and scale"
        ):
            family.distribution(loc, **wrong)


@each_concentrated
def test_a_column_of_concentrations_is_refused(family):
    """Output of nn.Linear(h_dim, 1), for batches of any size; any other outer product is taken."""
    for batch in ((4,), (1,), (0,), (2, 3)):
        loc, column = torch.ones(*batch, 4) / 2, family.at(torch.ones(*batch, 1))
        with pytest.raises(
            ValueError, match=r"squeeze\(-1\), or loc\.unsqueeze\(-3\) if all pairs"
        ):
            family.distribution(loc, column)
        assert family.distribution(loc, column.squeeze(-1)).batch_shape == batch
        pairs = family.distribution(loc.unsqueeze(-3), column)
        assert pairs.batch_shape == (*batch, batch[-1])
    loc = torch.ones(4, 4) / 2
    for column in (torch.ones(3, 1), torch.ones(4), torch.ones(1), torch.ones(1, 4)):
        p = family.distribution(loc, family.at(column))
        assert p.batch_shape == torch.broadcast_shapes((4,), column.shape)
    assert family.distribution(loc[0], family.at(torch.ones(4, 1))).batch_shape == (4, 1)


@each_concentrated
def test_normalize(family):
    x, kappa = 3 * unit(4, 5), family.at(torch.ones(4).double())
    x.requires_grad_()
    p = family.distribution(x, kappa, normalize=True)
    expected = family.distribution(torch.nn.functional.normalize(x, dim=-1), kappa)
    value = unit(4, 5, seed=2)
    close(p.log_prob(value), expected.log_prob(value), rtol=0, atol=0)
    (grad,) = torch.autograd.grad(p.log_prob(value).sum(), x)
    close(grad, torch.autograd.grad(expected.log_prob(value).sum(), x)[0], rtol=0, atol=0)
    with pytest.raises(ValueError, match="length 0"):
        family.distribution(0 * x, kappa, normalize=True)
    rounded = torch.nn.functional.normalize(x.detach().float(), dim=-1).double()
    message = r"5e-15 in torch.float64, .* off by \d(\.\d)?e-08.*normalize\(loc.*normalize=True"
    with pytest.raises(ValueError, match=message):
        family.distribution(rounded, kappa)
    assert family.distribution(rounded, kappa, normalize=True).loc.dtype == torch.float64


def test_the_error_names_the_worst_vector():
    loc = torch.eye(3)
    loc[1] *= 1.01
    loc[2] *= 0.9
    with pytest.raises(ValueError, match=r"2 of 3 .* index 2, .*length 0\.9, .*off by 0\.1\."):
        PowerSpherical(loc, 1.0)
    p = PowerSpherical(torch.eye(3)[0], 1.0)
    with pytest.raises(ValueError, match=r"1 of 4 .* index \(1, 0\), .*length 2,"):
        p.log_prob(torch.eye(3)[0] * torch.tensor([[1.0, 1.0], [2.0, 1.0]]).unsqueeze(-1))


# Code as users of other packages write it


class Encoder(nn.Module):
    """Of a hyperspherical VAE: a mean direction and a concentration of shape (n, 1)."""

    def __init__(self, z_dim):
        super().__init__()
        self.mean, self.var = nn.Linear(20, z_dim), nn.Linear(20, 1)
        self.decoder = nn.Linear(z_dim, 20)

    def forward(self, x):
        z_mean = self.mean(x)
        z_mean = z_mean / z_mean.norm(dim=-1, keepdim=True)
        return z_mean, nn.functional.softplus(self.var(x)) + 1


def test_a_hyperspherical_vae():
    """It trains; without the squeeze it stops before any loss is computed."""
    torch.manual_seed(0)
    encoder, x = Encoder(5), torch.rand(32, 20).round()
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        z_mean, z_var = encoder(x)
        q, p = VonMisesFisher(z_mean, scale=z_var.squeeze(-1)), HypersphericalUniform(5)
        logits = encoder.decoder(q.rsample())
        fit = nn.BCEWithLogitsLoss(reduction="none")(logits, x).sum(-1).mean()
        loss = fit + kl_divergence(q, p).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < sum(losses[:10]) - 5
    with pytest.raises(ValueError, match=r"take concentration\.squeeze\(-1\)"):
        VonMisesFisher(*encoder(x))


def test_power_spherical_with_one_import_changed():
    """Slicers, mixtures of parameters, and the example of its README."""
    modules = [powerspherical_ext]
    if importlib.util.find_spec("power_spherical"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            modules.append(__import__("power_spherical"))
    results = []
    for module in modules:
        torch.manual_seed(0)
        loc = torch.tensor([0.0, 1.0], requires_grad=True)
        p = module.PowerSpherical(loc=loc, scale=torch.tensor(4.0, requires_grad=True))
        assert p.rsample().shape == (2,)
        weight = torch.nn.functional.normalize(torch.randn(3, 8), dim=1)
        slicer = module.PowerSpherical(weight, torch.full((3,), 50.0))
        thetas = slicer.sample((400,)).view(1200, -1)
        close(thetas.norm(dim=-1), torch.ones(1200), rtol=0, atol=1e-4)
        uniform = module.HypersphericalUniform(dim=2)
        assert uniform.rsample((3,)).shape == (3, 2)
        divergence = kl_divergence(p, uniform)
        assert divergence.requires_grad
        law = module.PowerSpherical(weight, torch.tensor([1.0, 10.0, 100.0]))
        results.append((divergence, law.entropy(), law.log_normalizer(), law.log_prob(weight)))
        close(
            (slicer.sample((4000,)) * weight).sum(-1).mean(),
            torch.tensor(50 / 57),
            rtol=0,
            atol=0.01,
        )
    close(*(results * 2)[:2], rtol=1e-4, atol=1e-4)
