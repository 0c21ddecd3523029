"""The views of a batch that a loss compares, and the pairs that it forms of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ._checks import check_finite, check_kind, check_shape

__all__ = ["Tensors", "Views", "detached_targets", "one_per_sample", "views_of"]

Tensors = Tensor | Sequence[Tensor]
Pred = TypeVar("Pred")
Target = TypeVar("Target")
ARGUMENTS = ("pred", "target", "kappa")
NUMBERS = {2: "two", 3: "three"}


@dataclass(frozen=True)
class Views(Generic[Pred, Target]):
    """V predictions, T <= V targets, and V kappas where a loss takes them.

    The first T predictions belong to the same crops as the T targets. No crop is compared with
    itself, so the pairs are those of prediction i and target j with i != j. A prediction and a
    target that were not given as lists belong to different crops: they are one pair.
    """

    preds: Sequence[Pred]
    targets: Sequence[Target]
    kappas: Sequence[Tensor] | None = None
    is_pair: bool = False
    names: tuple[str, str] = ("pred", "target")

    def __post_init__(self) -> None:
        if self.is_pair:
            return
        (pred, target), n_preds, n_targets = self.names, len(self.preds), len(self.targets)
        if n_preds < 2:
            raise ValueError(
                f"{pred} must hold two views or more, got {n_preds}: a view is not compared with "
                "itself"
            )
        if not 1 <= n_targets <= n_preds:
            raise ValueError(
                f"{target} must hold 1 to {n_preds} views, of the same crops as the first views of "
                f"{pred}, got {n_targets}"
            )
        if self.kappas is not None and len(self.kappas) != n_preds:
            raise ValueError(
                f"kappa must hold one tensor for each view of {pred}, {n_preds}, "
                f"got {len(self.kappas)}"
            )

    def pairs(self) -> list[tuple[int, int]]:
        """(i, j) for each prediction i and target j that are compared, ordered by i, then by j."""
        if self.is_pair:
            return [(0, 0)]
        targets = range(len(self.targets))
        return [(i, j) for i in range(len(self.preds)) for j in targets if i != j]

    def stacked(self, losses: list[Tensor]) -> Tensor:
        """The losses of all pairs as (pairs, ...), or the loss of the one pair as (...)."""
        return losses[0] if self.is_pair else torch.stack(losses)


def views_of(
    pred: Tensors, target: Tensors, kappa: Tensors | None = None, *, any_batch: bool = False
) -> Views[Tensor, Tensor]:
    """The arguments of a loss as views, after a check of all but the values of kappa.

    Predictions and targets are (N, d) and finite; with ``any_batch`` they are (..., d), and their
    values are not checked. Each kappa comes as (...) or (..., 1), and becomes (...).
    """
    given = (pred, target) if kappa is None else (pred, target, kappa)
    is_pair = all(isinstance(views, Tensor) for views in given)
    if not is_pair:
        _check_lists(given)
    preds, targets = _listed(pred), _listed(target)
    kappas = None if kappa is None else _listed(kappa)
    views = Views(preds, targets, kappas, is_pair)

    vectors = (("pred", preds), ("target", targets))
    check_kind(vectors if kappas is None else (*vectors, ("kappa", kappas)))
    check_shape(vectors, any_batch)
    if not any_batch:
        check_finite(vectors)
    batch_shape = preds[0].shape[:-1]
    if kappas is None or all(k.shape == batch_shape for k in kappas):
        return views
    return replace(views, kappas=[one_per_sample(k, preds[0]) for k in kappas])


def detached_targets(views: Views[Tensor, Tensor]) -> Sequence[Tensor]:
    """The targets without gradient. Swapped arguments, with which nothing would train, raise."""
    if (
        torch.is_grad_enabled()
        and not any(pred.requires_grad for pred in views.preds)
        and any(target.requires_grad for target in views.targets)
    ):
        raise ValueError(
            "target requires a gradient and pred does not, but the gradient stops at target: "
            "the prediction comes first, are the first two swapped?"
        )
    return [z.detach() for z in views.targets]  # all, since a trace may have others for inputs


def _listed(views: Tensors) -> Sequence[Tensor]:
    return (views,) if isinstance(views, Tensor) else views


def _check_lists(given: tuple[Tensors, ...]) -> None:
    """Raises a TypeError unless every argument is a list or a tuple of tensors."""
    for name, views in zip(ARGUMENTS, given, strict=False):
        if isinstance(views, (list, tuple)):
            if all(isinstance(v, Tensor) for v in views):
                continue
        elif isinstance(views, Tensor):
            continue
        raise TypeError(f"{name} must be a tensor or a list of tensors, got {type(views).__name__}")
    if any(isinstance(views, Tensor) for views in given):
        *names, last = ARGUMENTS[: len(given)]
        number, kinds = NUMBERS[len(given)], (type(views).__name__ for views in given)
        raise TypeError(
            f"{', '.join(names)} and {last} must be {number} tensors, or {number} lists of "
            f"tensors, got {', '.join(kinds)}"
        )


def one_per_sample(kappa: Tensor, pred: Tensor, name: str = "kappa", of: str = "pred") -> Tensor:
    """kappa (...) or (..., 1) as (...), for pred (..., d)."""
    batch_shape = tuple(pred.shape[:-1])
    if kappa.shape == (*batch_shape, 1):
        return kappa.squeeze(-1)
    if kappa.shape != batch_shape:
        raise ValueError(
            f"{name} must have shape {batch_shape} or {(*batch_shape, 1)}, one for each sample of "
            f"{of} {tuple(pred.shape)}, got {tuple(kappa.shape)}"
        )
    return kappa
