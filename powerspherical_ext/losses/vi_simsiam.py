"""VI-SimSiam: the likelihood of one view's embedding under a distribution around another's."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..families import Family, family_named
from ..reference import log_area
from ._common import autocast_disabled, family_index
from ._views import REDUCTIONS, Views, check_counts, check_not_swapped

__all__ = ["VISimSiamLoss", "feature_std", "mean_resultant_length", "vi_simsiam_loss"]

BETA_WEIGHS = ("cosine", "loss")


def vi_simsiam_loss(
    pred: Views,
    target: Views,
    kappa: Views,
    *,
    distribution: str = "power_spherical",
    beta: float = 0.0,
    beta_weighs: str = "cosine",
    kappa_max: float | None = None,
    reduction: str = "mean",
    relative_to_uniform: bool = True,
    detach_target: bool = True,
    check_kappa: bool | None = None,
) -> Tensor:
    r"""Negative log likelihood of a target direction under a distribution around the predicted
    direction.

    .. code-block:: text

        loss = - log p(z; mu, kappa)
             = - log C_PS(kappa) - kappa log(1 + mu . z)     "power_spherical", the paper's
             = - log C_vMF(kappa) - kappa mu . z             "von_mises_fisher"
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

    Weights: in the gradient of mu, kappa multiplies the cosine term, so that samples which are
    certain already dominate, and the others are given up (paper, section 6.6). ``beta`` from 0 to 1
    takes that back, by a factor that has no gradient itself:

    .. code-block:: text

        beta_weighs="cosine"   d loss/d mu times kappa^-beta; value and d loss/d kappa as they are;
                               beta = 1 weighs every sample's cosine alike, as SimSiam does
        beta_weighs="loss"     loss times max(kappa, 1)^-beta: kappa learns more slowly, too

    Measured once: ``examples/train_vi_simsiam.py --steps 400 --seed 0`` (d = 128), beta = 0, 0.5, 1
    gives kNN accuracy .538, .564, .529 on clean test images and .381, .365, .337 on damaged ones,
    and AUROC .684, .698, .672 of kappa on these (standard error .007). No gain is shown by that.

    Collapse: at mu . z = 1 the density has no bound as kappa grows, so embeddings that do not
    depend on the input send the loss to minus infinity, where SimSiam's stops at -1. Log
    :func:`feature_std` of the targets. ``kappa_max`` bounds the loss from below, by replacing

    .. code-block:: text

        kappa   by   kappa / sqrt(1 + (kappa / kappa_max)^2) < kappa_max,

    which is kappa to 1 % up to kappa_max / 7, and whose slope is positive everywhere: a clamp
    would end the training of every sample beyond it.

    Args:
        pred: mu before normalisation, ``(..., d)``, d >= 2; or V such tensors. Gradients flow here
            and to kappa.
        target: z before normalisation, of pred's shape; or T such tensors, T <= V.
        kappa: concentration of each prediction, > 0, ``(...)`` or ``(..., 1)``; or V such tensors.
        distribution: ``"power_spherical"`` or ``"von_mises_fisher"``.
        beta: from 0, the paper's eq. 33, to 1.
        beta_weighs: ``"cosine"`` or ``"loss"``, see above.
        kappa_max: a positive bound of kappa, or ``None``.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        relative_to_uniform: subtract the uniform distribution's loss.
        detach_target: stop the gradient at the target.
        check_kappa: whether to verify that kappa is positive and not NaN, and the result not NaN.
            ``None`` does so for CPU tensors, outside of torch.compile and torch.func. ``True`` does
            so everywhere and makes a GPU wait.

    Returns:
        A scalar; with ``reduction="none"`` the loss of each sample, ``(...)``, in the list form
        ``(V T - T, ...)`` ordered by prediction, then by target.

    Data types:
        Half-precision predictions and targets are read as they are and summed in float32 or
        better; their gradients have their type. The loss and kappa have the widest of the
        arguments' types, and float32 at least; autocast is off inside. float64 stays float64.

    Zero vectors:
        A prediction or target shorter than 1e-12 has no direction. As with
        ``torch.nn.functional.normalize`` its cosine counts as 0; its gradient is 0, too, where
        ``normalize`` has one of size 1e12.

    Raises:
        ValueError: shapes, list lengths or devices that do not fit, a single view, kappa not
            positive or NaN, predictions or targets that hold NaN or infinity, an unknown reduction,
            distribution or weighting, beta outside of [0, 1], kappa_max not positive, or a target
            that requires a gradient beside a pred that does not, since then the two were most
            likely swapped and nothing would train.
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
        "The Power Spherical distribution", 2020. Weights of the whole loss: Seitzer et al., "On the
        Pitfalls of Heteroscedastic Uncertainty Estimation with Probabilistic Neural Networks", ICLR
        2022, eq. 6, for a Gaussian's variance in the place of 1 / kappa.
    """
    _check_options(distribution, beta, beta_weighs, kappa_max, reduction)
    is_pair = isinstance(pred, Tensor)
    preds, targets, kappas = _views(pred, "pred"), _views(target, "target"), _views(kappa, "kappa")
    if not (isinstance(target, Tensor) == isinstance(kappa, Tensor) == is_pair):
        kinds = ", ".join(type(views).__name__ for views in (pred, target, kappa))
        raise TypeError(
            f"pred, target and kappa must be three tensors, or three lists of tensors, got {kinds}"
        )
    if not is_pair:
        check_counts(len(preds), len(targets))
        if len(kappas) != len(preds):
            raise ValueError(
                f"kappa must hold one tensor for each view of pred, {len(preds)}, got {len(kappas)}"
            )

    batch_shape = preds[0].shape[:-1]
    kappas = [
        k.squeeze(-1) if k.ndim > len(batch_shape) and k.shape == (*batch_shape, 1) else k
        for k in kappas
    ]
    _check_tensors(preds, targets, kappas)
    if detach_target:
        check_not_swapped(preds, targets)
        targets = [z.detach() if z.requires_grad else z for z in targets]
    check = _is_checked(kappas[0], check_kappa)
    if check:
        _check_kappa_values(kappas)

    with autocast_disabled(preds[0].device):
        dtype = ops.common_dtype(*preds, *targets, *kappas)
        kappas = [_bounded(k.to(dtype), kappa_max) for k in kappas]
        pairs = [
            (i, j) for i in range(len(preds)) for j in range(len(targets)) if is_pair or i != j
        ]
        family = family_index(distribution)
        count = math.prod(batch_shape) * len(pairs) if reduction == "mean" else 1
        constant = 0.0 if relative_to_uniform else log_area(preds[0].shape[-1])
        scale = None if reduction == "none" else 1 / count if count else math.nan
        losses = [
            _direction_loss(
                preds[i], targets[j], kappas[i], family, beta, beta_weighs, scale, constant
            )
            for i, j in pairs
        ]
        loss = losses[0] if is_pair else torch.stack(losses)
        if not is_pair and scale is not None:
            loss = loss.sum()
    if check:
        _check_loss(loss, preds, targets)
    return loss


def _direction_loss(
    pred: Tensor,
    target: Tensor,
    kappa: Tensor,
    family: Family,
    beta: float,
    beta_weighs: str,
    scale: float | None,
    constant: float,
) -> Tensor:
    """The loss of each sample plus the constant; with ``scale``, scale times their sum."""
    row_weight = None
    if beta and beta_weighs == "loss":
        row_weight, beta = kappa.detach().clamp(min=1) ** -beta, 0.0
    if scale is None:
        loss = ops.vi_simsiam_loss(pred, target, kappa, family, beta) + constant
        return loss if row_weight is None else row_weight * loss
    weight = kappa.new_full((), scale) if row_weight is None else scale * row_weight
    loss = ops.vi_simsiam_loss(pred, target, kappa, family, beta, weight)
    if not constant:
        return loss
    return loss + constant * (kappa.numel() * scale if row_weight is None else weight.sum())


class VISimSiamLoss(nn.Module):
    """:func:`vi_simsiam_loss` as a module, to stand where a SimSiam loss stood.

    SimSiam averages two directions; eq. 33 takes a third tensor, kappa, and Algorithm 1 adds::

        loss = 0.5 * (criterion(p1, z2) + criterion(p2, z1))             # before
        loss = criterion(p1, z2, kappa1) + criterion(p2, z1, kappa2)     # after

    The prediction comes first and the target second: the target is detached inside.

    Args:
        distribution, beta, beta_weighs, kappa_max, reduction, relative_to_uniform, detach_target,
            check_kappa: as in :func:`vi_simsiam_loss`, which also says what ``forward`` takes,
            returns and raises.

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
        distribution: str = "power_spherical",
        beta: float = 0.0,
        beta_weighs: str = "cosine",
        kappa_max: float | None = None,
        reduction: str = "mean",
        relative_to_uniform: bool = True,
        detach_target: bool = True,
        check_kappa: bool | None = None,
    ) -> None:
        super().__init__()
        _check_options(distribution, beta, beta_weighs, kappa_max, reduction)
        self.distribution = distribution
        self.beta = beta
        self.beta_weighs = beta_weighs
        self.kappa_max = kappa_max
        self.reduction = reduction
        self.relative_to_uniform = relative_to_uniform
        self.detach_target = detach_target
        self.check_kappa = check_kappa

    def forward(self, pred: Views, target: Views, kappa: Views) -> Tensor:
        return vi_simsiam_loss(
            pred,
            target,
            kappa,
            distribution=self.distribution,
            beta=self.beta,
            beta_weighs=self.beta_weighs,
            kappa_max=self.kappa_max,
            reduction=self.reduction,
            relative_to_uniform=self.relative_to_uniform,
            detach_target=self.detach_target,
            check_kappa=self.check_kappa,
        )

    def extra_repr(self) -> str:
        return (
            f"distribution={self.distribution!r}, beta={self.beta}, "
            f"beta_weighs={self.beta_weighs!r}, kappa_max={self.kappa_max}, "
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
    return ops.mean_resultant_length(kappa, dim, family_named("power_spherical"))


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


def _check_options(
    distribution: str, beta: float, beta_weighs: str, kappa_max: float | None, reduction: str
) -> None:
    family_index(distribution)
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must be from 0 to 1, got {beta}")
    if beta_weighs not in BETA_WEIGHS:
        raise ValueError(f"beta_weighs must be one of {BETA_WEIGHS}, got {beta_weighs!r}")
    if kappa_max is not None and not kappa_max > 0:
        raise ValueError(f"kappa_max must be positive, or None for no bound, got {kappa_max}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")


def _bounded(kappa: Tensor, kappa_max: float | None) -> Tensor:
    return kappa if kappa_max is None else kappa / (1 + (kappa / kappa_max) ** 2).sqrt()


def _views(views: Views, name: str) -> list[Tensor]:
    if isinstance(views, Tensor):
        return [views]
    if not isinstance(views, (list, tuple)) or not all(isinstance(v, Tensor) for v in views):
        raise TypeError(f"{name} must be a tensor or a list of tensors, got {type(views).__name__}")
    return list(views)


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


def _is_checked(kappa: Tensor, check: bool | None) -> bool:
    if check is not None:
        return check
    return kappa.device.type == "cpu" and not (
        torch.compiler.is_compiling() or ops.transform_active()
    )


def _check_kappa_values(kappas: list[Tensor]) -> None:
    for kappa in kappas:
        smallest = kappa.detach().min().item() if kappa.numel() else 1.0
        if not smallest > 0:
            raise ValueError(
                f"kappa must be > 0 and not NaN, got {smallest}: "
                "end the head in a softplus, as KappaHead does"
            )


def _check_loss(loss: Tensor, preds: list[Tensor], targets: list[Tensor]) -> None:
    """Looks for what is wrong with the vectors only once the loss says that something is."""
    loss = loss.detach()
    if not (math.isnan(loss.item()) if loss.ndim == 0 else bool(loss.isnan().any())):
        return
    for name, tensors in (("pred", preds), ("target", targets)):
        if not all(bool(tensor.isfinite().all()) for tensor in tensors):
            raise ValueError(f"{name} must be finite, got NaN or infinity")
