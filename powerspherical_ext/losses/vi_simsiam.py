"""VI-SimSiam: the Power Spherical likelihood of one view's embedding given another view."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..reference import POWER_SPHERICAL, log_area
from ._common import autocast_disabled

__all__ = ["VISimSiamLoss", "feature_std", "mean_resultant_length", "vi_simsiam_loss"]

REDUCTIONS = ("mean", "sum", "none")

Views = Tensor | Sequence[Tensor]


def vi_simsiam_loss(
    pred: Views,
    target: Views,
    kappa: Views,
    *,
    reduction: str = "mean",
    relative_to_uniform: bool = True,
    detach_target: bool = True,
    check_kappa: bool | None = None,
) -> Tensor:
    r"""Negative log likelihood of a target direction under a Power Spherical around the predicted
    direction.

    .. code-block:: text

        loss = - log PS(z; mu, kappa) = - log C_PS(kappa) - kappa log(1 + mu . z)
        mu = pred / |pred|,   z = stopgrad(target / |target|)

    and, with ``relative_to_uniform``, plus the log density of the uniform distribution on the
    sphere, a constant: the loss is then 0 at kappa = 0, negative where the prediction beats the
    uniform guess, in nats, and of the same gradient. Without it the value is the likelihood's own,
    near -5000 at d = 2048.

    The two directions of a pair of views are two calls. Algorithm 1 of the paper adds them; most
    SimSiam code averages them, which halves the gradient. The pair form leaves that choice to the
    caller::

        loss = vi_simsiam_loss(p1, z2, kappa1) + vi_simsiam_loss(p2, z1, kappa2)

    The list form takes V predictions, T targets and V kappas, of which the first T are views of
    the same crops (multi-crop: V crops in all, T of them large). It skips the pairs i == j and
    **averages** over the V T - T others.

    Collapse: at mu . z = 1 the density has no bound as kappa grows, so embeddings that do not
    depend on the input send the loss to minus infinity, where SimSiam's stops at -1. Log
    :func:`feature_std` of the targets.

    Args:
        pred: mu before normalisation, ``(..., d)``, d >= 2; or V such tensors. Gradients flow here
            and to kappa.
        target: z before normalisation, of pred's shape; or T such tensors, T <= V.
        kappa: concentration of each prediction, >= 0, ``(...)`` or ``(..., 1)``; or V such tensors.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        relative_to_uniform: subtract the uniform distribution's loss.
        detach_target: stop the gradient at the target.
        check_kappa: whether to verify that kappa is not negative and not NaN. ``None`` does so for
            CPU tensors, outside of torch.compile and torch.func. ``True`` does so everywhere and
            makes a GPU wait.

    Returns:
        A scalar; with ``reduction="none"`` the loss of each sample, ``(...)``, in the list form
        ``(V T - T, ...)`` ordered by prediction, then by target.

    Data types:
        The widest of the arguments' types, and float32 at least: half-precision input is converted
        and autocast is off inside. float64 stays float64.

    Raises:
        ValueError: shapes, list lengths or devices that do not fit, a single view, kappa negative
            or NaN, an unknown reduction, or a target that requires a gradient beside a pred that
            does not, since then the two were most likely swapped and nothing would train.
        TypeError: a tensor that is not floating-point, or a mixture of tensors and lists.

    Example::

        >>> z1, z2 = torch.tensor([[3.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
        >>> kappa = torch.tensor([4.0])
        >>> print(f"{vi_simsiam_loss(z1, z1, kappa):.4f} {vi_simsiam_loss(z1, z2, kappa):.4f}")
        -1.6094 1.1632
        >>> views, kappas = [z1, z2, z1], [kappa, kappa, kappa]
        >>> vi_simsiam_loss(views, views[:2], kappas, reduction="none").shape
        torch.Size([4, 1])

    Source:
        Nakamura, Okada and Taniguchi, "Representation Uncertainty in Self-Supervised Learning as
        Variational Inference", ICCV 2023, eq. 33 and Algorithm 1. The density: De Cao and Aziz,
        "The Power Spherical distribution", 2020.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")

    is_pair = isinstance(pred, Tensor)
    preds, targets, kappas = _views(pred, "pred"), _views(target, "target"), _views(kappa, "kappa")
    if not (isinstance(target, Tensor) == isinstance(kappa, Tensor) == is_pair):
        kinds = ", ".join(type(views).__name__ for views in (pred, target, kappa))
        raise TypeError(
            f"pred, target and kappa must be three tensors, or three lists of tensors, got {kinds}"
        )
    if not is_pair:
        _check_counts(len(preds), len(targets), len(kappas))

    batch_shape = preds[0].shape[:-1]
    kappas = [k.squeeze(-1) if k.shape == (*batch_shape, 1) else k for k in kappas]
    _check_tensors(preds, targets, kappas)
    if detach_target:
        _check_not_swapped(preds, targets)
        targets = [z.detach() for z in targets]

    dtype = ops.common_dtype(*preds, *targets, *kappas)

    with autocast_disabled(preds[0].device):
        mus = [F.normalize(mu.to(dtype), dim=-1) for mu in preds]
        zs = [F.normalize(z.to(dtype), dim=-1) for z in targets]
        kappas = [k.to(dtype) for k in kappas]
        for k in kappas:
            _check_kappa_values(k, check_kappa)
        pairs = [(i, j) for i in range(len(mus)) for j in range(len(zs)) if is_pair or i != j]
        losses = [-ops.log_prob(zs[j], mus[i], kappas[i], POWER_SPHERICAL) for i, j in pairs]
        loss = losses[0] if is_pair else torch.stack(losses)
        if relative_to_uniform:
            loss = loss - log_area(mus[0].shape[-1])

    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()


class VISimSiamLoss(nn.Module):
    """:func:`vi_simsiam_loss` as a module, to stand where a SimSiam loss stood.

    SimSiam averages two directions; eq. 33 takes a third tensor, kappa, and Algorithm 1 adds::

        loss = 0.5 * (criterion(p1, z2) + criterion(p2, z1))             # before
        loss = criterion(p1, z2, kappa1) + criterion(p2, z1, kappa2)     # after

    The prediction comes first and the target second: the target is detached inside.

    Args:
        reduction, relative_to_uniform, detach_target, check_kappa: as in :func:`vi_simsiam_loss`,
            which also says what ``forward`` takes, returns and raises.

    Example::

        >>> criterion = VISimSiamLoss()
        >>> p = torch.randn(8, 16, requires_grad=True)
        >>> loss = criterion(p, torch.randn(8, 16), torch.full((8,), 20.0))
        >>> loss.backward()
        >>> p.grad.shape
        torch.Size([8, 16])

    Source:
        Nakamura, Okada and Taniguchi 2023, eq. 33 and Algorithm 1.
    """

    def __init__(
        self,
        *,
        reduction: str = "mean",
        relative_to_uniform: bool = True,
        detach_target: bool = True,
        check_kappa: bool | None = None,
    ) -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")
        self.reduction = reduction
        self.relative_to_uniform = relative_to_uniform
        self.detach_target = detach_target
        self.check_kappa = check_kappa

    def forward(self, pred: Views, target: Views, kappa: Views) -> Tensor:
        return vi_simsiam_loss(
            pred,
            target,
            kappa,
            reduction=self.reduction,
            relative_to_uniform=self.relative_to_uniform,
            detach_target=self.detach_target,
            check_kappa=self.check_kappa,
        )

    def extra_repr(self) -> str:
        return (
            f"reduction={self.reduction!r}, relative_to_uniform={self.relative_to_uniform}, "
            f"detach_target={self.detach_target}"
        )


def mean_resultant_length(kappa: Tensor, dim: int) -> Tensor:
    r"""E[mu . z] = kappa / (kappa + dim - 1): the cosine that a Power Spherical with this kappa
    expects.

    A certainty in [0, 1) that compares across dimensions, where kappa itself does not. Beside the
    cosine observed between views it tells, without labels, whether kappa is calibrated.

    Args:
        kappa: concentrations, any shape, >= 0.
        dim: length d of the latent vectors.

    Example::

        >>> mean_resultant_length(torch.tensor([0.0, 127.0]), dim=128)
        tensor([0.0000, 0.5000])

    Source:
        De Cao and Aziz 2020: (1 + mu . z) / 2 is Beta((d - 1)/2 + kappa, (d - 1)/2).
    """
    return ops.mean_resultant_length(kappa, dim, POWER_SPHERICAL)


def feature_std(z: Tensor) -> Tensor:
    r"""Mean over the d coordinates of the batch's standard deviation of z / \|z\|: the usual alarm
    for collapse.

    1/sqrt(d) for directions spread over the whole sphere, 0 when all samples have the same
    direction (Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021, section
    4.1).

    Args:
        z: embeddings, ``(N, d)``, N >= 2; the length of a row does not matter.

    Returns:
        A detached scalar, float32 or better.

    Example::

        >>> _ = torch.manual_seed(0)
        >>> spread, collapsed = torch.randn(1000, 100), torch.ones(8, 100)
        >>> print(f"{feature_std(spread):.3f} {feature_std(collapsed):.3f}")
        0.100 0.000
    """
    if z.ndim != 2 or len(z) < 2:
        raise ValueError(f"z must have shape (N, d) with N of 2 or more, got {tuple(z.shape)}")
    dtype = torch.promote_types(z.dtype, torch.float32)
    return F.normalize(z.detach().to(dtype), dim=-1).std(dim=0).mean()


def _views(views: Views, name: str) -> list[Tensor]:
    if isinstance(views, Tensor):
        return [views]
    if not isinstance(views, (list, tuple)) or not all(isinstance(v, Tensor) for v in views):
        raise TypeError(f"{name} must be a tensor or a list of tensors, got {type(views).__name__}")
    return list(views)


def _check_counts(n_preds: int, n_targets: int, n_kappas: int) -> None:
    if n_preds < 2:
        raise ValueError(
            f"pred must hold two views or more, got {n_preds}: a view is not compared with itself"
        )
    if not 1 <= n_targets <= n_preds:
        raise ValueError(
            f"target must hold 1 to {n_preds} views, of the same crops as the first views of pred, "
            f"got {n_targets}"
        )
    if n_kappas != n_preds:
        raise ValueError(
            f"kappa must hold one tensor for each view of pred, {n_preds}, got {n_kappas}"
        )


def _check_tensors(preds: list[Tensor], targets: list[Tensor], kappas: list[Tensor]) -> None:
    first = preds[0]
    for name, tensors in (("pred", preds), ("target", targets), ("kappa", kappas)):
        for tensor in tensors:
            if not tensor.is_floating_point():
                raise TypeError(f"{name} must be a floating-point tensor, got {tensor.dtype}")
            if tensor.device != first.device:
                raise ValueError(
                    f"{name} must be on the device of pred, {first.device}, got {tensor.device}"
                )
    if first.ndim == 0 or first.shape[-1] < 2:
        raise ValueError(f"pred must have shape (..., d) with d >= 2, got {tuple(first.shape)}")
    for name, tensors in (("pred", preds), ("target", targets)):
        for tensor in tensors:
            if tensor.shape != first.shape:
                raise ValueError(
                    f"{name} must have the shape {tuple(first.shape)} of pred, "
                    f"got {tuple(tensor.shape)}"
                )
    batch_shape = tuple(first.shape[:-1])
    for k in kappas:
        if k.shape != batch_shape:
            raise ValueError(
                f"kappa must have shape {batch_shape} or {(*batch_shape, 1)}, one for each sample "
                f"of pred {tuple(first.shape)}, got {tuple(k.shape)}"
            )


def _check_not_swapped(preds: list[Tensor], targets: list[Tensor]) -> None:
    if not torch.is_grad_enabled() or any(mu.requires_grad for mu in preds):
        return
    if any(z.requires_grad for z in targets):
        raise ValueError(
            "target requires a gradient and pred does not, but the gradient stops at target: "
            "the call is vi_simsiam_loss(pred, target, kappa), are the first two swapped?"
        )


def _check_kappa_values(kappa: Tensor, check: bool | None) -> None:
    if check is None:
        is_eager = not (torch.compiler.is_compiling() or ops.transform_active())
        check = kappa.device.type == "cpu" and is_eager
    if check and not bool((kappa >= 0).all()):
        raise ValueError(
            f"kappa must be >= 0 and not NaN, got {kappa.detach().min().item()}: "
            "end the head in a softplus, as KappaHead does"
        )
