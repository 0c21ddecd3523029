"""The raw ops under torch.library, and their two paths: compiled kernels and plain torch."""

from __future__ import annotations

import itertools
import sys

import op_calls
import pytest
import torch
from cases import (
    POWER_SPHERICAL,
    at_distance,
    close,
    concentration_at,
    each_float,
    ignores_warnings_of_torch,
    needs_kernels,
    path,
    unit,
    without_kernels,
)
from op_calls import STATE, family, inputs, log_prob, raw

from powerspherical_ext import HypersphericalUniform, ops, reference
from powerspherical_ext.families import family_named
from powerspherical_ext.inverse.concentration import largest

both_paths = pytest.mark.usefixtures(path.__name__)
each_family = pytest.mark.usefixtures(family.__name__)
pytestmark = ignores_warnings_of_torch


# torch.library


def raw_calls(dtype):
    x, mu, kappa = inputs(2, 3, dtype=dtype)
    batches = (
        (x, mu, kappa),
        (x[0], mu, kappa[:, :1]),
        (x[0, 0], mu[0], kappa),
        (x[0, 0], mu[:, :0], kappa[0, 0]),
    )
    for batch in batches:
        _, loc, concentration = batch
        output = raw.log_prob(*batch, op_calls.FAMILY.index)
        sample = raw.rsample(loc, concentration, STATE, op_calls.FAMILY.index)
        yield raw.log_prob.default, (*batch, op_calls.FAMILY.index)
        yield raw.log_prob_on_sphere.default, (*batch, op_calls.FAMILY.index, 1e-3)
        yield raw.rsample.default, (loc, concentration, STATE, op_calls.FAMILY.index)
        for wanted in (0, 1, 2, 4, 7, 15):
            yield raw.log_prob_backward.default, (output, *batch, op_calls.FAMILY.index, wanted)
            arguments = (sample, sample, loc, concentration, op_calls.FAMILY.index, wanted)
            yield raw.rsample_backward.default, arguments
            arguments = (output, loc, batch[0], concentration, op_calls.FAMILY.index, 0.5, wanted)
            yield raw.vi_simsiam_loss.default, arguments
    for tensor in (x, mu.mT, mu[0, 0], mu[:, :0], mu.bfloat16()):
        yield raw.on_sphere.default, (tensor, 1e-3)
        yield raw.in_interval.default, (tensor, 0.0, 1.0)
    half, k = mu.bfloat16(), kappa.float()
    yield raw.rsample_rounded.default, (half, k, STATE, op_calls.FAMILY.index)
    yield raw.rsample_rounded.default, (mu[0, 0].half(), k, STATE, op_calls.FAMILY.index)
    yield raw.rsample_rounded.default, (half[:, :0], k[0, 0], STATE, op_calls.FAMILY.index)
    loss = half, half, k, op_calls.FAMILY.index, 0.0, 7
    yield raw.vi_simsiam_loss.default, (k, *loss)
    yield raw.vi_simsiam_loss.default, (k, *loss, 0.5, k.sum())
    yield raw.vi_simsiam_loss.default, (None, *loss, 0.5)
    for pred, target in ((half, mu.float()), (mu.float(), half), (half, mu.half())):
        yield raw.vi_simsiam_loss.default, (None, pred, target, *loss[2:])
    yield raw.scale_gradients_.default, (half, half[:0], k, k.sum())
    for function in ops.ScalarFunction:
        yield raw.scalar_function.default, (kappa.mT, 5, op_calls.FAMILY.index, function)
    yield from python_calls(kappa.mT)
    y = torch.rand(3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    for name, function in itertools.product(op_calls.FAMILY.kl, ops.KlFunction):
        other = family_named(name)
        q = concentration_at(other, torch.tensor([[3.0], [30.0]], dtype=dtype))
        yield (
            raw.kl.default,
            (kappa, q, y, 1 - y, 5, op_calls.FAMILY.index, other.index, function),
        )


def python_calls(kappa):
    """The ops that plain torch computes."""
    y = torch.linspace(0.1, 0.9, len(kappa), dtype=kappa.dtype).unsqueeze(-1)
    law = 5, op_calls.FAMILY.index
    for dtype in {kappa.dtype, torch.float32}:
        yield raw.cosine_cdf.default, (y, kappa, *law, True, dtype)
        yield raw.cosine_icdf.default, (y, kappa, *law, dtype)
        yield raw.cosine_entropy.default, (kappa, *law, dtype)
        yield raw.cosine_entropy_dkappa.default, (kappa, *law, dtype)
    yield raw.cosine_icdf.default, (y.expand(kappa.shape).mT, kappa.mT[:1, :1], *law, kappa.dtype)
    yield raw.cosine_cdf.default, (y[:0], kappa[0], *law, False, kappa.dtype)
    yield raw.cosine_sample.default, (kappa, STATE, *law)
    yield raw.implicit_gradient.default, (kappa, y, 1 - y, *law)
    for dtype in {kappa.dtype, torch.float32}:
        yield raw.angle_quantile.default, (y, kappa, *law, dtype)
        eps = torch.finfo(dtype).eps
        yield (
            raw.concentration_of_cap.default,
            (y, y.mT, *law, largest(op_calls.FAMILY, dtype), eps),
        )
    for function in (ops.ScalarFunction.KL_UNIFORM, ops.ScalarFunction.MEAN_RESULTANT_LENGTH):
        last, eps = largest(op_calls.FAMILY, kappa.dtype), torch.finfo(kappa.dtype).eps
        yield raw.concentration_of.default, (y.mT, function, *law, last, 0.0, eps)


@each_family
@needs_kernels
@each_float
def test_opcheck(dtype):
    for op, arguments in raw_calls(dtype):
        torch.library.opcheck(op, arguments, test_utils=("test_schema", "test_faketensor"))


@each_family
@needs_kernels
def test_opcheck_of_tracing():
    seen = set()
    for op, arguments in raw_calls(torch.float32):
        if op not in seen:
            torch.library.opcheck(op, arguments)
        seen.add(op)
    registered = torch._C._dispatch_get_all_op_names()
    ours = {name for name in registered if name.startswith("powerspherical_ext::")}
    assert {op.name() for op in seen} == ours


@needs_kernels
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, mu, k: raw.log_prob(x.double(), mu, k, 0), "value must .* no higher precision"),
        (lambda x, mu, k: raw.log_prob(x.half(), mu.half(), k.half(), 0), "float32 or float64"),
        (lambda x, mu, k: raw.log_prob(x[:, :4], mu, k, 0), "mu has dimension 5, expected 4"),
        (lambda x, mu, k: raw.log_prob(x[:, :1], mu[:, :1], k, 0), "d >= 2, got 1"),
        (lambda x, mu, k: raw.log_prob(x[0, 0], mu, k, 0), "value must have at least one"),
        (lambda x, mu, k: raw.log_prob(x[:2], mu, k, 0), "broadcast: size 3 against 2"),
        (lambda x, mu, k: raw.log_prob(x, mu, k, 99), "no family has index 99"),
        (lambda x, mu, k: raw.log_prob(x, mu, k, -1), "no family has index -1"),
        (lambda x, mu, k: raw.rsample(mu, k, STATE.int(), 0), "rng_state must be int64"),
        (lambda x, mu, k: raw.rsample(mu, k, STATE[:1], 0), r"rng_state must be .* \(2,\)"),
        (lambda x, mu, k: raw.rsample(mu.double(), k, STATE, 0), "mu must .* no higher precision"),
        (lambda x, mu, k: raw.rsample_backward(x, x, mu, k[:2], 0, 7), "does not broadcast"),
        (lambda x, mu, k: raw.log_prob_backward(k, x, mu[:, :3], k, 0, 7), "mu has dimension 3"),
    ],
    ids=range(13),
)
def test_wrong_calls(call, message):
    with pytest.raises(RuntimeError, match=message):
        call(*inputs(3, dtype=torch.float32))


# The two paths


@needs_kernels
@each_float
@pytest.mark.parametrize("d", [2, 3, 16, 65])
def test_kernels_equal_the_reference(family, d, dtype):
    """log_prob, its gradients, every function of kappa, and the gradients of one given sample."""
    eps = torch.finfo(dtype).eps
    for kappa_value in family.kappas:
        mu = unit(6, d, dtype=dtype)
        y = torch.tensor([1e-6, 0.01, 0.3, 0.5, 0.9, 0.999], dtype=torch.float64)
        x = at_distance(mu, y).to(dtype)
        kappa = torch.full((6,), kappa_value, dtype=dtype)
        tensors = [t.requires_grad_() for t in (x, mu, kappa)]
        actual = log_prob(*tensors)
        expected = reference.log_prob(*tensors, op_calls.FAMILY.reference)
        size = 1 + kappa_value * 7 + d  # of the terms that cancel
        close(actual, expected, rtol=0, atol=20 * eps * size)
        ours, theirs = (torch.autograd.grad(f.sum(), tensors) for f in (actual, expected))
        for our, their in zip(ours, theirs, strict=True):
            scale = their.abs().amax(-1, keepdim=True) if their.dim() > 1 else their.abs() + 7
            assert ((our - their).abs() <= 200 * eps * scale).all(), kappa_value
        arguments = (
            unit(6, d, dtype=dtype, seed=3),
            x.detach(),
            mu.detach(),
            kappa.detach(),
            op_calls.FAMILY.index,
        )
        ours = raw.rsample_backward(*arguments, 7)
        theirs = reference.rsample_backward(*arguments[:4], op_calls.FAMILY.reference)
        close(ours[0], theirs[0], rtol=0, atol=50 * eps)
        scale = theirs[1].abs().max().item()
        if family is not POWER_SPHERICAL:  # claimed for samples only, and not where p < e^-60 p(mu)
            reached = kappa.detach() * y < 30
            ours, theirs = ([grad[reached] for grad in grads] for grads in (ours, theirs))
        close(ours[1], theirs[1], rtol=300 * eps, atol=300 * eps * scale)
        for function in ops.ScalarFunction:
            slopes = []
            for result in (
                ops.scalar_function(function, kappa, d, op_calls.FAMILY),
                reference.scalar_function(
                    function.name.lower(), kappa, d, op_calls.FAMILY.reference
                ),
            ):
                grad = torch.autograd.grad(result.sum(), kappa, allow_unused=True)
                slopes.append((result.detach(), grad[0] if grad[0] is not None else 0 * kappa))
            size = 1.0  # of the terms that cancel in the derivative, which is autograd's
            if not op_calls.FAMILY.exponential_form:
                size = max(size, slopes[1][0].abs().max().item())
            for our, their, term in zip(*slopes, (1.0, size), strict=True):
                close(our, their, rtol=50 * eps, atol=10 * eps * term)


@each_family
@each_float
def test_without_kernels_everything_works(dtype, monkeypatch):
    without_kernels(monkeypatch)
    for name in ("kl", "log_prob", "rsample", "scalar_function", "vi_simsiam_loss"):
        module = sys.modules[f"powerspherical_ext.ops.{name}"]
        monkeypatch.setattr(module, "_op", None)  # nothing may touch the library
        monkeypatch.setattr(module, "_kernel", None)
    loc, kappa = (tensor.requires_grad_() for tensor in inputs(4, dtype=dtype)[1:])
    p = op_calls.DISTRIBUTION(loc, kappa)
    x = p.rsample((2,))
    (p.log_prob(x).sum() + p.entropy().sum() + p.mean.sum() + p.variance.sum()).backward()
    assert loc.grad.isfinite().all()
    assert kappa.grad.isfinite().all()
    assert HypersphericalUniform(5, dtype=dtype).sample((3,)).dtype == dtype


# Random states


@both_paths
def test_rng_state_covers_64_bits():
    """Both words of seed and offset matter."""
    _, mu, kappa = inputs(1)
    states = [(0, 0), (1, 0), (1 << 40, 0), (0, 1), (0, 1 << 40), (-1, 0), (0, -1)]
    samples = [ops.rsample(mu, kappa, torch.tensor(state), op_calls.FAMILY) for state in states]
    for i, one in enumerate(samples):
        assert all(not torch.equal(one, other) for other in samples[:i])


def test_new_rng_state():
    torch.manual_seed(0)
    states = torch.stack([ops.new_rng_state(torch.device("cpu")) for _ in range(200)])
    assert states.dtype == torch.int64
    assert len(states.unique()) == 400
    assert (states < 0).double().mean().item() == pytest.approx(0.5, abs=0.125)  # 5 sigma
    assert (states.abs() > 1 << 61).double().mean().item() == pytest.approx(0.75, abs=0.125)
    generator = torch.Generator().manual_seed(1)
    one = ops.new_rng_state(torch.device("cpu"), generator)
    assert torch.equal(one, ops.new_rng_state(torch.device("cpu"), generator.manual_seed(1)))
