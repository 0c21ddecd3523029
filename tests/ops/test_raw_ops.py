"""What the raw ops make of unusual tensors: widths, sizes, numbers of dimensions, memory."""

from __future__ import annotations

import itertools

import op_calls
import pytest
import torch
from cases import close, each_float, needs_kernels, path, unit
from op_calls import ARGUMENTS, STATE, call_raw, inputs, log_prob, operands, raw, rsample

from powerspherical_ext import _kernels, ops

pytestmark = needs_kernels
both_paths = pytest.mark.usefixtures(path.__name__)
each_op = pytest.mark.parametrize("name", ARGUMENTS)

OF_TENSORS = [name for name in ARGUMENTS if "v" in operands(name)]


def tensors_of(name, *batch, d=5, dtype=torch.float32):
    """One tensor for each operand; those of kl are a half angle, and all concentrations are 0.5."""
    scalars, vectors = torch.full(batch, 0.5, dtype=dtype), unit(*batch, d, dtype=dtype)
    return [vectors if kind == "v" else scalars for kind in operands(name)]


# Widths


@pytest.mark.parametrize("width", [0, 1, 4, 6])
@pytest.mark.parametrize("name", OF_TENSORS)
def test_vectors_of_different_widths_are_refused(name, width):
    kinds = operands(name)
    vectors = [i for i, kind in enumerate(kinds) if kind == "v"]
    for changed in itertools.chain.from_iterable(
        itertools.combinations(vectors, n) for n in range(1, len(vectors) + (width < 2))
    ):
        for cut in (torch.empty(3, width), torch.randn(3, 9)[:, :width]):
            tensors = tensors_of(name, 3)
            for i in changed:
                tensors[i] = cut
            for device in ("cpu", "meta"):
                with pytest.raises(RuntimeError, match=r"dimension.*, expected|d >= 2, got"):
                    call_raw(name, [x.to(device) for x in tensors], state=STATE.to(device))


@each_op
def test_tensors_on_two_devices_are_refused(name):
    """Torch sends them to the kernel for meta tensors, which gives results no values."""
    for i in range(len(operands(name))):
        tensors = tensors_of(name, 3)
        if len(tensors) > 1:
            tensors[i] = tensors[i].to("meta")
            with pytest.raises(RuntimeError, match="must be on one device, got cpu and meta"):
                call_raw(name, tensors)


# Sizes


@each_op
@pytest.mark.parametrize("needs_grad", [0, 7, 15])
def test_too_many_rows(name, needs_grad):
    """2^80 rows are refused; so are 2^45, but where no result has as many."""
    tensors = tensors_of(name, 1, 1)
    huge = [x.expand(1 << 40, *x.shape[1:]) for x in tensors]
    if len(huge) > 1:
        crossed = [huge[0].transpose(0, 1), *huge[1:]]
        with pytest.raises(RuntimeError, match=r"product of the sizes .* exceeds|overflow"):
            call_raw(name, crossed, needs_grad=needs_grad)
    huge = [x.expand(1 << 45, *x.shape[1:]) for x in tensors]
    if needs_grad == 0 and name.endswith("backward"):
        assert all(x.shape == (0,) for x in call_raw(name, huge, needs_grad=0))
    else:
        with pytest.raises(RuntimeError, match="DefaultCPUAllocator: can't allocate memory"):
            call_raw(name, huge, needs_grad=needs_grad)


@each_op
@each_float
@pytest.mark.parametrize("batch", [(0,), (3, 0), (0, 3)])
def test_empty_batches(name, batch, dtype):
    """Also where some operands are expanded; a gradient that is summed is then 0."""
    kinds, full = operands(name), tensors_of(name, *batch, dtype=dtype)
    single = tensors_of(name, dtype=dtype)
    for expanded in itertools.product([False, True], repeat=len(kinds)):
        tensors = [s if e else f for f, s, e in zip(full, single, expanded, strict=True)]
        results = call_raw(name, tensors, needs_grad=15)
        shape = () if all(expanded) else batch
        shapes = {(*shape,), (*shape, 5)} | {(*x.shape,) for x in tensors}
        shapes |= {()} if name == "log_prob_on_sphere" else set()  # its second result
        assert {(*x.shape,) for x in results} <= shapes
        if not all(expanded):
            assert all((x == 0).all() for x in results if x.numel())


# Layouts


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@each_float
def test_uniform_gradient_in_another_precision(dtype, stored):
    """sum().backward() makes gradients whose rows are one value with stride 0."""
    if stored is dtype:
        pytest.skip("the same precision")
    _, mu, kappa = inputs(4, dtype=dtype)
    sample = raw.rsample(mu, kappa, STATE, op_calls.FAMILY.index)
    for grad in (torch.tensor(1.5), torch.randn(4, 1)):
        uniform = grad.to(stored).expand(4, 5)
        arguments = (sample, mu, kappa, op_calls.FAMILY.index, 7)
        expected = raw.rsample_backward(uniform.to(dtype).contiguous(), *arguments)
        close(raw.rsample_backward(uniform, *arguments), expected, rtol=0, atol=0)


@each_float
@pytest.mark.parametrize("n", [3, 70])
@pytest.mark.parametrize("d", [3, 16, 40])
def test_one_law_has_the_bits_of_its_copies(d, n, dtype):
    """Its mean direction is converted once for all rows, unless they are few."""
    value, mu, grads = (unit(n, d, dtype=dtype, seed=seed) for seed in range(3))
    grad, kappa = torch.rand(2, n, dtype=dtype)

    def results(mu):
        law = (mu, kappa, op_calls.FAMILY.index)
        yield raw.log_prob(value, *law)
        yield from raw.log_prob_backward(grad, value, *law, 7)
        yield from raw.rsample_backward(grads, value, *law, 7)

    shared, copied = results(mu[:1].expand(n, d)), results(mu[:1].repeat(n, 1))
    assert all(torch.equal(a, b) for a, b in zip(shared, copied, strict=True))


MANY = 10  # dimensions that do not merge; the kernels have room for eight


def scrambled(x, *dims):
    """The same values; its first dimensions are stored in another order."""
    order = [*reversed(dims), *range(len(dims), x.dim())]
    return x.permute(order).contiguous().permute(order)


@each_op
def test_many_batch_dimensions(name):
    kinds, generator = operands(name), torch.Generator().manual_seed(0)
    batch = (2,) * MANY
    tensors = []
    for i, kind in enumerate(kinds):
        # Every third operand is expanded in every other dimension.
        own = [1 if i % 3 == 2 and j % 2 else 2 for j in range(MANY)]
        x = torch.rand(*own, *((5,) if kind == "v" else ()), generator=generator) * 0.9
        tensors.append(scrambled(x, *range(MANY)) if i % 2 else x)
    flat = [
        x.expand(*batch, *x.shape[MANY:]).reshape(-1, *x.shape[MANY:]).contiguous() for x in tensors
    ]
    expected = [x.reshape(*batch, *x.shape[1:]) if x.dim() else x for x in call_raw(name, flat)]
    single = tensors if len(tensors) > 1 else [scrambled(x, *range(MANY)) for x in tensors]
    close(list(call_raw(name, single)), expected, rtol=0, atol=0)


@both_paths
def test_many_batch_dimensions_in_backward():
    shape = (2,) * MANY
    value, loc, kappa = inputs(*shape)
    value, kappa = scrambled(value, *range(MANY)), scrambled(kappa, *range(MANY))
    loc = loc[(slice(None), slice(1)) * (MANY // 2)]
    leaves = [x.requires_grad_() for x in (value, loc, kappa)]
    flat = [
        x.detach().expand(*shape, *x.shape[MANY:]).reshape(-1, *x.shape[MANY:]).requires_grad_()
        for x in leaves
    ]
    for x, y, n in ((log_prob, log_prob, 0), (rsample, rsample, 1)):
        ours, theirs = x(*leaves[n:]), y(*flat[n:])
        close(ours.flatten(), theirs.flatten())
        upstream = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1)).double()
        grads = torch.autograd.grad(ours, leaves[n:], upstream)
        expected = torch.autograd.grad(theirs, flat[n:], upstream.reshape(theirs.shape))
        for grad, full, leaf in zip(grads, expected, leaves[n:], strict=True):
            close(grad, full.reshape(*shape, *leaf.shape[MANY:]).sum_to_size(leaf.shape))
    with pytest.raises(RuntimeError, match="more than 8 batch dimensions cannot be summed here"):
        call_raw(
            "log_prob_backward", [kappa.detach(), *(x.detach() for x in leaves)], needs_grad=15
        )


# Memory


@both_paths
def test_out_of_memory_is_the_error_of_torch():
    """With its text, by which programs recognise it."""
    loc, kappa = unit(1, 2).expand(1 << 45, 2), torch.ones((), dtype=torch.float64)
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 49, dtype=torch.uint8)
    torchs = str(error.value).partition(" bytes.")[0].partition("DefaultCPU")[2]
    assert torchs
    for call in (
        lambda: ops.rsample(loc, kappa, STATE, op_calls.FAMILY),
        lambda: ops.log_prob(loc, loc[0], kappa, op_calls.FAMILY),
        lambda: ops.scalar_function(0, kappa.expand(1 << 45), 5, op_calls.FAMILY),
    ):
        with pytest.raises(RuntimeError, match="DefaultCPUAllocator: can't allocate memory"):
            call()
    rows = loc.requires_grad_()
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator: can't allocate memory"):
        ops.rsample(rows, kappa, STATE, op_calls.FAMILY)


def test_out_of_memory_of_cuda_keeps_its_type(monkeypatch):
    """The kernels name bytes and device; torch's allocator then raises its own error."""

    def full(*shape, dtype, device):
        assert (shape, dtype, device) == ((123,), torch.uint8, "cuda:1")
        raise torch.OutOfMemoryError("CUDA out of memory.")

    def kernel(*_):
        raise RuntimeError("powerspherical_ext: cannot allocate 123 bytes on cuda:1: who knows")

    monkeypatch.setattr(_kernels.torch, "empty", full)
    monkeypatch.setattr(raw.kl.default, "_op", kernel)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        _kernels.raw_op("kl")[1]()
    monkeypatch.setattr(_kernels.torch, "empty", lambda *_, **__: None)  # there is room now
    with pytest.raises(RuntimeError, match="cannot allocate 123 bytes on cuda:1: who knows"):
        _kernels.raw_op("kl")[1]()


@each_op
@pytest.mark.parametrize("family", [99, 0])
def test_errors_release_the_operands(name, family):
    tensors = [x.clone() for x in tensors_of(name, 3)]
    if (
        family == 0 or "family" not in ARGUMENTS[name]
    ):  # the error is found as the last operand is read
        tensors[-1] = tensors[-1].int()
    before = [x._use_count() for x in tensors]
    for _ in range(3):
        with pytest.raises(RuntimeError):
            call_raw(name, tensors, family=family)
    assert [x._use_count() for x in tensors] == before
