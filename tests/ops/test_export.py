"""Gradients of exported programs, of raw ops that are called directly, and of traced functions."""

from __future__ import annotations

import op_calls
import pytest
import torch
from cases import close, ignores_warnings_of_torch, needs_kernels, unit
from op_calls import STATE, family, inputs, raw

from powerspherical_ext import ops
from powerspherical_ext.inverse.concentration import largest
from powerspherical_ext.marginal import sampling

pytestmark = [
    needs_kernels,
    ignores_warnings_of_torch,
    pytest.mark.usefixtures(family.__name__),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit"),
]


def scalar(function):
    return lambda value, loc, kappa: ops.scalar_function(
        function, kappa, value.shape[-1], op_calls.FAMILY
    )


def loss(beta, scale):
    def vi_simsiam_loss(value, loc, kappa):
        return ops.vi_simsiam_loss(2 * loc, 0.3 * value, kappa, op_calls.FAMILY, beta, scale)

    return vi_simsiam_loss


# Functions of (value, loc, kappa); together they call every op.
CALLS = {
    "log_prob": lambda value, loc, kappa: op_calls.log_prob(value, loc, kappa),
    "rsample": lambda value, loc, kappa: op_calls.rsample(loc, kappa).sin() * value,
    "entropy": lambda value, loc, kappa: ops.entropy(kappa, value.shape[-1], op_calls.FAMILY),
    "kl": lambda value, loc, kappa: ops.kl(
        kappa, 0.75 * kappa, loc, value, op_calls.FAMILY, op_calls.FAMILY
    ),
    "loss": loss(0.0, None),
    "loss, beta": loss(0.5, None),
    "loss, summed": loss(0.0, 0.25),
    **{function.name.lower(): scalar(function) for function in ops.ScalarFunction},
    "everything": lambda value, loc, kappa: (
        op_calls.log_prob(op_calls.rsample(loc, kappa), value, kappa)
        + ops.entropy(kappa, value.shape[-1], op_calls.FAMILY)
    ),
}
each_call = pytest.mark.parametrize("name", CALLS)


class Module(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, value, loc, kappa):
        return self.function(value, loc, kappa)


def gradients(function, leaves):
    output = function(*leaves)
    used = torch.autograd.grad(output.sum(), leaves, allow_unused=True)
    return output.detach(), *(
        g if g is not None else torch.zeros_like(x) for g, x in zip(used, leaves, strict=True)
    )


@each_call
@pytest.mark.parametrize("strict", [False, True], ids=["non-strict", "strict"])
def test_exported_programs_keep_their_gradients(name, strict):
    """They equal those of eager mode, on inputs other than those exported with."""
    example = inputs(4)
    leaves = [x.flip(0).requires_grad_() for x in example]
    module = Module(CALLS[name])
    program = torch.export.export(module, tuple(example), strict=strict).module()
    expected = gradients(module, leaves)
    close(gradients(program, leaves), expected, rtol=1e-12, atol=1e-12)
    assert any((g != 0).any() for g in expected[1:])


@each_call
def test_exported_programs_with_dynamic_batches(name):
    batch = torch.export.Dim("batch", min=2)
    shapes = {"value": {0: batch}, "loc": {0: batch}, "kappa": {0: batch}}
    module = Module(CALLS[name])
    exported = torch.export.export(module, tuple(inputs(4)), dynamic_shapes=shapes)
    assert any("powerspherical_ext" in str(node.target) for node in exported.graph.nodes)
    leaves = inputs(9, grad=True)
    actual = gradients(exported.module(), leaves)
    close(actual, gradients(module, leaves), rtol=1e-12, atol=1e-12)


@each_call
def test_traced_functions_keep_their_gradients(name):
    """torch.jit.trace runs its own check of values; gradients are compared here."""
    function = CALLS[name]
    leaves = inputs(4, grad=True)
    traced = torch.jit.trace(function, tuple(leaves))
    others = [x.flip(0).requires_grad_() for x in inputs(4)]
    close(gradients(traced, others), gradients(function, others), rtol=1e-12, atol=1e-12)


# Raw ops


def raw_calls():
    """Raw ops, their differentiable arguments, and the functions that they compute."""
    value, loc, kappa = inputs(3)
    index = op_calls.FAMILY.index
    yield (lambda x, m, k: raw.log_prob(x, m, k, index)), (value, loc, kappa)
    yield (lambda m, k: raw.vi_simsiam_loss(k, m, value, k, index, 0.0, 0)[0]), (loc, kappa)
    yield (lambda m, k: raw.vi_simsiam_loss(k, m, value, k, index, 0.0, 7)[0]), (loc, kappa)
    for function in ops.ScalarFunction:
        yield (lambda k, f=function: raw.scalar_function(k, 5, index, int(f))), (kappa,)
    sin2 = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    for function in ops.KlFunction:
        yield (
            lambda p, q, w, f=function: raw.kl(p, q, w, 1 - w, 5, index, index, int(f)),
            (kappa, 0.75 * kappa, sin2),
        )
    for needs_grad in (1, 2, 4, 7, 15):

        def log_prob_backward(g, x, m, k, needs_grad=needs_grad):
            parts = raw.log_prob_backward(g, x, m, k, index, needs_grad)
            return sum(part.sin().sum() for part in parts)

        yield log_prob_backward, (kappa.cos(), value, loc, kappa)
    law = 5, index
    yield (lambda x, k: raw.cosine_cdf(x, k, *law, True, x.dtype)), (sin2, kappa)
    yield (lambda x, k: raw.cosine_icdf(x, k, *law, x.dtype)), (sin2, kappa)
    yield (lambda k: raw.cosine_entropy(k, *law, k.dtype)), (kappa,)
    yield (lambda k: raw.cosine_entropy_dkappa(k, *law, k.dtype)), (kappa,)
    yield (lambda k, x: raw.implicit_gradient(k, x, 1 - x, *law)), (kappa, sin2)
    last, eps = largest(op_calls.FAMILY, sin2.dtype), torch.finfo(sin2.dtype).eps
    yield (lambda p, k: raw.angle_quantile(p, k, *law, p.dtype)), (sin2, kappa)
    angle = raw.angle_quantile(sin2, kappa.detach(), *law, sin2.dtype)
    yield (lambda x, p: raw.concentration_of_cap(x, p, *law, last, eps)), (angle, sin2)
    for function in (ops.ScalarFunction.KL_UNIFORM, ops.ScalarFunction.MEAN_RESULTANT_LENGTH):
        yield (lambda x, f=function: raw.concentration_of(x, int(f), *law, last, 0.0, eps)), (sin2,)


def test_raw_ops_called_directly_have_gradients():
    for function, arguments in raw_calls():
        leaves = [x.detach().requires_grad_() for x in arguments]
        assert function(*leaves).requires_grad
        assert torch.autograd.gradcheck(function, leaves, rtol=1e-4, atol=1e-6)
        with torch.no_grad():
            assert not function(*leaves).requires_grad
            close(function(*leaves), function(*(x.detach() for x in leaves)), rtol=0, atol=0)


def test_raw_rsample_called_directly_has_the_gradient_of_eager_mode():
    _, *leaves = inputs(3, grad=True)
    index, upstream = op_calls.FAMILY.index, unit(3, 5, seed=7)
    sample = raw.rsample(*leaves, STATE, index)
    expected = torch.autograd.grad(op_calls.rsample(*leaves), leaves, upstream)
    close(torch.autograd.grad(sample, leaves, upstream), expected, rtol=0, atol=0)
    for bits in (2, 4, 6, 14):
        grads = raw.rsample_backward(upstream, sample.detach(), *leaves, index, bits)
        for grad, slope, bit in zip(grads, expected, (2, 4), strict=True):
            assert grad.shape == (slope.shape if bits & bit else (0,))
            if bits & bit:
                close(grad.detach(), slope)
        with pytest.raises(RuntimeError, match="rsample has no second derivative"):
            torch.autograd.grad(grads[0].sum() + grads[1].sum(), leaves)


def test_raw_cosine_sample_called_directly_has_the_gradient_of_eager_mode():
    *_, kappa = inputs(3, grad=True)
    t, sin2 = raw.cosine_sample(kappa, STATE, 5, op_calls.FAMILY.index)
    assert not sin2.requires_grad
    expected = sampling.sample(kappa, 5, STATE, op_calls.FAMILY)
    close(t, expected, rtol=0, atol=0)
    grads = [torch.autograd.grad(x.sin().sum(), kappa) for x in (t, expected)]
    close(*grads, rtol=0, atol=0)


@pytest.mark.parametrize("scale", [None, 0.5])
def test_gradients_beside_the_raw_loss_are_constants(scale):
    value, loc, kappa = inputs(3, grad=True)
    weight = kappa.detach()
    loss, *grads = raw.vi_simsiam_loss(
        weight, loc, value, kappa, op_calls.FAMILY.index, 0.0, 7, scale
    )
    assert loss.requires_grad
    assert not any(grad.requires_grad for grad in grads)
    upstream = weight if scale is None else None
    expected = torch.autograd.grad(loss, (loc, value, kappa), upstream)
    for grad, slope in zip(grads, expected, strict=True):
        close(grad, slope)
