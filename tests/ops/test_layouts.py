"""What tensors the ops take: any strides, batches that broadcast, half precision."""

from __future__ import annotations

import subprocess
import sys

import op_calls
import pytest
import torch
from cases import close, each_float, needs_kernels, path, unit
from op_calls import STATE, family, inputs, log_prob, raw, rsample

both_paths = pytest.mark.usefixtures(path.__name__)
each_family = pytest.mark.usefixtures(family.__name__)


# Memory layouts and broadcasting


def layouts(tensor):
    """Views equal to tensor, with other strides."""
    d = tensor.shape[-1]
    padded = torch.full((*tensor.shape[:-1], 2 * d + 1), float("nan"), dtype=tensor.dtype)
    padded[..., 1::2] = tensor
    yield padded[..., 1::2]  # strided rows
    wide = torch.full((*tensor.shape[:-1], d + 3), float("nan"), dtype=tensor.dtype)
    wide[..., 2:-1] = tensor
    yield wide[..., 2:-1]  # sliced rows
    yield tensor.transpose(0, 1).contiguous().transpose(0, 1)  # transposed batch
    yield tensor.mT.contiguous().mT  # transposed rows
    yield torch.cat([tensor, tensor]).view(2, *tensor.shape)[1]  # offset in its storage


@both_paths
@each_float
def test_layouts(dtype, path):
    exact = {"rtol": 0, "atol": 0} if path == "kernels" else {}
    x, mu, kappa = inputs(3, 4, dtype=dtype)
    expected, sample = log_prob(x, mu, kappa), rsample(mu, kappa)
    for view in layouts(mu):
        assert torch.equal(view, mu)
        close(log_prob(view, x, kappa), expected, **exact)
        close(log_prob(x, view, kappa), expected, **exact)
        close(rsample(view, kappa), sample, **exact)
    for view in [*layouts(kappa), kappa.T.contiguous().T]:
        close(log_prob(x, mu, view), expected, **exact)
        close(rsample(mu, view), sample, **exact)


@both_paths
@each_float
def test_layouts_in_backward(dtype, path):
    exact = {"rtol": 0, "atol": 0} if path == "kernels" else {}
    x, mu, kappa = inputs(3, 4, dtype=dtype)
    upstream = unit(3, 4, dtype=dtype, seed=5)
    vectors = unit(3, 4, 5, dtype=dtype, seed=6)

    def grads(x, mu, kappa, upstream, vectors):
        leaves = [tensor.detach().requires_grad_() for tensor in (x, mu, kappa)]
        first = torch.autograd.grad(log_prob(*leaves), leaves, upstream)
        return *first, *torch.autograd.grad(rsample(*leaves[1:]), leaves[1:], vectors)

    expected = grads(x, mu, kappa, upstream, vectors)
    for i in range(5):
        arguments = (*layouts(x),)[i], (*layouts(mu),)[i], (*layouts(kappa),)[i]
        actual = grads(*arguments, (*layouts(upstream),)[i], (*layouts(vectors),)[i])
        close(actual, expected, **exact)
    for one_value in (vectors[:1, :1, :1], vectors[..., :1]):  # as sum().backward() makes it
        uniform = one_value.expand_as(vectors)
        expected = grads(x, mu, kappa, upstream, uniform.contiguous())
        close(grads(x, mu, kappa, upstream, uniform), expected, **exact)


SHAPES = [
    ((), (), ()),
    ((7,), (), ()),
    ((), (7,), ()),
    ((), (), (7,)),
    ((2, 1), (3,), ()),
    ((4, 1, 2, 1), (3, 1, 1), (1, 1, 2, 5)),
    ((2, 1, 3, 1, 2), (2, 1, 2, 1), (1, 3, 1, 1)),
    ((0,), (), (1,)),
    ((3, 0), (1, 1), ()),
]


@both_paths
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_broadcasting(shapes):
    """As with expanded tensors; and each gradient has the shape of its tensor."""
    x, mu, kappa = (inputs(*shape)[i] for i, shape in enumerate(shapes))
    batch = torch.broadcast_shapes(*shapes)
    tensors = [tensor.detach().requires_grad_() for tensor in (x, mu, kappa)]
    expanded = [t.detach().expand(*batch, 5).clone().requires_grad_() for t in tensors[:2]] + [
        kappa.detach().expand(batch).clone().requires_grad_()
    ]
    for function, n in ((log_prob, 0), (rsample, 1)):
        output, expected = function(*tensors[n:]), function(*expanded[n:])
        if function is log_prob:
            assert output.shape == batch
            close(output, expected, rtol=0, atol=0)
        else:
            sample_batch = torch.broadcast_shapes(*shapes[1:])
            assert output.shape == (*sample_batch, 5)
        if output.shape != expected.shape:  # x adds batch dimensions that a sample has not
            continue
        close(output, expected, rtol=0, atol=0)
        upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).double()
        grads = torch.autograd.grad(output, tensors[n:], upstream)
        loop = torch.autograd.grad(expected, expanded[n:], upstream)
        for grad, full, tensor in zip(grads, loop, tensors[n:], strict=True):
            assert grad.shape == tensor.shape
            close(grad, full.sum_to_size(tensor.shape))


# 600 terms are added up in three parts, the rest at once.
EXPANDED = [((600,), ()), ((600, 3), (3,)), ((3, 600), (3, 1)), ((300, 1), (1, 4)), ((), (600,))]


@needs_kernels
@each_family
@pytest.mark.parametrize(("value_batch", "loc_batch"), EXPANDED, ids=str)
def test_gradients_of_expanded_vectors_are_summed(value_batch, loc_batch):
    """To the gradients of their copies, with the same bits on any number of threads."""
    d = 70
    value, loc = inputs(*value_batch, d=d)[0], inputs(*loc_batch, d=d)[1]
    kappa = inputs(*torch.broadcast_shapes(value_batch, loc_batch))[2]
    upstream = torch.randn(kappa.shape, generator=torch.Generator().manual_seed(0)).double()
    sample = raw.rsample(loc, kappa, STATE, op_calls.FAMILY.index)
    grad = torch.randn(sample.shape, generator=torch.Generator().manual_seed(0)).double()
    calls = [
        (
            raw.log_prob_backward,
            (upstream, value, loc, kappa, op_calls.FAMILY.index),
            (value, loc, kappa),
        ),
        (raw.rsample_backward, (grad, sample, loc, kappa, op_calls.FAMILY.index), (loc, kappa)),
    ]
    for op, arguments, tensors in calls:
        for full, summed, tensor in zip(
            op(*arguments, 7), op(*arguments, 15), tensors, strict=True
        ):
            assert summed.shape == tensor.shape
            close(summed, full.sum_to_size(tensor.shape))
        single = [x.float() if isinstance(x, torch.Tensor) else x for x in arguments]
        for wide, narrow in zip(op(*arguments, 15), op(*single, 15), strict=True):
            size = float(wide.abs().max())
            close(narrow.double(), wide, rtol=0, atol=1e-4 * size)
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            one = op(*single, 15)
            torch.set_num_threads(3)
            three = op(*single, 15)
        finally:
            torch.set_num_threads(threads)
        assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


MEMORY = """
import resource, torch
from powerspherical_ext import PowerSpherical
n, d = 16384, 1024
value = torch.full((n, d), d**-0.5, dtype=torch.bfloat16)
loc, kappa = value[0].clone().requires_grad_(), torch.ones(n, requires_grad=True)
def step(n):
    PowerSpherical(loc, kappa[:n], validate_args=False).log_prob(value[:n]).sum().backward()
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step(64)
before = peak()
step(n)
print((peak() - before) / (4 * n * d / 1024))
"""


@pytest.mark.slow
@needs_kernels
def test_no_temporary_of_the_size_of_a_batch():
    """Neither value nor loc is converted or expanded, nor are the gradients of the rows kept."""
    result = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    assert float(result.stdout) < 0.2  # of the memory of a float32 tensor (n, d)


@both_paths
def test_only_wanted_gradients_are_computed():
    x, mu, kappa = inputs(4)
    for wanted in [(0,), (1,), (2,), (0, 2), (1, 2), (0, 1, 2)]:
        tensors = [t.detach().requires_grad_(i in wanted) for i, t in enumerate((x, mu, kappa))]
        log_prob(*tensors).sum().backward()
        assert [t.grad is not None for t in tensors] == [i in wanted for i in range(3)]
        if wanted != (0,):
            tensors = [t.detach().requires_grad_(i in wanted) for i, t in enumerate((x, mu, kappa))]
            rsample(*tensors[1:]).sum().backward()
            assert [t.grad is not None for t in tensors[1:]] == [i in wanted for i in (1, 2)]
    with torch.no_grad():
        assert not log_prob(*inputs(4, grad=True)).requires_grad
    with torch.inference_mode():
        log_prob(*inputs(4))
        rsample(*inputs(4)[1:])


# Dtypes

HALVES = [torch.bfloat16, torch.float16]


def all_numbers(dtype):
    """Every number of a half-precision dtype, infinities and NaN too, shape (32768, 2)."""
    return torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype).reshape(-1, 2)


@needs_kernels
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("compute", [torch.float32, torch.float64], ids=str)
def test_every_half_precision_number_is_read_exactly(dtype, compute):
    x = all_numbers(dtype)
    mu = torch.tensor([0.75, -0.5], dtype=dtype)
    kappa = torch.tensor(1.5, dtype=compute)
    expected = raw.log_prob(x.to(compute), mu.to(compute), kappa, op_calls.FAMILY.index)
    close(
        raw.log_prob(x, mu, kappa, op_calls.FAMILY.index), expected, rtol=0, atol=0, equal_nan=True
    )


@needs_kernels
@each_family
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("compute", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("d", [3, 70])
def test_half_precision_is_converted_by_the_kernels(dtype, compute, d):
    """The bits of what converted inputs give; a gradient is rounded once, to its tensor's dtype,
    be it subnormal or infinite there."""
    x, mu, kappa = inputs(500, d=d, dtype=compute)
    scale = torch.logspace(-9, 6, 500, dtype=compute)
    x, mu = x.to(dtype), mu.to(dtype)
    wide_x, wide_mu = x.to(compute), mu.to(compute)
    expected = raw.log_prob_backward(scale, wide_x, wide_mu, kappa, op_calls.FAMILY.index, 7)
    actual = raw.log_prob_backward(scale, x, mu, kappa, op_calls.FAMILY.index, 7)
    assert torch.equal(actual[0], expected[0].to(dtype))
    assert torch.equal(actual[1], expected[1].to(dtype))
    assert torch.equal(actual[2], expected[2])
    sample = raw.rsample(mu, kappa, STATE, op_calls.FAMILY.index)
    assert torch.equal(sample, raw.rsample(wide_mu, kappa, STATE, op_calls.FAMILY.index))
    arguments = scale[:, None] * sample, sample
    expected = raw.rsample_backward(*arguments, wide_mu, kappa, op_calls.FAMILY.index, 6)
    actual = raw.rsample_backward(*arguments, mu, kappa, op_calls.FAMILY.index, 6)
    assert torch.equal(actual[0], expected[0].to(dtype))
    assert torch.equal(actual[1], expected[1])


# Mixed precision


@both_paths
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype):
    """Half-precision inputs are widened, not computed in half precision; gradients come back in the
    dtype of their tensors."""
    x, mu, kappa = inputs(6, d=64, dtype=dtype)
    expected = log_prob(*(tensor.float() for tensor in (x, mu, kappa)))
    for tensors in [(x, mu, kappa), (x, mu.float(), kappa.float()), (x.float(), mu, kappa)]:
        leaves = [tensor.detach().requires_grad_() for tensor in tensors]
        with torch.autocast("cpu", dtype):
            actual = log_prob(*leaves)
            samples = rsample(*leaves[1:])
        assert actual.dtype == torch.float32
        close(actual, expected)
        (actual.sum() + samples.sum()).backward()
        for leaf in leaves:
            assert leaf.grad.dtype == leaf.dtype
            assert leaf.grad.isfinite().all()
    with torch.autocast("cpu", dtype):
        projected = torch.nn.functional.linear(x.float(), torch.eye(64))
        assert projected.dtype == dtype
        p = op_calls.DISTRIBUTION(torch.nn.functional.normalize(mu.float(), dim=-1), kappa.float())
        assert p.log_prob(projected).dtype == torch.float32
        assert p.sample().dtype == p.entropy().dtype == torch.float32
