"""Tensors made under torch.inference_mode, as by a frozen encoder, beside tensors that train."""

from __future__ import annotations

import itertools

import op_calls
import pytest
import torch
from cases import close, ignores_warnings_of_torch, needs_kernels, path, unit
from op_calls import STATE, family, inputs, raw
from torch.distributions import kl_divergence

from powerspherical_ext import HypersphericalUniform, ops

both_paths = pytest.mark.usefixtures(path.__name__)
pytestmark = [pytest.mark.usefixtures(family.__name__), ignores_warnings_of_torch]


def rsample(p):
    return p.rsample((2,), generator=torch.Generator().manual_seed(0))


def uniform():
    return HypersphericalUniform(5, dtype=torch.float64)


def other():
    return op_calls.DISTRIBUTION(unit(3, 5, seed=9), inputs(3)[2] / 2)


# Functions of a distribution and a value; of a cosine t and a probability.
CALLS = {
    "log_prob": lambda p, x: p.log_prob(x),
    "rsample": lambda p, x: rsample(p) * x.sum(),
    "moments": lambda p, x: (p.mean + p.variance + p.covariance_matrix.sum(-1)) * x.sum(),
    "entropy": lambda p, x: (p.entropy() + p.log_normalizer()) * x.sum(),
    "kl": lambda p, x: (kl_divergence(p, other()) + kl_divergence(other(), p)) * x.sum(),
    "kl of one mean": lambda p, x: kl_divergence(p, type(p)(x, p.concentration)),
    "kl, uniform": lambda p, x: (
        (kl_divergence(p, uniform()) + kl_divergence(uniform(), p)) * x.sum()
    ),
    "cosine": lambda p, x: p.marginal_t.log_prob(x[:, 0]) + p.marginal_t.cdf(x[:, 1]),
    "quantile": lambda p, x: p.marginal_t.icdf(x[:, 0].sigmoid()),
    "sample of the cosine": lambda p, x: rsample(p.marginal_t) * x.sum(),
    "fit": lambda p, x: type(p).fit(x, p.concentration).mean * p.loc.sum(),
}


def made_in_inference_mode(x):
    with torch.inference_mode():
        return x.clone()


def gradients(function, tensors):
    leaves = [x for x in tensors if x.requires_grad]
    output = function(*tensors)
    if not output.requires_grad:
        return (output,)
    return output.detach(), *torch.autograd.grad(output.sum(), leaves, allow_unused=True)


@both_paths
@pytest.mark.parametrize("name", CALLS)
def test_gradients_are_those_beside_other_tensors(name):
    def function(x, loc, kappa):
        return CALLS[name](op_calls.DISTRIBUTION(loc, kappa), x)

    for trains in itertools.product((False, True), repeat=3):
        pairs = list(zip(inputs(3), trains, strict=True))
        plain = [x.requires_grad_(train) for x, train in pairs]
        mixed = [x if train else made_in_inference_mode(x) for x, train in pairs]
        close(gradients(function, mixed), gradients(function, plain))


@both_paths
@pytest.mark.parametrize("name", CALLS)
def test_all_within_inference_mode(name):
    tensors = inputs(3, grad=True)
    expected = CALLS[name](op_calls.DISTRIBUTION(*tensors[1:]), tensors[0])
    with torch.inference_mode():
        actual = CALLS[name](op_calls.DISTRIBUTION(*tensors[1:]), tensors[0])
        again = CALLS[name](op_calls.DISTRIBUTION(*(x.clone() for x in tensors[1:])), tensors[0])
    assert actual.is_inference()
    with torch.inference_mode():
        close(actual, expected.detach().clone())
        close(again, actual)


@both_paths
def test_leaves_that_train():
    """Such tensors can require a gradient, which then is whole, also the second."""
    with torch.inference_mode():
        made = [x.clone().requires_grad_() for x in inputs(3)]
    leaves = inputs(3, grad=True)
    for tensors in (made, leaves):
        (op_calls.DISTRIBUTION(*tensors[1:]).log_prob(tensors[0]).sum()).backward()
    for ours, plain in zip(made, leaves, strict=True):
        close(ours.grad.clone(), plain.grad)

    def penalty(x, loc, kappa):
        output = ops.log_prob(x, loc, kappa, op_calls.FAMILY).sum()
        return sum(g.square().sum() for g in torch.autograd.grad(output, x, create_graph=True))

    close(gradients(penalty, made), gradients(penalty, leaves))


@needs_kernels
def test_raw_ops():
    index = op_calls.FAMILY.index

    def function(x, loc, kappa):
        loss = raw.vi_simsiam_loss(kappa, loc, x, kappa, index, 0.5, 0)[0]
        scalars = raw.scalar_function(kappa, 5, index, 0)
        backward = raw.log_prob_backward(kappa, x, loc, kappa, index, 7)[2]
        divergence = raw.kl(
            kappa, kappa / 2, loc[:, 0] ** 2, 1 - loc[:, 0] ** 2, 5, index, index, 0
        )
        sample = raw.rsample(loc, kappa, STATE, index).sum(-1)
        return raw.log_prob(x, loc, kappa, index) + loss + scalars + backward + divergence + sample

    for trains in itertools.product((False, True), repeat=3):
        pairs = list(zip(inputs(3), trains, strict=True))
        plain = [x.requires_grad_(train) for x, train in pairs]
        mixed = [x if train else made_in_inference_mode(x) for x, train in pairs]
        if any(trains):
            close(gradients(function, mixed), gradients(function, plain))


@needs_kernels
def test_compiled():
    """With a backend that does not save inputs itself, as AOTAutograd does."""
    torch.compiler.reset()

    @torch.compile(backend="eager", fullgraph=True)
    def function(x, loc, kappa):
        p = op_calls.DISTRIBUTION(loc, kappa, validate_args=False)
        return p.log_prob(x) + p.entropy()

    x, loc, kappa = inputs(3)
    loc.requires_grad_()
    mixed = made_in_inference_mode(x), loc, made_in_inference_mode(kappa)
    close(gradients(function, mixed), gradients(function, (x, loc, kappa)))
    torch.compiler.reset()
