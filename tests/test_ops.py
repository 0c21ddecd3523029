"""The raw ops under torch.library, and every way a torch program can call them."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch
from cases import CONCENTRATED, POWER_SPHERICAL, at_distance, each_float, needs_kernels, path, unit
from torch import func
from torch.autograd import forward_ad

from powerspherical_ext import HypersphericalUniform, PowerSpherical, ops, reference

FAMILY, DISTRIBUTION = reference.POWER_SPHERICAL, PowerSpherical  # unless a test asks for each
both_paths = pytest.mark.usefixtures(path.__name__)
pytestmark = pytest.mark.filterwarnings(  # within torch.func and torch._dynamo
    "ignore:.*torch.jit.script:DeprecationWarning",
    "ignore:.*should not be instantiated:DeprecationWarning",
)
raw = torch.ops.powerspherical_ext


@pytest.fixture(params=CONCENTRATED, ids=str)
def family(request, monkeypatch):
    """Runs a test, and what it calls of this module, with each family."""
    module = sys.modules[__name__]
    monkeypatch.setattr(module, "FAMILY", request.param.index)
    monkeypatch.setattr(module, "DISTRIBUTION", request.param.distribution)
    return request.param


each_family = pytest.mark.usefixtures("family")


def close(actual, expected, **tolerances):
    torch.testing.assert_close(actual, expected, **tolerances)


def inputs(*batch, d=5, dtype=torch.float64, grad=False):
    """value, loc, concentration of one batch shape."""
    loc = unit(*batch, d, dtype=dtype)
    value = unit(*batch, d, dtype=dtype, seed=1)
    kappa = 1 + 20 * torch.rand(batch, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return [tensor.requires_grad_(grad) for tensor in (value, loc, kappa)]


def log_prob(value, loc, kappa):
    return ops.log_prob(value, loc, kappa, FAMILY)


STATE = torch.tensor([3, 4])


def rsample(loc, kappa):
    return ops.rsample(loc, kappa, STATE, FAMILY)


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
        output = raw.log_prob(*batch, FAMILY)
        sample = raw.rsample(loc, concentration, STATE, FAMILY)
        yield raw.log_prob.default, (*batch, FAMILY)
        yield raw.rsample.default, (loc, concentration, STATE, FAMILY)
        for wanted in (0, 1, 2, 4, 7, 15):
            yield raw.log_prob_backward.default, (output, *batch, FAMILY, wanted)
            arguments = (sample, sample, loc, concentration, FAMILY, wanted)
            yield raw.rsample_backward.default, arguments
            arguments = (output, loc, batch[0], concentration, FAMILY, 0.5, wanted)
            yield raw.vi_simsiam_loss.default, arguments
    half, k = mu.bfloat16(), kappa.float()
    yield raw.vi_simsiam_loss.default, (k, half, half, k, FAMILY, 0.0, 7)
    yield raw.multiply_.default, (torch.ones(3, dtype=dtype), torch.tensor(0.5, dtype=dtype))
    for function in range(len(ops.IN_KAPPA)):
        yield raw.in_kappa.default, (kappa.mT, 5, FAMILY, function)
    y = torch.rand(3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    for other, function in itertools.product(range(2), range(4)):
        yield raw.kl.default, (kappa, 2 * kappa[:, :1], y, 1 - y, 5, FAMILY, other, function)


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
        (
            lambda x, mu, k: raw.log_prob(x.double(), mu, k, FAMILY),
            "value must .* no higher precision",
        ),
        (
            lambda x, mu, k: raw.log_prob(x.half(), mu.half(), k.half(), FAMILY),
            "float32 or float64",
        ),
        (lambda x, mu, k: raw.log_prob(x[:, :4], mu, k, FAMILY), "mu has dimension 5, expected 4"),
        (lambda x, mu, k: raw.log_prob(x[:, :1], mu[:, :1], k, FAMILY), "d >= 2, got 1"),
        (lambda x, mu, k: raw.log_prob(x[0, 0], mu, k, FAMILY), "value must have at least one"),
        (
            lambda x, mu, k: raw.log_prob(x[:2], mu, k, FAMILY),
            "broadcast: size 3 against 2",
        ),
        (lambda x, mu, k: raw.log_prob(x, mu, k, 99), "no family has index 99"),
        (lambda x, mu, k: raw.log_prob(x, mu, k, -1), "no family has index -1"),
        (lambda x, mu, k: raw.rsample(mu, k, STATE.int(), FAMILY), "rng_state must be int64"),
        (lambda x, mu, k: raw.rsample(mu, k, STATE[:1], FAMILY), r"rng_state must be .* \(2,\)"),
        (
            lambda x, mu, k: raw.rsample(mu.double(), k, STATE, FAMILY),
            "mu must .* no higher precision",
        ),
        (lambda x, mu, k: raw.rsample_backward(x, x, mu, k[:2], FAMILY, 7), "does not broadcast"),
        (
            lambda x, mu, k: raw.log_prob_backward(k, x, mu[:, :3], k, FAMILY, 7),
            "mu has dimension 3",
        ),
    ],
    ids=range(13),
)
def test_wrong_calls(call, message):
    with pytest.raises(RuntimeError, match=message):
        call(*inputs(3, dtype=torch.float32))


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
    sample = raw.rsample(loc, kappa, STATE, FAMILY)
    grad = torch.randn(sample.shape, generator=torch.Generator().manual_seed(0)).double()
    calls = [
        (raw.log_prob_backward, (upstream, value, loc, kappa, FAMILY), (value, loc, kappa)),
        (raw.rsample_backward, (grad, sample, loc, kappa, FAMILY), (loc, kappa)),
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
    expected = raw.log_prob(x.to(compute), mu.to(compute), kappa, FAMILY)
    close(raw.log_prob(x, mu, kappa, FAMILY), expected, rtol=0, atol=0, equal_nan=True)


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
    expected = raw.log_prob_backward(scale, wide_x, wide_mu, kappa, FAMILY, 7)
    actual = raw.log_prob_backward(scale, x, mu, kappa, FAMILY, 7)
    assert torch.equal(actual[0], expected[0].to(dtype))
    assert torch.equal(actual[1], expected[1].to(dtype))
    assert torch.equal(actual[2], expected[2])
    sample = raw.rsample(mu, kappa, STATE, FAMILY)
    assert torch.equal(sample, raw.rsample(wide_mu, kappa, STATE, FAMILY))
    arguments = scale[:, None] * sample, sample
    expected = raw.rsample_backward(*arguments, wide_mu, kappa, FAMILY, 6)
    actual = raw.rsample_backward(*arguments, mu, kappa, FAMILY, 6)
    assert torch.equal(actual[0], expected[0].to(dtype))
    assert torch.equal(actual[1], expected[1])


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
        expected = reference.log_prob(*tensors, FAMILY)
        size = 1 + kappa_value * 7 + d  # of the terms that cancel
        close(actual, expected, rtol=0, atol=20 * eps * size)
        ours, theirs = (torch.autograd.grad(f.sum(), tensors) for f in (actual, expected))
        for our, their in zip(ours, theirs, strict=True):
            scale = their.abs().amax(-1, keepdim=True) if their.dim() > 1 else their.abs() + 7
            assert ((our - their).abs() <= 200 * eps * scale).all(), kappa_value
        arguments = unit(6, d, dtype=dtype, seed=3), x.detach(), mu.detach(), kappa.detach(), FAMILY
        ours = raw.rsample_backward(*arguments, 7)
        theirs = reference.rsample_backward(*arguments)
        close(ours[0], theirs[0], rtol=0, atol=50 * eps)
        scale = theirs[1].abs().max().item()
        if family is not POWER_SPHERICAL:  # claimed for samples only, and not where p < e^-60 p(mu)
            reached = kappa.detach() * y < 30
            ours, theirs = ([grad[reached] for grad in grads] for grads in (ours, theirs))
        close(ours[1], theirs[1], rtol=300 * eps, atol=300 * eps * scale)
        for function in ops.IN_KAPPA:
            slopes = []
            for result in (
                ops.in_kappa(function, kappa, d, FAMILY),
                getattr(reference.FAMILIES[FAMILY], function)(kappa, d),
            ):
                grad = torch.autograd.grad(result.sum(), kappa, allow_unused=True)
                slopes.append((result.detach(), grad[0] if grad[0] is not None else 0 * kappa))
            for our, their in zip(*slopes, strict=True):
                close(our, their, rtol=50 * eps, atol=10 * eps)


@each_family
@each_float
def test_without_kernels_everything_works(dtype, monkeypatch):
    monkeypatch.setattr(ops, "_KERNEL_DEVICES", ())
    monkeypatch.setattr(ops, "_raw", None)  # nothing may touch the library
    loc, kappa = (tensor.requires_grad_() for tensor in inputs(4, dtype=dtype)[1:])
    p = DISTRIBUTION(loc, kappa)
    x = p.rsample((2,))
    (p.log_prob(x).sum() + p.entropy().sum() + p.mean.sum() + p.variance.sum()).backward()
    assert loc.grad.isfinite().all()
    assert kappa.grad.isfinite().all()
    assert HypersphericalUniform(5, dtype=dtype).sample((3,)).dtype == dtype


# Transforms


def test_the_private_names_still_answer():
    """ops.transform_active asks torch by names that are not public."""
    seen = []

    def spy(x):
        seen.append(ops.transform_active())
        return x.sum()

    x = torch.ones(3)
    spy(x)
    func.vmap(spy)(x.view(3, 1))
    func.grad(spy)(x)
    func.jvp(spy, (x,), (x,))
    with forward_ad.dual_level():
        spy(forward_ad.make_dual(x, x))
    spy(x)
    assert seen == [False, True, True, True, True, False]


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
    entropy = func.vmap(lambda m, k: DISTRIBUTION(m, k, validate_args=False).entropy())
    close(entropy(mu, kappa), DISTRIBUTION(mu, kappa).entropy())


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
    x = ops.rsample(loc, kappa, STATE, FAMILY)
    p = DISTRIBUTION(loc, kappa, validate_args=False)
    return (p.log_prob(value) + x.sum(-1) + p.entropy()).sum()


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
        return DISTRIBUTION(loc, kappa, validate_args=False).rsample((2,))

    torch.manual_seed(0)
    one, two = draw(loc, kappa), draw(loc, kappa)
    torch.manual_seed(0)
    assert torch.equal(one, draw(loc, kappa))
    assert not torch.equal(one, two)
    torch.manual_seed(0)
    close(one, DISTRIBUTION(loc, kappa).rsample((2,)))
    torch.compiler.reset()


@each_family
@needs_kernels
def test_export():
    class Density(torch.nn.Module):
        def forward(self, value, loc, kappa):
            return DISTRIBUTION(loc, kappa, validate_args=False).log_prob(value)

    tensors = tuple(inputs(4))
    batch = torch.export.Dim("batch", min=2)
    shapes = ({0: batch}, {0: batch}, {0: batch})
    program = torch.export.export(Density(), tensors, dynamic_shapes=shapes)
    more = inputs(9)
    close(program.module()(*more), Density()(*more))
    assert any("powerspherical_ext" in str(node.target) for node in program.graph.nodes)


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
        p = DISTRIBUTION(torch.nn.functional.normalize(mu.float(), dim=-1), kappa.float())
        assert p.log_prob(projected).dtype == torch.float32
        assert p.sample().dtype == p.entropy().dtype == torch.float32


@both_paths
def test_rng_state_covers_64_bits():
    """Both words of seed and offset matter."""
    _, mu, kappa = inputs(1)
    states = [(0, 0), (1, 0), (1 << 40, 0), (0, 1), (0, 1 << 40), (-1, 0), (0, -1)]
    samples = [ops.rsample(mu, kappa, torch.tensor(state), FAMILY) for state in states]
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
