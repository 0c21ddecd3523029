"""Pairs of views: what the objectives accept, and which pairs they compare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import torch
from torch import Tensor

from .. import ops

__all__ = [
    "REDUCTIONS",
    "Views",
    "check_counts",
    "check_finite",
    "check_not_swapped",
    "check_pair",
    "pairs",
    "reduce",
]

Views = Tensor | Sequence[Tensor]

REDUCTIONS = ("mean", "sum", "none")


def pairs(pred: Views, target: Views) -> list[tuple[Tensor, Tensor]]:
    """(prediction, target) for two tensors, or for each i != j of V predictions and T targets.

    The first T predictions are views of the same crops as the T targets, and no crop is compared
    with itself. All tensors are checked to fit together.
    """
    if isinstance(pred, Tensor) and isinstance(target, Tensor):
        check_pair("pred", pred, "target", target)
        return [(pred, target)]
    for name, views in (("pred", pred), ("target", target)):
        if not isinstance(views, (list, tuple)) or not all(isinstance(v, Tensor) for v in views):
            raise TypeError(
                "pred and target must be two tensors, or two lists of tensors, got "
                f"{type(views).__name__} for {name}"
            )
    check_counts(len(pred), len(target))
    for views, name in ((pred[1:], "pred"), (target, "target")):
        for view in views:
            check_pair("pred", pred[0], name, view)
    indices = product(range(len(pred)), range(len(target)))
    return [(pred[i], target[j]) for i, j in indices if i != j]


def check_counts(n_preds: int, n_targets: int, pred: str = "pred", target: str = "target") -> None:
    if n_preds < 2:
        raise ValueError(
            f"{pred} must hold two views or more, got {n_preds}: a view is not compared with itself"
        )
    if not 1 <= n_targets <= n_preds:
        raise ValueError(
            f"{target} must hold 1 to {n_preds} views, of the same crops as the first views of "
            f"{pred}, got {n_targets}"
        )


def check_pair(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Two (N, d) tensors of floating-point type, of one shape, on one device, without NaN."""
    for argument, x in ((name, tensor), (other_name, other)):
        if not x.is_floating_point():
            raise TypeError(f"{argument} must be a floating-point tensor, got {x.dtype}")
    if tensor.ndim != 2 or tensor.shape[0] < 1 or tensor.shape[1] < 2:
        raise ValueError(
            f"{name} must have shape (N, d) with N >= 1 and d >= 2, got {tuple(tensor.shape)}"
        )
    if other.shape != tensor.shape:
        raise ValueError(
            f"{other_name} must have the shape {tuple(tensor.shape)} of {name}, "
            f"got {tuple(other.shape)}"
        )
    if other.device != tensor.device:
        raise ValueError(
            f"{other_name} must be on the device of {name}, {tensor.device}, got {other.device}"
        )
    check_finite(name, tensor)
    check_finite(other_name, other)


def check_not_swapped(preds: Iterable[Tensor], targets: Iterable[Tensor]) -> None:
    """Where the gradient stops at the target, a swapped call would train nothing."""
    if not torch.is_grad_enabled() or any(pred.requires_grad for pred in preds):
        return
    if any(target.requires_grad for target in targets):
        raise ValueError(
            "target requires a gradient and pred does not, but the gradient stops at target: "
            "the prediction comes first, are the first two swapped?"
        )


def check_finite(name: str, x: Tensor, positive: bool = False) -> None:
    """No NaN and no infinity, and nothing but positive numbers where that is wanted.

    Looked at where it is cheap: on the CPU, outside of compile and functorch. On
    a GPU the check would make it wait; there the loss is NaN, which every trainer looks for.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or ops.transform_active():
        return
    if not bool(x.detach().isfinite().all()):
        raise ValueError(f"{name} must be finite, got NaN or infinite values")
    if positive and not bool((x > 0).all()):
        raise ValueError(f"{name} must be > 0, got {x.detach().min().item()}")


def reduce(losses: Tensor, reduction: str) -> Tensor:
    """Mean, sum or all of the losses."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()
