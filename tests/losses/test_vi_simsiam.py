"""VISimSiamLoss against Algorithm 1 of the paper, its gradients, types and errors."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from loss_inputs import D, N, assert_same, concentrations, features, unit

from powerspherical_ext import PowerSpherical
from powerspherical_ext.losses import (
    VISimSiamLoss,
    j_align,
    mean_resultant_length,
    vi_simsiam_loss,
)

SHAPES = [(8, 3), (5, 128), (4, 2048), (2, 3, 16), (7,)]


def views(*shape, dtype=torch.float64, seed=0, kappa_scale=3.0):
    """pred, target and kappa with gradients; pred and target neither normalised nor independent."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(shape, generator=generator, dtype=dtype)
    pred = 2 * target + torch.randn(shape, generator=generator, dtype=dtype)
    kappa = kappa_scale * shape[-1] * torch.rand(shape[:-1], generator=generator, dtype=dtype)
    return [tensor.requires_grad_() for tensor in (pred, target, kappa)]


def algorithm_1(pred, target, kappa):
    """One direction of the paper's Algorithm 1, per sample."""
    mu, z = F.normalize(pred, dim=-1), F.normalize(target, dim=-1)
    return -PowerSpherical(mu, kappa).log_prob(z.detach())


def log_area(d):
    return math.log(2) + d / 2 * math.log(math.pi) - math.lgamma(d / 2)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pair_form_is_algorithm_1(shape):
    pred, target, kappa = views(*shape)
    expected = algorithm_1(pred, target, kappa).mean()
    loss = vi_simsiam_loss(pred, target, kappa, relative_to_uniform=False)
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(loss, (pred, kappa))
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, (pred, kappa)))


def test_two_directions_are_the_papers_training_loss():
    p1, z2, kappa1 = views(16, 32, seed=1)
    p2, z1, kappa2 = views(16, 32, seed=2)
    mu1, mu2, z1n, z2n = (F.normalize(x, dim=-1) for x in (p1, p2, z1, z2))
    first = PowerSpherical(mu1, kappa1).log_prob(z2n.detach())
    second = PowerSpherical(mu2, kappa2).log_prob(z1n.detach())
    expected = (-first - second).mean()
    criterion = VISimSiamLoss(relative_to_uniform=False)
    torch.testing.assert_close(criterion(p1, z2, kappa1) + criterion(p2, z1, kappa2), expected)


def test_closed_form_on_the_two_sphere():
    """At d = 3, C_PS = (kappa + 1) / (4 pi 2^kappa): the loss is elementary."""
    pred, target, kappa = views(50, 3)
    t = F.cosine_similarity(pred, target)
    expected = -torch.log1p(kappa) - kappa * torch.log((1 + t) / 2)
    torch.testing.assert_close(vi_simsiam_loss(pred, target, kappa, reduction="none"), expected)


@pytest.mark.parametrize("d", [2, 3, 128, 2048])
def test_relative_to_uniform_is_a_constant_shift_to_zero_at_kappa_zero(d):
    pred, target, kappa = views(6, d)
    raw = vi_simsiam_loss(pred, target, kappa, relative_to_uniform=False)
    relative = vi_simsiam_loss(pred, target, kappa)
    torch.testing.assert_close(raw - relative, torch.tensor(log_area(d), dtype=torch.float64))
    for ours, theirs in zip(
        torch.autograd.grad(relative, (pred, kappa)),
        torch.autograd.grad(raw, (pred, kappa)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
    none = torch.zeros(6, dtype=torch.float64)
    uniform = vi_simsiam_loss(pred, target, none, check_kappa=False)
    torch.testing.assert_close(uniform, torch.zeros((), dtype=torch.float64), atol=1e-9, rtol=0)


def test_the_optimal_kappa_gives_back_the_observed_cosine():
    """The likelihood of one cosine t peaks near kappa = (d - 1) t / (1 - t) when d is large."""
    d, t = 2048, 0.3
    z = torch.zeros(1, d, dtype=torch.float64)
    z[0, 0] = 1
    mu = torch.zeros_like(z)
    mu[0, 0], mu[0, 1] = t, math.sqrt(1 - t * t)
    kappa = torch.arange(700, 1100, dtype=torch.float64)
    losses = vi_simsiam_loss(mu.expand(400, d), z.expand(400, d), kappa, reduction="none")
    best = kappa[losses.argmin()]
    torch.testing.assert_close(mean_resultant_length(best, d).item(), t, atol=2e-3, rtol=0)


def test_rotation_and_length_do_not_matter():
    pred, target, kappa = views(9, 12)
    rotation = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64))[0]
    torch.testing.assert_close(
        vi_simsiam_loss(5 * pred @ rotation, 0.1 * target @ rotation, kappa),
        vi_simsiam_loss(pred, target, kappa),
    )


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_reductions(reduction):
    pred, target, kappa = views(2, 6, 8)
    each = vi_simsiam_loss(pred, target, kappa, reduction="none")
    assert each.shape == (2, 6)
    whole = vi_simsiam_loss(pred, target, kappa, reduction=reduction)
    torch.testing.assert_close(whole, getattr(each, reduction)())


def test_kappa_may_have_a_last_axis_of_one():
    pred, target, kappa = views(6, 8)
    with_axis = vi_simsiam_loss(pred, target, kappa[:, None], reduction="none")
    assert with_axis.shape == (6,)
    torch.testing.assert_close(with_axis, vi_simsiam_loss(pred, target, kappa, reduction="none"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"relative_to_uniform": False},
        {"beta": 0.5},
        {"beta": 0.5, "beta_weighs": "loss", "relative_to_uniform": False},
        {"kappa_max": 3.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("distribution", ["power_spherical", "von_mises_fisher"])
def test_empty_batch(options, distribution):
    """The mean is NaN and the sum 0, whatever the options."""
    for shape in ((0, 8), (2, 0, 8)):
        pred, target, kappa = views(*shape)
        for reduction, value in (("mean", math.nan), ("sum", 0.0)):
            criterion = VISimSiamLoss(distribution=distribution, reduction=reduction, **options)
            loss = criterion(pred, target, kappa)
            assert loss.item() == pytest.approx(value, nan_ok=True)
            gradients = torch.autograd.grad(loss, (pred, kappa))
            assert [g.shape for g in gradients] == [pred.shape, kappa.shape]
        each = vi_simsiam_loss(pred, target, kappa, reduction="none", **options)
        assert each.shape == shape[:-1]


# One objective


@pytest.mark.parametrize(("n_preds", "n_targets"), [(2, 2), (4, 2), (3, 3)])
def test_vi_simsiam_is_alignment_under_a_power_spherical(n_preds, n_targets):
    preds = [features(N, D, seed=i) for i in range(n_preds)]
    targets = [features(N, D, seed=10 + i) for i in range(n_targets)]
    kappas = [concentrations(N, seed=i) for i in range(n_preds)]
    q = [unit(z).detach() for z in targets]
    p = [PowerSpherical(unit(m), k) for m, k in zip(preds, kappas, strict=True)]
    loss = vi_simsiam_loss(preds, targets, kappas, relative_to_uniform=False)
    assert_same(j_align(q, p).mean(), loss, (*preds, *kappas), factor=-1)


# List form


@pytest.mark.parametrize(("n_preds", "n_targets"), [(2, 2), (8, 2), (3, 1), (3, 3)])
def test_list_form_is_the_mean_over_the_pairs_that_differ(n_preds, n_targets):
    crops = [views(4, 8, seed=seed) for seed in range(n_preds)]
    preds, targets, kappas = ([crop[part] for crop in crops] for part in range(3))
    targets = targets[:n_targets]
    pairs = [(i, j) for i, j in itertools.product(range(n_preds), range(n_targets)) if i != j]
    assert len(pairs) == n_preds * n_targets - n_targets
    expected = torch.stack(
        [vi_simsiam_loss(preds[i], targets[j], kappas[i], reduction="none") for i, j in pairs]
    )
    each = vi_simsiam_loss(preds, targets, kappas, reduction="none")
    torch.testing.assert_close(each, expected)
    torch.testing.assert_close(vi_simsiam_loss(preds, targets, kappas), expected.mean())


def test_list_form_takes_tuples_and_chunks():
    pred, target, kappa = views(12, 8)
    chunks = pred.chunk(3), target.chunk(3)[:2], kappa.chunk(3)
    torch.testing.assert_close(VISimSiamLoss()(*chunks), VISimSiamLoss()(*map(list, chunks)))


# Gradients


def test_the_target_gets_no_gradient_unless_asked():
    pred, target, kappa = views(6, 8)
    vi_simsiam_loss(pred, target, kappa).backward()
    assert target.grad is None
    assert pred.grad.abs().sum() > 0
    assert kappa.grad.abs().sum() > 0
    vi_simsiam_loss(pred, target, kappa, detach_target=False).backward()
    assert target.grad.abs().sum() > 0


@pytest.mark.parametrize("d", [2, 3, 17])
def test_gradcheck(d):
    inputs = views(5, d)
    assert torch.autograd.gradcheck(
        lambda *xs: vi_simsiam_loss(*xs, detach_target=False, reduction="none"), inputs
    )


def test_gradient_of_pred_is_tangent_to_the_sphere():
    pred, target, kappa = views(6, 8)
    (gradient,) = torch.autograd.grad(vi_simsiam_loss(pred, target, kappa), pred)
    torch.testing.assert_close((gradient * pred).sum(-1), torch.zeros(6, dtype=torch.float64))


# Types, autocast, compilation


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_is_computed_in_float32(dtype):
    pred, target, kappa = (tensor.detach().to(dtype) for tensor in views(6, 64))
    loss = vi_simsiam_loss(pred, target, kappa)
    assert loss.dtype == torch.float32
    exact = vi_simsiam_loss(pred.double(), target.double(), kappa.double())
    torch.testing.assert_close(loss.double(), exact, atol=1e-4, rtol=1e-4)
    pred.requires_grad_()
    vi_simsiam_loss(pred, target, kappa).backward()
    assert pred.grad.dtype == dtype


def test_the_widest_type_wins():
    pred, target, kappa = (tensor.detach() for tensor in views(6, 8, dtype=torch.float32))
    assert vi_simsiam_loss(pred, target, kappa).dtype == torch.float32
    assert vi_simsiam_loss(pred, target, kappa.double()).dtype == torch.float64
    assert vi_simsiam_loss(pred.bfloat16(), target, kappa).dtype == torch.float32


def test_float32_at_the_papers_size():
    pred, target, kappa = views(16, 2048, kappa_scale=10)
    exact = vi_simsiam_loss(pred, target, kappa)
    exact_grad = torch.autograd.grad(exact, (pred, kappa))
    single = [tensor.detach().float().requires_grad_() for tensor in (pred, target, kappa)]
    loss = vi_simsiam_loss(*single)
    assert abs(loss.item() - exact.item()) < 1e-5 * kappa.max().item()
    for ours, truth in zip(
        torch.autograd.grad(loss, (single[0], single[2])), exact_grad, strict=True
    ):
        assert (ours - truth).norm() < 1e-4 * truth.norm()


def test_autocast_does_not_reach_the_loss():
    pred, target, kappa = views(16, 64, dtype=torch.float32)
    expected = vi_simsiam_loss(pred, target, kappa)
    with torch.autocast("cpu", torch.bfloat16):
        loss = vi_simsiam_loss(pred, target, kappa)
    assert loss.dtype == torch.float32
    assert loss.item() == expected.item()


# Dynamo itself instantiates the autograd.Function.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_without_a_graph_break():
    pred, target, kappa = views(16, 32, dtype=torch.float32)
    compiled = torch.compile(VISimSiamLoss(), backend="aot_eager", fullgraph=True)
    loss, expected = compiled(pred, target, kappa), VISimSiamLoss()(pred, target, kappa)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, (pred, kappa)), torch.autograd.grad(expected, (pred, kappa))
    )


def test_torch_func():
    pred, target, kappa = (tensor.detach() for tensor in views(3, 5, 8))
    batched = torch.func.vmap(torch.func.grad(vi_simsiam_loss))(pred, target, kappa)
    for i in range(3):
        alone = pred[i].clone().requires_grad_()
        vi_simsiam_loss(alone, target[i], kappa[i]).backward()
        torch.testing.assert_close(batched[i], alone.grad)


# Bad input: the message names the argument, what was wanted and what came


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda p, z, k: (p, z[:5], k), ValueError, r"target .*\(6, 8\) of pred, got \(5, 8\)"),
        (lambda p, z, k: (p, z[:, :7], k), ValueError, r"target .*\(6, 8\) of pred, got \(6, 7\)"),
        (lambda p, z, k: (p, z, k[:5]), ValueError, r"kappa .*\(6,\) or \(6, 1\).*got \(5,\)"),
        (lambda p, z, k: (p, z, k.sum()), ValueError, r"kappa .*got \(\)"),
        (lambda p, z, k: (p, z, p), ValueError, r"kappa .*got \(6, 8\)"),
        (lambda p, z, k: (p[:, :1], z[:, :1], k), ValueError, r"pred .*d >= 2, got \(6, 1\)"),
        (lambda p, z, k: (p.sum(), z.sum(), k), ValueError, r"pred .*got \(\)"),
        (lambda p, z, k: (p, z, -k), ValueError, r"kappa must be > 0 .*got -"),
        (lambda p, z, k: (p, z, k * 0), ValueError, r"kappa must be > 0 .*got 0"),
        (lambda p, z, k: (p, z, k * math.nan), ValueError, r"kappa must be > 0 .*got nan"),
        (lambda p, z, k: (p.long(), z, k), TypeError, r"pred .*floating-point.*torch.int64"),
        (lambda p, z, k: (p, z.int(), k), TypeError, r"target .*floating-point.*torch.int32"),
        (lambda p, z, k: (p, z, k.long()), TypeError, r"kappa .*floating-point.*torch.int64"),
        (lambda p, z, k: (p, z.cfloat(), k), TypeError, r"target .*floating-point.*complex64"),
        (lambda p, z, k: (p, z.to("meta"), k), ValueError, r"target .*device of pred, cpu.*meta"),
        (lambda p, z, k: (p, [z], k), TypeError, r"three lists.*got Tensor, list, Tensor"),
        (lambda p, z, k: (p, z, [k]), TypeError, r"three lists.*got Tensor, Tensor, list"),
        (lambda p, z, k: (p, z, 10.0), TypeError, r"kappa must be a tensor.*got float"),
        (lambda p, z, k: (p.numpy(), z, k), TypeError, r"pred must be a tensor.*got ndarray"),
        (lambda p, z, k: ([p], [z], [k]), ValueError, r"pred .*two views or more, got 1"),
        (lambda p, z, k: ([], [], []), ValueError, r"pred .*two views or more, got 0"),
        (lambda p, z, k: ([p, p], [z, z, z], [k, k]), ValueError, r"target .*1 to 2 .*got 3"),
        (lambda p, z, k: ([p, p], [], [k, k]), ValueError, r"target .*1 to 2 .*got 0"),
        (lambda p, z, k: ([p, p], [z, z], [k]), ValueError, r"kappa .*one tensor.* 2, got 1"),
        (lambda p, z, k: ([p, p[:3]], [z, z], [k, k]), ValueError, r"pred .*got \(3, 8\)"),
        (lambda p, z, k: ([p, p], [z, z], [k, k[:3]]), ValueError, r"kappa .*got \(3,\)"),
    ],
)
def test_bad_input(change, error, message):
    arguments = change(*(tensor.detach() for tensor in views(6, 8, dtype=torch.float32)))
    with pytest.raises(error, match=message):
        vi_simsiam_loss(*arguments)


def test_unknown_reduction():
    for call in (lambda: VISimSiamLoss(reduction="average"), lambda: _reduce_by("average")):
        with pytest.raises(ValueError, match=r"reduction must be one of .*got 'average'"):
            call()


def _reduce_by(reduction):
    return vi_simsiam_loss(*views(6, 8), reduction=reduction)


def test_swapped_arguments_raise():
    """lightly's examples write criterion(z0, p1), z0 detached: that would train nothing here."""
    pred, target, kappa = views(6, 8)
    z = target.detach()
    with pytest.raises(ValueError, match="are the first two swapped"):
        vi_simsiam_loss(z, pred, kappa)
    with pytest.raises(ValueError, match="are the first two swapped"):
        vi_simsiam_loss([z, z], [pred, pred], [kappa, kappa])
    vi_simsiam_loss(pred, target, kappa)
    vi_simsiam_loss(z, pred, kappa, detach_target=False)
    with torch.no_grad():
        vi_simsiam_loss(z, pred, kappa)


def test_the_check_of_kappas_values_can_be_left_out():
    pred, target, kappa = views(6, 8)
    vi_simsiam_loss(pred, target, -0.01 * kappa, check_kappa=False)
