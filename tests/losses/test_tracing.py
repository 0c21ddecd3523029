"""Losses and heads within FakeTensorMode, make_fx and torch.fx: no check asks for values there."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from cases import ignores_warnings_of_torch
from loss_inputs import FAMILIES, D, N, concentrations, features, unit
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.fx import symbolic_trace
from torch.fx.experimental.proxy_tensor import make_fx

from powerspherical_ext import HypersphericalUniform, VonMisesFisher
from powerspherical_ext.losses import (
    DINOLoss,
    DirectPred,
    KappaHead,
    VISimSiamHead,
    VISimSiamLoss,
    barlow_twins_loss,
    expected_likelihood_kernel_loss,
    feature_std,
    hedged_instance_loss,
    j_align,
    j_kl,
    j_uniform,
    log_renormalizer,
    mc_infonce_loss,
    mean_resultant_length,
    nt_xent_loss,
    simclr_loss,
    simsiam_loss,
    vi_simclr_loss,
    vi_simsiam_loss,
)

pytestmark = ignores_warnings_of_torch


def objective(p, z, k, distribution):
    law = FAMILIES[distribution]
    p, q = (law(unit(x), k, validate_args=False) for x in (p, z))
    uniform = HypersphericalUniform(D, dtype=z.dtype, validate_args=False)
    return j_align(unit(z), p) + j_align(q, p) + j_uniform(unit(z), p) + j_kl(p, uniform)


# Functions of a prediction, a target and a concentration.
OF_ANY_LAW = {
    "vi_simsiam": vi_simsiam_loss,
    "vi_simsiam, beta": partial(vi_simsiam_loss, beta=0.5, relative_to_uniform=False),
    "vi_simsiam, lists": lambda p, z, k, distribution: vi_simsiam_loss(
        [p, p], [z], [k, k], distribution=distribution, reduction="none"
    ),
    "vi_simclr": vi_simclr_loss,
    "objective": objective,
    "elk": lambda p, z, k, distribution: expected_likelihood_kernel_loss(
        p, z, k, k, distribution=distribution, n_samples=2
    ),
    **{
        name: lambda p, z, k, distribution, loss=loss: loss(
            p, z, k, k, distribution=distribution, n_samples=2
        )
        for name, loss in (("mc_infonce", mc_infonce_loss), ("hib", hedged_instance_loss))
    },
}
LOSSES = {
    **{
        f"{loss}-{name}": partial(f, distribution=name)
        for loss, f in OF_ANY_LAW.items()
        for name in FAMILIES
    },
    "VISimSiamLoss": VISimSiamLoss(),
    "mean_resultant_length": lambda p, z, k: mean_resultant_length(k, D),
    "simsiam": lambda p, z, k: simsiam_loss(p, z),
    "simclr": lambda p, z, k: simclr_loss([p, p], [z]),
    "nt_xent": lambda p, z, k: nt_xent_loss(p, z),
    "barlow_twins": lambda p, z, k: barlow_twins_loss(p, z),
    "dino": lambda p, z, k: DINOLoss(D)(p, z),
    "log_renormalizer": lambda p, z, k: log_renormalizer(
        *(VonMisesFisher(unit(x), k, validate_args=False) for x in (p, z))
    ),
    "feature_std": lambda p, z, k: feature_std(p),
}
HEADS = {
    "KappaHead": lambda: KappaHead(D, 8),
    "VISimSiamHead": lambda: VISimSiamHead(D, 8),
    "DirectPred": lambda: DirectPred(D),
}


def arguments():
    kappa = 0.9 / (1 + concentrations(N))  # in the domain of every family
    return features(N, D, seed=0), features(N, D, seed=1).detach(), kappa.detach().requires_grad_()


def gradients(function, p, z, k):
    """The value and the gradients of a function, as a function of tensors without gradients."""
    p, k = (x.detach().requires_grad_() for x in (p, k))
    output = function(p, z, k)
    if not output.requires_grad:
        return (output,)
    grads = torch.autograd.grad(output.sum(), (p, k), allow_unused=True)
    return output.detach(), *(g for g in grads if g is not None)


@pytest.mark.parametrize("name", LOSSES)
def test_fake_tensors(name):
    """Forward and backward, by shapes alone."""
    expected = gradients(LOSSES[name], *arguments())
    with FakeTensorMode() as mode:
        actual = gradients(LOSSES[name], *(mode.from_tensor(x) for x in arguments()))
    for fake, real in zip(actual, expected, strict=True):
        assert fake.shape == real.shape
        assert fake.dtype == real.dtype


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
@pytest.mark.parametrize("name", LOSSES)
def test_make_fx(name, mode):
    """The program has the value and the gradients of other arguments than it was traced with."""
    function = partial(gradients, LOSSES[name])
    example = [x.detach() for x in arguments()]
    program = make_fx(lambda p, z, k: function(p, z, k), tracing_mode=mode)(*example)
    others = [x.flip(0) for x in example]
    results = []
    for f in (program, function):
        torch.manual_seed(0)  # of the losses that draw samples
        results.append(tuple(f(*others)))
    torch.testing.assert_close(*results)


def last(output):
    """kappa where there is one."""
    return output if isinstance(output, torch.Tensor) else output.kappa


@pytest.mark.parametrize("name", HEADS)
def test_heads(name):
    with FakeTensorMode():
        output = last(HEADS[name]()(torch.randn(N, D, requires_grad=True)))
        output.sum().backward()
        assert len(output) == N
    head, y = HEADS[name]().eval(), features(N, D).detach().float()
    for mode in ("real", "symbolic"):
        trace = make_fx(lambda y: last(head(y)), tracing_mode=mode, _allow_non_fake_inputs=True)
        torch.testing.assert_close(trace(y)(y.flip(0)), last(head(y.flip(0))))


def test_torch_fx():
    """Modules whose losses are a part of them."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.losses = nn.ModuleList([VISimSiamLoss(beta=0.5), DINOLoss(D)])

        def forward(self, p, z, k):
            vi_simsiam, dino = self.losses
            return vi_simsiam([p, p], [z], [k, k]) + dino(p, z)

    model, alone = Model(), Model()
    traced = symbolic_trace(model)
    tensors = arguments()
    for _ in range(2):  # the centre moves
        torch.testing.assert_close(
            gradients(traced, *tensors), gradients(alone, *tensors), rtol=0, atol=0
        )
    assert torch.equal(model.losses[1].center, alone.losses[1].center)
    with pytest.raises(ValueError, match="kappa must be > 0"):
        traced(tensors[0], tensors[1], -tensors[2])


@pytest.mark.parametrize("trace", ["jit", "export", "make_fx", "jvp"])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit")
def test_programs_traced_with_constants_stop_the_gradient_at_the_target(trace):
    """As a frozen example gives, also where the target later has a gradient."""
    p, z, k = (x.detach() for x in arguments())
    loss = VISimSiamLoss(reduction="none")
    if trace == "jvp":
        tangent = torch.func.jvp(lambda z: loss(p, z, k), (z,), (torch.ones_like(z),))[1]
        assert (tangent == 0).all()
        return
    program = {
        "jit": lambda: torch.jit.trace(loss, (p, z, k), check_trace=False),
        "export": lambda: torch.export.export(loss, (p, z, k)).module(),
        "make_fx": lambda: make_fx(lambda *tensors: loss(*tensors))(p, z, k),
    }[trace]()
    leaves = [x.clone().requires_grad_() for x in (p, z, k)]
    output = program(*leaves)
    grads = torch.autograd.grad(output.sum(), leaves, allow_unused=True)
    assert grads[1] is None
    assert (grads[0] != 0).any()
