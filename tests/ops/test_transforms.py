"""The ops within torch.func, forward-mode AD, torch.compile and torch.export."""

from __future__ import annotations

import op_calls
import pytest
import torch
from cases import (
    close,
    each_float,
    ignores_warnings_of_torch,
    needs_kernels,
    path,
    unit,
)
from op_calls import STATE, family, inputs, log_prob, rsample
from torch import func
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.distributions import Normal, kl_divergence
from torch.fx.experimental.proxy_tensor import make_fx

from powerspherical_ext import HypersphericalUniform, ops

both_paths = pytest.mark.usefixtures(path.__name__)
each_family = pytest.mark.usefixtures(family.__name__)
pytestmark = ignores_warnings_of_torch


# Transforms


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_the_private_names_still_answer():
    """ops.values_are_readable asks torch by names that are not public."""
    seen = []

    def spy(x):
        seen.append(ops.values_are_readable(x))
        return x.sum()

    x = torch.ones(3)
    spy(x)
    func.vmap(spy)(x.view(3, 1))
    func.grad(spy)(x)
    func.jvp(spy, (x,), (x,))
    with forward_ad.dual_level():
        spy(forward_ad.make_dual(x, x))
    for mode in ("real", "fake", "symbolic"):
        make_fx(spy, tracing_mode=mode)(x)
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(x)
        spy(fake)
    spy(fake)
    torch.jit.trace(spy, x, check_trace=False)
    spy(torch.nn.Parameter(x))
    assert seen == [True, *[False] * 10, True]


@each_family
@both_paths
@each_float
def test_vmap(dtype):
    x, mu, kappa = inputs(6, dtype=dtype)
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {}
    expected = log_prob(x, mu, kappa)
    close(func.vmap(log_prob)(x, mu, kappa), expected, **tolerance)
    close(func.vmap(log_prob, (0, None, None))(x, mu[0], kappa[0]), log_prob(x, mu[0], kappa[0]))
    outer = func.vmap(func.vmap(log_prob, (None, 0, 0)), (0, None, None))(x, mu, kappa)
    close(outer, log_prob(x.unsqueeze(1), mu, kappa), **tolerance)
    for i, sample in enumerate(func.vmap(rsample)(mu, kappa)):  # one rng_state for all
        close(sample, rsample(mu[i], kappa[i]), rtol=1e-4, atol=1e-5)
    entropy = func.vmap(lambda m, k: op_calls.DISTRIBUTION(m, k, validate_args=False).entropy())
    close(entropy(mu, kappa), op_calls.DISTRIBUTION(mu, kappa).entropy())


@each_family
@both_paths
def test_gradients_by_transforms():
    tensors = inputs(3)
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    numbers = (0, 1, 2)
    expected = torch.autograd.grad(log_prob(*leaves).sum(), leaves)
    close(func.grad(lambda *t: log_prob(*t).sum(), numbers)(*tensors), expected)
    per_row = func.vmap(func.grad(log_prob, numbers))(*tensors)
    close(per_row, expected)
    rows = func.jacrev(log_prob, numbers)(*tensors)
    columns = func.jacfwd(log_prob, numbers)(*tensors)
    close(rows, columns)
    for jacobian, grad in zip(rows, expected, strict=True):
        close(jacobian.sum(0), grad)
    tangents = [unit(*tensor.shape, seed=i) for i, tensor in enumerate(tensors)]
    _, slope = func.jvp(log_prob, tuple(tensors), tuple(tangents))
    close(slope.sum(), sum((g * t).sum() for g, t in zip(expected, tangents, strict=True)))
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, t) for x, t in zip(tensors, tangents, strict=True)]
        close(forward_ad.unpack_dual(log_prob(*duals)).tangent, slope)


@each_family
@both_paths
def test_second_derivatives():
    tensors = [tensor[0] for tensor in inputs(1)]
    hessian = func.hessian(log_prob, (0, 1, 2))(*tensors)
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    twice = torch.autograd.functional.hessian(log_prob, tuple(leaves))
    close(hessian, twice)
    grads = torch.autograd.grad(log_prob(*leaves), leaves, create_graph=True)
    penalty = sum(grad.square().sum() for grad in grads)
    vhp = torch.autograd.functional.vhp(log_prob, tuple(leaves), tuple(2 * g for g in grads))[1]
    close(torch.autograd.grad(penalty, leaves), vhp)


@each_family
@both_paths
def test_sample_gradients_by_transforms():
    _, mu, kappa = inputs(3)
    leaves = mu.detach().requires_grad_(), kappa.detach().requires_grad_()
    expected = torch.autograd.grad(rsample(*leaves).sin().sum(), leaves)
    actual = func.grad(lambda m, k: rsample(m, k).sin().sum(), (0, 1))(mu, kappa)
    close(actual, expected)
    tangents = unit(3, 5, seed=7), unit(3, seed=8)
    sample, slope = func.jvp(rsample, (mu, kappa), tangents)
    directional = sum((g * t).sum() for g, t in zip(expected, tangents, strict=True))
    close((sample.cos() * slope).sum(), directional)


# Compilers


def loss(value, loc, kappa):
    x = ops.rsample(loc, kappa, STATE, op_calls.FAMILY)
    p = op_calls.DISTRIBUTION(loc, kappa, validate_args=False)
    return (p.log_prob(value) + x.sum(-1) + p.entropy()).sum()


@pytest.mark.slow
@each_family
@needs_kernels
@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_with_backward(dynamic):
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for batch in (4, 6):
        eager, traced = inputs(batch, grad=True), inputs(batch, grad=True)
        expected, actual = loss(*eager), compiled(*traced)
        close(actual, expected)
        close(torch.autograd.grad(actual, traced), torch.autograd.grad(expected, eager))
    torch.compiler.reset()


@needs_kernels
def test_compile_of_sampling_draws_anew():
    torch.compiler.reset()
    loc, kappa = inputs(4)[1:]

    @torch.compile(fullgraph=True, backend="aot_eager")
    def draw(loc, kappa):
        return op_calls.DISTRIBUTION(loc, kappa, validate_args=False).rsample((2,))

    torch.manual_seed(0)
    one, two = draw(loc, kappa), draw(loc, kappa)
    torch.manual_seed(0)
    assert torch.equal(one, draw(loc, kappa))
    assert not torch.equal(one, two)
    torch.manual_seed(0)
    close(one, op_calls.DISTRIBUTION(loc, kappa).rsample((2,)))
    torch.compiler.reset()


@each_family
@needs_kernels
@pytest.mark.parametrize("batched", [(0,), (0, 2), (0, 1, 2)], ids=str)
def test_export(batched):
    """Batches of value, loc and concentration, or of some of them."""

    class Density(torch.nn.Module):
        def forward(self, value, loc, kappa):
            return op_calls.DISTRIBUTION(loc, kappa, validate_args=False).log_prob(value)

    def some(batch):
        return tuple(x if i in batched else x[0] for i, x in enumerate(inputs(batch)))

    batch = torch.export.Dim("batch", min=2)
    shapes = tuple({0: batch} if i in batched else None for i in range(3))
    program = torch.export.export(Density(), some(4), dynamic_shapes=shapes)
    more = some(9)
    close(program.module()(*more), Density()(*more))
    assert any("powerspherical_ext" in str(node.target) for node in program.graph.nodes)


# Modes that compute shapes, or record


def everything(value, loc, kappa):
    p = op_calls.DISTRIBUTION(loc, kappa, validate_args=False)
    uniform = HypersphericalUniform(5, dtype=loc.dtype, validate_args=False)
    q = op_calls.DISTRIBUTION(value, kappa / 2, validate_args=False)
    divergences = [kl_divergence(*pair) for pair in ((p, q), (p, uniform), (uniform, p))]
    moments = p.mean + p.variance + p.covariance_matrix.sum(-1)
    wide = p.expand((2, *p.batch_shape)).log_prob(value).sum(0)
    total = p.log_prob(value) + p.entropy() + wide + sum(divergences)
    return total.sum() + moments.sum() + p.rsample().sin().sum()


def gradients(*tensors):
    leaves = [x.detach().requires_grad_() for x in tensors]
    output = everything(*leaves)
    return output.detach(), *torch.autograd.grad(output, leaves)


@each_family
@needs_kernels
def test_fake_tensors():
    tensors = inputs(4)
    with FakeTensorMode() as mode:
        fake = gradients(*(mode.from_tensor(x) for x in tensors))
    for ours, real in zip(fake, gradients(*tensors), strict=True):
        assert (ours.shape, ours.dtype) == (real.shape, real.dtype)


@each_family
@needs_kernels
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx(mode):
    """Programs with a backward pass, on other tensors than those that they were traced with."""
    program = make_fx(gradients, tracing_mode=mode)(*inputs(4))
    others = [x.flip(0) for x in inputs(4)]
    torch.manual_seed(0)
    actual = tuple(program(*others))
    torch.manual_seed(0)
    close(actual, gradients(*others))


def within_fake_mode(function):
    with FakeTensorMode():
        function(torch.ones(3))


TRACERS = {
    "FakeTensorMode": within_fake_mode,
    "make_fx": lambda function: make_fx(function)(torch.ones(3)),
    "make_fx, symbolic": lambda function: make_fx(function, tracing_mode="symbolic")(torch.ones(3)),
}


@pytest.mark.parametrize("tracer", TRACERS)
def test_validation_in_such_a_mode_raises_what_that_of_normal_raises(tracer):
    errors = []
    for law in (op_calls.DISTRIBUTION, Normal):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            TRACERS[tracer](lambda x, law=law: law(x, 1.0, validate_args=True).loc)
        errors.append(caught.type)
    assert errors[0] is errors[1]
    assert errors[0] is not ValueError
