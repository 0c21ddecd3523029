"""ops.vi_simsiam_loss: against mpmath, against the reference, in every way a program calls it."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import mpmath
import pytest
import torch
from cases import (
    CONCENTRATED,
    UNIFORM,
    cached_log_normalizer,
    concentration_at,
    exact_log_prob,
    exact_y,
    ignores_warnings_of_torch,
    needs_kernels,
    path,
)
from mpmath import mpf
from torch import func
from torch.utils._python_dispatch import TorchDispatchMode

from powerspherical_ext import ops, reference
from powerspherical_ext.families import FAMILIES

both_paths = pytest.mark.usefixtures(path.__name__)
each_family = pytest.mark.parametrize("family", CONCENTRATED, ids=str)
each_half = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
pytestmark = ignores_warnings_of_torch


def inputs(*batch, d=5, dtype=torch.float64, grad=True, family=FAMILIES[0]):
    """pred, target, kappa; no vector is normalised."""
    generator = torch.Generator().manual_seed(0)
    pred, noise = (torch.randn(*batch, d, generator=generator).to(dtype) for _ in range(2))
    wide = torch.promote_types(dtype, torch.float32)
    kappa = concentration_at(family, (1 + 3 * d * torch.rand(batch, generator=generator)).to(wide))
    return [x.requires_grad_(grad) for x in (pred, (2 * pred + noise).to(dtype), kappa)]


def composed(pred, target, kappa, family, beta=0.0):
    """The same from the density of unit vectors."""
    mu, x = (torch.nn.functional.normalize(v, dim=-1) for v in (pred, target))
    return -(
        reference.log_prob(x, mu, kappa, family.reference) + reference.log_area(pred.shape[-1])
    )


# Against the truth


def relative_to_uniform(family, target, pred, kappa):
    """The loss of one pair."""
    log_p = exact_log_prob(family, target, pred, kappa.item())
    return cached_log_normalizer(UNIFORM, len(pred), 0.0) - log_p


def angles(d, angle, dtype):
    """pred and target at that angle, in dtype, of lengths that differ."""
    generator = torch.Generator().manual_seed(d)
    mu, v = torch.linalg.qr(torch.randn(d, 2, generator=generator, dtype=torch.float64))[0].T
    x = torch.cos(torch.tensor(angle)) * mu + torch.sin(torch.tensor(angle)) * v
    return (3 * mu).to(dtype), (0.2 * x).to(dtype)


@both_paths
@each_family
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("angle", [1e-6, 1e-3, 0.1, 0.3, 1.5, 3.0, 3.14, 3.141592])
def test_value_and_gradient_are_exact_at_every_angle(angle, dtype, family, path):
    """The gradient of pred is -f'(t) (x - t m)/|pred|, evaluated with the vectors as they are."""
    eps = torch.finfo(dtype).eps
    for d, kappa in itertools.product((2, 3, 40), (0.5, 30.0)):
        pred, target = angles(d, angle, dtype)
        concentration = family.at(torch.tensor(kappa, dtype=dtype))
        y, k = exact_y(target, pred), mpf(concentration.item())
        ratio_to_mode = family.log_density(d, k, y) - family.log_density(d, k, mpf(0))
        truth = relative_to_uniform(family, target, pred, concentration)
        leaves = [pred.requires_grad_(), target.requires_grad_(), concentration]
        loss = ops.vi_simsiam_loss(*leaves, family.declared)
        if family.declared.exponential_form:
            size = abs(truth) + kappa * (1 + abs(mpmath.log(1 - y)))
        else:
            size = abs(truth) + abs(ratio_to_mode)
        # The reference normalises first, which costs digits of the angle; near the mode they do not
        # matter to the value.
        lost = 1 if path == "kernels" else 1 / (3.1415927 - angle)
        assert abs(loss.item() - truth) < 10 * eps * size * lost
        if path == "reference" and dtype == torch.float32:
            continue
        for own, other, grad in zip(
            (pred, target),
            (target, pred),
            torch.autograd.grad(loss, leaves[:2]),
            strict=True,
        ):
            a, b = ([mpf(v) for v in x.tolist()] for x in (own, other))
            aa, bb = mpmath.fdot(a, a), mpmath.fdot(b, b)
            ratio = mpmath.fdot(a, b) / aa
            dy, dy2 = (mpmath.diff(partial(family.log_density, d, k), y, order) for order in (1, 2))
            slope = -dy / 2
            exact = [
                -slope / mpmath.sqrt(aa * bb) * (q - ratio * p) for p, q in zip(a, b, strict=True)
            ]
            error = mpmath.norm([mpf(g) - e for g, e in zip(grad.tolist(), exact, strict=True)])
            roundings = 30 if path == "kernels" else 30 / min(angle, 3.1415927 - angle)
            if not family.declared.exponential_form:  # y has lost up to 6 bits to the dot product
                roundings += 64 * abs(y * dy2 / dy)
            assert error <= roundings * eps * mpmath.norm(exact)


@both_paths
@each_family
@pytest.mark.parametrize("d", [2, 8, 2048])
def test_loss_vanishes_with_kappa(d, family):
    """Exactly 0 at kappa = 0, and to all digits above."""
    pred, target, _ = (x.detach() for x in inputs(6, d=d, dtype=torch.float32))
    zero = torch.zeros(6)
    assert torch.equal(ops.vi_simsiam_loss(pred, target, zero, family.declared).abs(), zero)
    kappa = family.at(torch.full((6,), 1e-4))
    rows = zip(target, pred, kappa, strict=True)
    truth = [float(relative_to_uniform(family, *row)) for row in rows]
    loss = ops.vi_simsiam_loss(pred, target, kappa, family.declared)
    scale = kappa * family.declared.reference.log_prob_at_mode_dkappa(kappa, d)
    error = loss - torch.tensor(truth, dtype=torch.float64)
    assert (error.abs() < 4e-6 * scale).all()


@both_paths
@each_family
def test_composed_of_the_density(family):
    for d in (2, 17, 300):
        leaves = inputs(9, d=d, family=family.declared)
        expected = composed(*leaves, family.declared)
        loss = ops.vi_simsiam_loss(*leaves, family.declared)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-11)
        grads = (torch.autograd.grad(f.sum(), leaves) for f in (loss, expected))
        torch.testing.assert_close(*grads, rtol=1e-11, atol=1e-13)


@both_paths
@each_family
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_vectors_without_a_direction(dtype, family):
    """The loss of a right angle; no gradient, and none that is NaN."""
    pred, target, kappa = (x.detach() for x in inputs(5, d=4, dtype=dtype, family=family.declared))
    pred[0], target[1], pred[2], target[2] = 0, 0, 0, 0
    if dtype != torch.float16:
        pred[3] = 1e-13 * pred[3]
    leaves = [x.requires_grad_() for x in (pred, target, kappa)]
    loss = ops.vi_simsiam_loss(*leaves, family.declared)
    axes = torch.eye(4, dtype=kappa.dtype)
    right_angle = ops.vi_simsiam_loss(axes[0], axes[1], kappa, family.declared)
    n = 3 if dtype == torch.float16 else 4
    torch.testing.assert_close(loss[:n], right_angle[:n])
    for scale in (None, 1.0):
        total = ops.vi_simsiam_loss(*leaves, family.declared, 0.0, scale)
        grads = torch.autograd.grad(total.sum(), leaves)
        for grad in grads:
            assert grad.isfinite().all()
        for grad in grads[:2]:
            assert (grad[:n] == 0).all()
            assert (grad[4] != 0).any()


@both_paths
def test_antipodes():
    """An impossible target costs infinity, and has no gradient that is NaN."""
    pred, _, kappa = (x.detach() for x in inputs(3, d=4, dtype=torch.float64))
    leaves = [x.requires_grad_() for x in (pred.round(), -2 * pred.round(), kappa)]
    for beta in (0.0, 0.5, 1.0):
        loss = ops.vi_simsiam_loss(*leaves, FAMILIES[0], beta)
        assert (loss == torch.inf).all()
        for grad in torch.autograd.grad(loss.sum(), leaves[:2]):
            assert (grad == 0).all()


# Kernels against the reference


@needs_kernels
@each_family
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_kernels_equal_the_reference(dtype, beta, family):
    for d in (2, 7, 33, 300, 5000):
        leaves = inputs(7, d=d, dtype=dtype, family=family.declared)
        upstream = torch.randn(7, generator=torch.Generator().manual_seed(1)).to(dtype)
        results = []
        for f, declared in (
            (ops.vi_simsiam_loss, family.declared),
            (reference.vi_simsiam_loss, family.declared.reference),
        ):
            loss = f(*leaves, declared, beta)
            results.append([loss.detach(), *torch.autograd.grad(loss, leaves, upstream)])
        terms = [leaves[2].max().item(), 0, 0, 1]  # the size of what is subtracted
        for ours, expected, term in zip(*results, terms, strict=True):
            atol = 30 * torch.finfo(dtype).eps * (expected.abs().max().item() + term)
            torch.testing.assert_close(ours, expected, rtol=0, atol=atol)


@needs_kernels
@each_half
@each_family
def test_half_precision_is_read_natively(dtype, family):
    """As float32 reads the same values; gradients are rounded once."""
    for d in (2, 19, 64, 1000):
        half = inputs(6, d=d, dtype=dtype, family=family.declared)
        wide = [x.detach().float().requires_grad_() for x in half]
        loss = ops.vi_simsiam_loss(*half, family.declared)
        expected = ops.vi_simsiam_loss(*wide, family.declared)
        assert loss.dtype == torch.float32
        assert torch.equal(loss, expected)
        for upstream in (1e-8, 1.0, 1e7):  # to subnormal numbers, and beyond the largest
            factor = torch.full((6,), upstream)
            ours = torch.autograd.grad(loss, half, factor, retain_graph=True)
            theirs = torch.autograd.grad(expected, wide, factor, retain_graph=True)
            for grad, rounded in zip(ours, theirs, strict=True):
                assert torch.equal(grad, rounded.to(grad.dtype))


@needs_kernels
@each_half
def test_every_half_precision_number_is_read_right(dtype):
    numbers = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    pred = torch.stack([numbers, torch.ones_like(numbers)], -1)
    target, kappa = torch.tensor([0.5, 2.0], dtype=dtype), torch.tensor(3.0)
    loss = ops.vi_simsiam_loss(pred, target, kappa, FAMILIES[0])
    expected = ops.vi_simsiam_loss(pred.float(), target.float(), kappa, FAMILIES[0])
    torch.testing.assert_close(loss, expected, rtol=0, atol=0, equal_nan=True)
    assert (loss.isnan() == numbers.float().isfinite().logical_not()).sum() == len(numbers)


@needs_kernels
def test_rows_do_not_depend_on_layout():
    pred, target, kappa = inputs(3, 4, d=70, grad=False)
    expected = ops.vi_simsiam_loss(pred, target, kappa, FAMILIES[0])
    padded = torch.full((3, 4, 141), torch.nan, dtype=torch.float64)
    padded[..., 1::2] = pred
    for view in (padded[..., 1::2], pred.transpose(0, 1).contiguous().transpose(0, 1)):
        assert torch.equal(ops.vi_simsiam_loss(view, target, kappa, FAMILIES[0]), expected)
    one = ops.vi_simsiam_loss(pred, target, kappa[0, 0], FAMILIES[0])
    assert torch.equal(
        one, ops.vi_simsiam_loss(pred, target, kappa[0, 0].expand(3, 4), FAMILIES[0])
    )


@both_paths
def test_broadcasting():
    pred, target, kappa = inputs(3, 4)
    leaves = [x.detach().requires_grad_() for x in (pred[:, :1], target[0], kappa[0, 0])]
    for scale in (None, 0.25):
        loss = ops.vi_simsiam_loss(*leaves, FAMILIES[0], 0.0, scale)
        assert loss.shape == ((3, 4) if scale is None else ())
        expected = composed(leaves[0], leaves[1], leaves[2], FAMILIES[0])
        expected = expected if scale is None else (scale * expected).sum()
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(
            torch.autograd.grad(loss.sum(), leaves), torch.autograd.grad(expected.sum(), leaves)
        )


# The sum, whose gradients the forward pass computes


@both_paths
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("factor", [1.0, 0.5, 65536.0])
def test_weighted_sum(factor, dtype):
    pred, target, kappa = leaves = inputs(6, d=20, dtype=dtype)
    for scale, weight in ((1 / 8, None), (0.3, torch.linspace(0, 1, 6).to(kappa.dtype))):
        loss = ops.vi_simsiam_loss(pred, target, kappa, FAMILIES[0], 0.5, scale, weight)
        each = ops.vi_simsiam_loss(pred, target, kappa, FAMILIES[0], 0.5)
        total = (each if weight is None else weight * each).sum() * scale
        torch.testing.assert_close(loss, total)
        expected = torch.autograd.grad(factor * total, leaves)
        first = torch.autograd.grad(factor * loss, leaves, retain_graph=True)
        again = torch.autograd.grad(factor * loss, leaves, retain_graph=True)
        last = torch.autograd.grad(2 * loss, leaves)
        for a, b, c, e in zip(first, again, last, expected, strict=True):
            torch.testing.assert_close(a, e)
            torch.testing.assert_close(b, e)
            if factor == 0.5:
                torch.testing.assert_close(c, 4 * e)


@both_paths
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_a_sum_begins_with_another(dtype):
    """As the sum of two, with the gradients of both; either may need none."""
    one, two = inputs(6, d=20, dtype=dtype), inputs(4, d=20, dtype=dtype)
    for first, second in itertools.product([one, [x.detach() for x in one]], [two, one]):
        second = second if second is two else [x.detach() for x in two]
        parts = [ops.vi_simsiam_loss(*xs, FAMILIES[0], 0.0, 0.3) for xs in (first, second)]
        loss = ops.vi_simsiam_loss(*second, FAMILIES[0], 0.0, 0.3, None, parts[0])
        torch.testing.assert_close(loss, parts[0] + parts[1])
        leaves = [x for x in (*first, *second) if x.requires_grad]
        assert loss.requires_grad == bool(leaves)
        if leaves:
            grads = torch.autograd.grad(3 * loss, leaves, retain_graph=True)
            torch.testing.assert_close(
                list(grads), list(torch.autograd.grad(3 * (parts[0] + parts[1]), leaves))
            )


@both_paths
@pytest.mark.parametrize("start", [None, 2.5])
def test_a_sum_of_no_rows(start):
    leaves = [x[:0].detach().requires_grad_() for x in inputs(3)]
    start = start and torch.tensor(start, dtype=torch.float64)
    loss = ops.vi_simsiam_loss(*leaves, FAMILIES[0], 0.0, 0.3, None, start)
    assert loss.item() == (0 if start is None else start)
    assert all(
        grad.shape == x.shape
        for grad, x in zip(torch.autograd.grad(loss, leaves), leaves, strict=True)
    )


@needs_kernels
@pytest.mark.parametrize("n", [1, 15, 64, 1000, 70000])
def test_a_sum_does_not_depend_on_the_threads(n):
    """Its bits are the same, and they are those of the sum in double."""
    pred, target, kappa = inputs(n, d=4, dtype=torch.float32, grad=False)
    threads, found = torch.get_num_threads(), []
    for used in (1, 2, 3):
        torch.set_num_threads(used)
        found.append(ops.vi_simsiam_loss(pred, target, kappa, FAMILIES[0], 0.0, 1 / n))
    torch.set_num_threads(threads)
    assert len({x.item() for x in found}) == 1
    expected = ops.vi_simsiam_loss(pred, target, kappa, FAMILIES[0]).double().mean()
    torch.testing.assert_close(found[0].double(), expected, rtol=1e-7, atol=0)


@needs_kernels
def test_gradients_accumulate():
    """What the first backward pass gave away is not touched by the second."""
    pred, target, kappa = inputs(6, d=20)
    loss = ops.vi_simsiam_loss(pred, target, kappa, FAMILIES[0], 0.0, 1.0)
    loss.backward(retain_graph=True)
    once = pred.grad.clone()
    (0.5 * loss).backward()
    torch.testing.assert_close(pred.grad, 1.5 * once)


@needs_kernels
@pytest.mark.parametrize("leaves", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_only_wanted_gradients_are_allocated(leaves):
    """Beside the inputs there is one tensor of their size for each gradient, and no other."""
    n, d = 64, 100
    tensors = [x.requires_grad_(i in leaves) for i, x in enumerate(inputs(n, d=d, grad=False))]
    addresses = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            output = function(*args, **(kwargs or {}))
            for tensor in output if isinstance(output, (tuple, list)) else (output,):
                if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().nbytes() >= n * d:
                    addresses.add(tensor.untyped_storage().data_ptr())
            return output

    with Watch():
        loss = ops.vi_simsiam_loss(*tensors, FAMILIES[0], 0.0, 1 / n)
        loss.backward()
    addresses -= {x.untyped_storage().data_ptr() for x in tensors}
    assert len(addresses) == len(set(leaves) & {0, 1})
    for i, x in enumerate(tensors):
        assert (x.grad is not None) == (i in leaves)


# Derivatives of every kind


@pytest.mark.slow
@both_paths
@each_family
@pytest.mark.parametrize("d", [2, 5])
def test_gradcheck(d, family):
    leaves = inputs(3, d=d, family=family.declared)
    for scale in (None, 0.3):

        def loss(*xs: Any, scale: Any = scale) -> Any:
            return ops.vi_simsiam_loss(*xs, family.declared, 0.0, scale)

        assert torch.autograd.gradcheck(loss, leaves)
        assert torch.autograd.gradgradcheck(loss, leaves)


@both_paths
@each_family
@pytest.mark.parametrize("beta", [0.25, 1.0])
def test_beta_weighs_the_gradient_of_the_cosine_alone(beta, family):
    leaves = inputs(6, family=family.declared)
    plain, weighted = (ops.vi_simsiam_loss(*leaves, family.declared, b) for b in (0.0, beta))
    torch.testing.assert_close(plain, weighted)
    before, after = (torch.autograd.grad(x.sum(), leaves) for x in (plain, weighted))
    weight = leaves[2].detach() ** -beta
    torch.testing.assert_close(after[0], weight.unsqueeze(-1) * before[0])
    torch.testing.assert_close(after[1], weight.unsqueeze(-1) * before[1])
    torch.testing.assert_close(after[2], before[2])
    uniform = [*leaves[:2], torch.zeros_like(leaves[2]).requires_grad_()]
    grads = torch.autograd.grad(ops.vi_simsiam_loss(*uniform, family.declared, beta).sum(), uniform)
    assert all(grad.isfinite().all() for grad in grads)
    assert (grads[0].abs() > 1e-20).any() == (beta == 1)


@both_paths
@each_family
def test_transforms(family):
    leaves = [x.detach() for x in inputs(3, family=family.declared)]

    def loss(*xs: Any) -> Any:
        return ops.vi_simsiam_loss(*xs, family.declared)

    expected = composed(*leaves, family.declared)
    torch.testing.assert_close(func.vmap(loss)(*leaves), expected)
    grads = func.vmap(func.grad(loss, (0, 1, 2)))(*leaves)
    rows = func.vmap(func.grad(lambda *xs: composed(*xs, family.declared), (0, 1, 2)))(*leaves)
    torch.testing.assert_close(grads, rows)
    _, slope = func.jvp(loss, tuple(leaves), tuple(torch.ones_like(x) for x in leaves))
    torch.testing.assert_close(slope, sum(g.flatten(1).sum(1) if g.dim() > 1 else g for g in grads))


@both_paths
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # in vmap
def test_batched_upstream_gradients():
    leaves = inputs(4)
    for scale, weight in ((None, None), (0.3, torch.linspace(0, 1, 4).double())):
        loss = ops.vi_simsiam_loss(*leaves, FAMILIES[0], 0.0, scale, weight)
        factors = torch.randn(3, *loss.shape, dtype=torch.float64)

        def gradients(factor: Any, loss: Any = loss) -> Any:
            return torch.autograd.grad(loss, leaves, factor, retain_graph=True)

        for batched in (
            torch.autograd.grad(loss, leaves, factors, True, is_grads_batched=True),
            func.vmap(gradients)(factors),
        ):
            for i, factor in enumerate(factors):
                torch.testing.assert_close([g[i] for g in batched], list(gradients(factor)))


@pytest.mark.slow
@needs_kernels
@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_with_backward(dynamic):
    def loss(pred, target, kappa, weight):
        weighted = ops.vi_simsiam_loss(pred, target, kappa, FAMILIES[0], 0.5, 0.3, weight)
        return weighted + ops.vi_simsiam_loss(pred, target, kappa, FAMILIES[1]).mean()

    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for n in (4, 6):
        leaves, weight = inputs(n), torch.tensor(1 / n, dtype=torch.float64)
        actual, expected = compiled(*leaves, weight), loss(*leaves, weight)
        torch.testing.assert_close(actual, expected)
        grads = (torch.autograd.grad(x, leaves) for x in (actual, expected))
        torch.testing.assert_close(*grads)
    torch.compiler.reset()


# Wrong calls of the raw op


@needs_kernels
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g, p, z, k: (g, p, z.double(), k), "target must .* no higher precision"),
        (lambda g, p, z, k: (g.double(), p, z, k), "grad must have the dtype of kappa"),
        (lambda g, p, z, k: (g, p, z, k.double()), "grad must have the dtype of kappa"),
        (lambda g, p, z, k: (g, p.long(), z, k), "pred must be a floating-point tensor"),
        (lambda g, p, z, k: (g, p, z[:, :4], k), "target has dimension 4, expected 5"),
        (lambda g, p, z, k: (g, p, z, k[:2]), "kappa does not broadcast"),
        (lambda g, p, z, k: (g, p[:, :1], z[:, :1], k), "d >= 2, got 1"),
    ],
)
def test_wrong_calls(change, message):
    pred, target, kappa = inputs(3, dtype=torch.float32, grad=False)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.powerspherical_ext.vi_simsiam_loss(
            *change(torch.ones(3), pred, target, kappa), 0, 0.0, 7
        )


@needs_kernels
@pytest.mark.parametrize(
    ("scale", "start"),
    [(None, torch.ones(())), (1.0, torch.ones(3)), (1.0, torch.ones(()).double())],
)
def test_wrong_starts(scale, start):
    pred, target, kappa = inputs(3, dtype=torch.float32, grad=False)
    with pytest.raises(RuntimeError, match="start must be a scalar of the dtype of kappa"):
        torch.ops.powerspherical_ext.vi_simsiam_loss(
            None, pred, target, kappa, 0, 0.0, 7, scale, start
        )


@needs_kernels
@pytest.mark.parametrize(
    ("vectors", "scalars"),
    [
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float64, torch.float64),
        (torch.float32, torch.float64),
    ],
)
@pytest.mark.parametrize("factor", [1.0, 0.3, 0.0, torch.nan])
def test_gradients_are_scaled(factor, vectors, scalars):
    gradients = [torch.randn(70, 1000).to(vectors), torch.empty(0, dtype=vectors)]
    gradients.append(torch.randn(70, dtype=scalars))
    by = torch.tensor(factor, dtype=scalars)
    expected = [(x.to(scalars) * by).to(x.dtype) for x in gradients]
    torch.ops.powerspherical_ext.scale_gradients_(*gradients, by)
    torch.testing.assert_close(gradients, expected, rtol=0, atol=0, equal_nan=True)


@needs_kernels
def test_wrong_calls_of_scale_gradients():
    x, kappa, one = torch.ones(3, 4), torch.ones(3), torch.ones(())
    scale = torch.ops.powerspherical_ext.scale_gradients_
    for arguments, message in (
        ((x, x.t(), kappa, one), "target must be contiguous"),
        ((x, x, kappa, kappa), "factor must be a scalar"),
        ((x, x, kappa, one.bfloat16()), "expected float32 or float64"),
        ((x.double(), x, kappa, one), "pred must be a floating-point tensor of no higher"),
    ):
        with pytest.raises(RuntimeError, match=message):
            scale(*arguments)
