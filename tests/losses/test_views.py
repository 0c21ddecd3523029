"""How every loss takes its views: lists, half precision, compilation, and bad input."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from loss_inputs import D, N, assert_same, concentrations, features, unit

from powerspherical_ext import PowerSpherical, VonMisesFisher
from powerspherical_ext.losses import (
    DINOLoss,
    MCInfoNCELoss,
    barlow_twins_loss,
    expected_likelihood_kernel_loss,
    hedged_instance_loss,
    j_align,
    j_kl,
    j_uniform,
    log_renormalizer,
    mc_infonce_loss,
    nt_xent_loss,
    simclr_loss,
    simsiam_loss,
    vi_simclr_loss,
    vi_simsiam_loss,
)

# Views


@pytest.mark.parametrize(("n_preds", "n_targets"), [(2, 2), (8, 2), (3, 1)])
def test_lists_are_the_mean_over_the_pairs_that_differ(n_preds, n_targets):
    preds = [features(N, D, seed=i) for i in range(n_preds)]
    targets = [features(N, D, seed=20 + i) for i in range(n_targets)]
    kappas = [concentrations(N, seed=i) for i in range(n_preds)]
    pairs = [(i, j) for i in range(n_preds) for j in range(n_targets) if i != j]
    for criterion in (simsiam_loss, simclr_loss):
        expected = torch.stack([criterion(preds[i], targets[j]) for i, j in pairs])
        torch.testing.assert_close(criterion(preds, targets), expected.mean())
        each = criterion(tuple(preds), tuple(targets), reduction="none")
        assert each.shape == (len(pairs), N)
        torch.testing.assert_close(each.mean(1), expected)
    expected = [vi_simclr_loss(preds[i], targets[j], kappas[i]) for i, j in pairs]
    torch.testing.assert_close(vi_simclr_loss(preds, targets, kappas), torch.stack(expected).mean())


# Types


KAPPA = torch.full((N,), 5.0)


def two_views(criterion, kappa=KAPPA):
    """criterion of two float tensors (N, D), whichever it is."""
    return {
        "dino": DINOLoss(D),
        "vi_simclr": lambda a, b: vi_simclr_loss(a, b, kappa),
        "vi_simsiam": lambda a, b: vi_simsiam_loss(a, b, kappa),
        "simsiam": simsiam_loss,
        "simclr": simclr_loss,
        "nt_xent": nt_xent_loss,
        "barlow_twins": barlow_twins_loss,
        **{
            name: lambda a, b, loss=loss: loss(a, b, kappa, kappa)
            for name, loss in STOCHASTIC.items()
        },
    }[criterion]


def value(function, *arguments):
    """With the same random numbers at every call."""
    torch.manual_seed(0)
    return function(*arguments)


STOCHASTIC = {
    "mc_infonce": mc_infonce_loss,
    "elk": expected_likelihood_kernel_loss,
    "elk, samples": partial(expected_likelihood_kernel_loss, distribution="power_spherical"),
    "hib": partial(hedged_instance_loss, kl_weight=0.01),
}
CRITERIA = ("simsiam", "simclr", "vi_simclr", "vi_simsiam", "nt_xent", "dino", "barlow_twins")
CRITERIA += (*STOCHASTIC,)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_half_precision_and_autocast_are_computed_in_float32(criterion):
    a, b = (features(N, D, seed=i, dtype=torch.float32).bfloat16().detach() for i in range(2))
    expected = value(two_views(criterion), a.float(), b.float())
    assert value(two_views(criterion), a, b).item() == expected.item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = value(two_views(criterion), a, b)
    assert loss.item() == expected.item()
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("criterion", CRITERIA)
def test_targets_made_in_inference_mode(criterion):
    """As those of a frozen encoder."""
    pred, target = (features(N, D, seed=i, dtype=torch.float32) for i in range(2))
    with torch.inference_mode():
        made, kappa = target.clone(), KAPPA.clone()
    expected = value(two_views(criterion), pred, target)
    assert_same(value(two_views(criterion, kappa), pred, made), expected, (pred,))
    with torch.inference_mode():
        assert value(two_views(criterion, kappa), pred, made) == expected


# Dynamo itself instantiates the autograd.Function.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("criterion", CRITERIA)
def test_compiles_without_a_graph_break(criterion):
    a, b = (features(N, D, seed=i, dtype=torch.float32) for i in range(2))
    compiled = torch.compile(two_views(criterion), backend="aot_eager", fullgraph=True)
    assert_same(value(compiled, a, b), value(two_views(criterion), a, b), (a,))


# A batch without samples


EMPTY = {
    "simsiam": lambda a, b, k, **options: simsiam_loss(a, b, **options),
    "simclr": lambda a, b, k, **options: simclr_loss(a, b, **options),
    "nt_xent": lambda a, b, k, **options: nt_xent_loss(a, b, **options),
    "vi_simclr": vi_simclr_loss,
    "vi_simsiam": vi_simsiam_loss,
    **{
        name: lambda a, b, k, loss=loss, **options: loss(a, b, k, k, **options)
        for name, loss in STOCHASTIC.items()
    },
    "vi_simsiam, lists": lambda a, b, k, **options: vi_simsiam_loss(
        [a, a], [b, b], [k, k], **options
    ),
    "simsiam, lists": lambda a, b, k, **options: simsiam_loss([a, a], [b], **options),
}


@pytest.mark.parametrize("criterion", EMPTY)
def test_an_empty_batch_is_reduced_as_in_torch(criterion):
    """To NaN, 0 and an empty tensor, with empty gradients."""
    for reduction, value in (("mean", [math.nan]), ("sum", [0.0]), ("none", [])):
        pred, target, kappa = features(0, D), features(0, D), concentrations(0)
        loss = EMPTY[criterion](pred, target.detach(), kappa, reduction=reduction)
        torch.testing.assert_close(
            loss.detach().flatten(), torch.tensor(value, dtype=torch.float64), equal_nan=True
        )
        loss.sum().backward()
        assert pred.grad.shape == pred.shape
        assert kappa.grad is None or kappa.grad.shape == kappa.shape


def test_an_empty_batch_leaves_the_centre_of_dino():
    criterion = DINOLoss(D)
    logits = features(0, D, dtype=torch.float32)
    assert criterion(logits, logits.detach()).isnan()
    assert (criterion.center == 0).all()


def test_an_empty_batch_has_no_terms_of_the_objective():
    z, kappa = features(0, D), concentrations(0)
    for p in (PowerSpherical(unit(z), kappa), VonMisesFisher(unit(z), kappa)):
        for q in (unit(z).detach(), p):
            for terms in (j_align(q, p), j_uniform(q, p), j_kl(q, p)):
                assert terms.shape == (0,)


# Bad input


X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
K = torch.full((4,), 5.0)
NAN = torch.full_like(X, math.nan)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: simsiam_loss(X, X[:3]), ValueError, r"target .*\(4, 3\) of pred, got \(3, 3\)"),
        (lambda: simsiam_loss(NAN, X), ValueError, "pred must be finite, got NaN"),
        (lambda: simsiam_loss(X, NAN), ValueError, "target must be finite, got NaN"),
        (lambda: simsiam_loss([X], [X]), ValueError, "pred .*two views or more, got 1"),
        (lambda: simsiam_loss([X, X], [X] * 3), ValueError, "target .*1 to 2 .*got 3"),
        (lambda: simsiam_loss([X, X], []), ValueError, "target .*1 to 2 .*got 0"),
        (lambda: simsiam_loss([X, X], X), TypeError, "two lists.*got list, Tensor"),
        (lambda: simsiam_loss(X.long(), X), TypeError, "pred .*floating-point.*int64"),
        (lambda: simsiam_loss(X, X.to("meta")), ValueError, "target .*device of pred.*meta"),
        (lambda: simsiam_loss(X[0], X[0]), ValueError, r"pred .*\(N, d\).*got \(3,\)"),
        (lambda: simsiam_loss(X, X.clone().requires_grad_()), ValueError, "first two swapped"),
        (lambda: DINOLoss(3)(X, X.clone().requires_grad_()), ValueError, "first two swapped"),
        (lambda: simsiam_loss(X, X, reduction="max"), ValueError, "reduction .*got 'max'"),
        (lambda: simclr_loss(X, X, temperature=0.0), ValueError, "temperature .*got 0.0"),
        (lambda: simclr_loss(NAN, X), ValueError, "pred must be finite"),
        (lambda: nt_xent_loss(X, X, temperature=-1), ValueError, "temperature .*got -1"),
        (lambda: nt_xent_loss(X, NAN), ValueError, "z2 must be finite"),
        (lambda: vi_simclr_loss(X, X, -K), ValueError, "kappa must be > 0 .*got -5"),
        (lambda: vi_simclr_loss(X, X, K * math.nan), ValueError, "kappa must be finite"),
        (lambda: vi_simclr_loss(X, X, K[:3]), ValueError, r"kappa .*\(4,\) or \(4, 1\).*\(3,\)"),
        (lambda: vi_simclr_loss(X, X, [K]), TypeError, "three lists.*got Tensor, Tensor, list"),
        (lambda: vi_simclr_loss([X, X], [X, X], [K]), ValueError, "kappa .*2, got 1"),
        (lambda: vi_simclr_loss(X, X, K, distribution="normal"), ValueError, "got 'normal'"),
        (lambda: mc_infonce_loss(X, X[:3], K, K), ValueError, r"z2 .*\(4, 3\) of z1, got"),
        (lambda: mc_infonce_loss(NAN, X, K, K), ValueError, "z1 must be finite, got NaN"),
        (lambda: mc_infonce_loss(X, X, K, K * math.nan), ValueError, "kappa2 must be finite"),
        (lambda: mc_infonce_loss(X, X, -K, K), ValueError, "kappa must be > 0 .*got -5"),
        (lambda: mc_infonce_loss(X, X, K, K[:3]), ValueError, r"kappa2 .*of z2 \(4, 3\).*\(3,\)"),
        (lambda: mc_infonce_loss(X.long(), X, K, K), TypeError, "z1 .*floating-point.*int64"),
        (lambda: mc_infonce_loss(X[0], X[0], K, K), ValueError, r"z1 .*\(N, d\).*got \(3,\)"),
        (lambda: mc_infonce_loss(X, X, K, K, temperature=0.0), ValueError, "temperature .*got 0"),
        (lambda: mc_infonce_loss(X, X, K, K, temperature=K), ValueError, r"one element.*\(4,\)"),
        (lambda: mc_infonce_loss(X, X, K, K, n_samples=0), ValueError, "n_samples .*1 or more"),
        (lambda: mc_infonce_loss(X, X, K, K, reduction="max"), ValueError, "reduction .*'max'"),
        (lambda: mc_infonce_loss(X, X, K, K, distribution="normal"), ValueError, "got 'normal'"),
        (
            lambda: mc_infonce_loss(X, X, K, K, distribution="spherical_cauchy"),
            ValueError,
            "kappa must be < 1 for distribution='spherical_cauchy', got 5",
        ),
        (lambda: MCInfoNCELoss(temperature=-1.0), ValueError, "temperature .*got -1"),
        (lambda: expected_likelihood_kernel_loss(X, NAN, K, K), ValueError, "z2 must be finite"),
        (lambda: hedged_instance_loss(X, X, K, K, kl_weight=-1), ValueError, "kl_weight .*got -1"),
        (lambda: barlow_twins_loss(X[:1], X[:1]), ValueError, "two samples or more, got 1"),
        (lambda: barlow_twins_loss(X, NAN), ValueError, "z2 must be finite"),
        (lambda: barlow_twins_loss(X, X, redundancy_weight=-1), ValueError, "got -1"),
        (lambda: DINOLoss(1), ValueError, "dim must be at least 2, got 1"),
        (lambda: DINOLoss(3, target_temperature=0), ValueError, "target_temperature .*got 0"),
        (lambda: DINOLoss(3, center_momentum=2), ValueError, "center_momentum .*got 2"),
        (lambda: DINOLoss(4)(X, X), ValueError, r"pred .*\(N, 4\), got \(4, 3\)"),
        (lambda: DINOLoss(3)(X, NAN), ValueError, "target must be finite"),
        (lambda: DINOLoss(3)([X], [X]), ValueError, "two views or more, got 1"),
        (lambda: j_align([P], [P]), ValueError, "p must hold two views or more, got 1"),
        (lambda: j_align([P] * 3, [P] * 2), ValueError, "q must hold 1 to 2 views.*got 3"),
        (lambda: j_align(P, [P, P]), TypeError, "got VonMisesFisher and list"),
        (lambda: j_align([P, 1.0], [P, P]), TypeError, "q must be a tensor or .*got float"),
        (lambda: j_align([X, X], [P, X]), TypeError, "p must be a distribution, got Tensor"),
        (lambda: j_align(X[:3], P), ValueError, r"q must have the batch shape \(4,\).*got \(3,\)"),
        (lambda: j_align(X[0], VonMisesFisher(X[0] / X[0].norm(), 1.0)), ValueError, "one batch"),
        (lambda: j_align(X, P), ValueError, "value must be unit vectors"),
        (lambda: j_align(NAN, P), ValueError, "value must be unit vectors"),
        (lambda: j_align(P, P, n_samples=-1), ValueError, "n_samples must be 0 or more, got -1"),
        (lambda: j_uniform(P, P, n_samples=0), ValueError, "n_samples must be 1 or more, got 0"),
        (lambda: j_kl(P), ValueError, "prior must be given"),
        (lambda: j_kl([]), ValueError, "q must hold one view or more"),
        (lambda: j_kl("z"), TypeError, "q must be a tensor or a distribution, got str"),
        (lambda: log_renormalizer(P, PowerSpherical(P.loc, 1.0)), TypeError, "PowerSpherical"),
        (lambda: log_renormalizer(), ValueError, "at least one expert"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


P = VonMisesFisher(unit(X), K)
