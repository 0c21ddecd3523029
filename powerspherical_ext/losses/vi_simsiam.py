"""VI-SimSiam: the likelihood of one view's embedding under a distribution around another's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from .. import ops
from ..families import Family, family_named
from ..reference import log_area
from ._autocast import autocast_disabled
from ._checks import values_are_cheap
from ._domain import check_inside
from ._reduction import check_reduction, reduce
from ._views import Tensors, detached_targets, views_of

__all__ = ["VISimSiamLoss", "vi_simsiam_loss"]

BETA_WEIGHS = ("cosine", "loss")


@dataclass(frozen=True)
class Options:
    """The options of `vi_simsiam_loss`, which documents them, after a check of their values."""

    distribution: str
    beta: float
    beta_weighs: str
    kappa_max: float | None
    reduction: str
    relative_to_uniform: bool
    detach_target: bool
    check_kappa: bool | None

    def __post_init__(self) -> None:
        family = family_named(self.distribution)
        if not 0 <= self.beta <= 1:
            raise ValueError(f"beta must be from 0 to 1, got {self.beta}")
        if self.beta_weighs not in BETA_WEIGHS:
            raise ValueError(f"beta_weighs must be one of {BETA_WEIGHS}, got {self.beta_weighs!r}")
        if self.beta_weighs == "loss" and family.upper_bound <= 1:
            raise ValueError(
                f"beta_weighs must be 'cosine' for distribution={self.distribution!r}, got 'loss': "
                f"its kappa is below {family.upper_bound:g}, so that max(kappa, 1)^-beta is "
                "always 1"
            )
        if self.kappa_max is not None and not self.kappa_max > 0:
            raise ValueError(
                f"kappa_max must be positive, or None for no bound, got {self.kappa_max}"
            )
        if self.kappa_max is not None and family.is_bounded:
            raise ValueError(
                f"kappa_max must be None for distribution={self.distribution!r}, whose kappa is "
                f"below {family.upper_bound:g} already, got {self.kappa_max}"
            )
        check_reduction(self.reduction)


def vi_simsiam_loss(
    pred: Tensors,
    target: Tensors,
    kappa: Tensors,
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
    r"""The negative log likelihood of a target's direction under a distribution around the
    predicted direction.

    .. code-block:: text

        loss = - log p(z; mu, kappa)
             = - log C_PS(kappa) - kappa log(1 + mu . z)     "power_spherical", the paper's
             = - log C_vMF(kappa) - kappa mu . z             "von_mises_fisher"
        mu = pred / |pred|,   z = stopgrad(target / |target|)

    With ``relative_to_uniform`` the log density of the uniform distribution on the sphere is added.
    This constant leaves the gradient as it is. The loss is then 0 at kappa = 0, and negative if the
    prediction beats the uniform guess, in nats. Without the constant the value is that of the
    likelihood, near -5000 at d = 2048.

    The two directions of a pair of views are two calls. Algorithm 1 of the paper adds them; most
    SimSiam code averages them, which halves the gradient. The pair form leaves that choice to the
    caller::

        loss = vi_simsiam_loss(p1, z2, kappa1) + vi_simsiam_loss(p2, z1, kappa2)

    The list form takes V predictions, T targets and V kappas. The first T predictions are views of
    the same crops as the T targets (in multi-crop training V counts all crops, and T the large
    ones). The loss skips the pairs i == j and **averages** over the V T - T others. Views that are
    stacked in one tensor are a batch of samples instead, each compared with its own target.

    Weights: in the gradient of mu, kappa multiplies the cosine term. Samples that are certain
    already therefore dominate, and the others are given up (paper, section 6.6). ``beta`` from 0 to
    1 reduces this by a factor that has no gradient itself:

    .. code-block:: text

        beta_weighs="cosine"   d loss/d mu times kappa^-beta; value and d loss/d kappa as they are;
                               beta = 1 weighs every sample's cosine alike, as SimSiam does
        beta_weighs="loss"     loss times max(kappa, 1)^-beta: kappa learns more slowly, too

    On Fashion-MNIST (d = 128, 8 epochs, mean of three seeds; docs/claims.md) the kNN accuracy and
    the AUROC of kappa on damaged images were .732 and .671 with beta = 0, .696 and .640 with beta =
    1 and ``"cosine"``, and .751 and .693 with beta = 1 and ``"loss"``. SimSiam's accuracy was .754.

    Collapse: at mu . z = 1 the density grows without bound in kappa. Embeddings that do not depend
    on the input therefore send the loss to minus infinity, while SimSiam's stops at -1. Log
    :func:`feature_std` of the targets to see it. ``kappa_max`` bounds the loss from below: it
    replaces

    .. code-block:: text

        kappa   by   kappa / sqrt(1 + (kappa / kappa_max)^2) < kappa_max.

    This is kappa to 1 % up to kappa_max / 7, and its slope is positive everywhere. A clamp would
    stop the training of every sample above the bound.

    Args:
        pred: mu before normalisation, ``(..., d)``, d >= 2; or V such tensors. Gradients flow here
            and to kappa.
        target: z before normalisation, of pred's shape; or T such tensors, T <= V.
        kappa: concentration of each prediction, ``(...)`` or ``(..., 1)``; or V such tensors. It is
            positive, and below the end of the distribution's domain: 1 for
            ``"spherical_cauchy"``, and 2^50, which a :class:`KappaHead` never reaches, for the
            others.
        distribution: name of the family: ``"power_spherical"``, ``"von_mises_fisher"``, or another
            of ``powerspherical_ext.families.FAMILIES``.
        beta: from 0, the paper's eq. 33, to 1.
        beta_weighs: ``"cosine"`` or ``"loss"``, see above. A distribution whose kappa is below 1
            takes ``"cosine"`` only: the factor of ``"loss"`` would always be 1.
        kappa_max: a positive bound of kappa, or ``None``. A distribution whose kappa is bounded
            already takes ``None`` only.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        relative_to_uniform: subtract the uniform distribution's loss.
        detach_target: stop the gradient at the target.
        check_kappa: verify that kappa is inside its domain and the result not NaN. ``None``
            verifies CPU tensors outside of torch.compile and torch.func. ``True`` verifies
            everywhere and makes a GPU wait. Unverified, a kappa outside of its domain makes the
            loss and its gradients NaN, and 0 is the uniform distribution.

    Returns:
        A scalar. With ``reduction="none"`` it is the loss of each sample, ``(...)``, and in the
        list form ``(V T - T, ...)``, ordered by prediction, then by target.

    Data types:
        Half-precision predictions and targets are read as they are and summed in float32 or
        better; their gradients have their type. The loss and kappa have the widest of the
        arguments' types, and float32 at least; autocast is off inside. float64 stays float64.

    DTensors:
        All of pred, target and kappa are DTensors, or none is. Each process then computes its own
        rows, and a reduction is over the rows of all processes. ``check_kappa=None`` does not
        verify DTensors.

    Zero vectors:
        A prediction or target shorter than 1e-12 has no direction. Its cosine counts as 0, as with
        ``torch.nn.functional.normalize``. Its gradient is 0, too, while that of ``normalize`` has
        size 1e12.

    Raises:
        ValueError: shapes, list lengths or devices that do not fit, a single view, kappa outside
            its domain or NaN, predictions or targets that hold NaN or infinity, an unknown
            reduction, distribution or weighting, beta outside of [0, 1], kappa_max not positive, an
            option that the distribution does not take, or a target that requires a gradient beside
            a pred that does not. In the last case the two were most likely swapped, and nothing
            would train.
        TypeError: a tensor that is not floating-point, or a mixture of tensors and lists.

    Example:

        >>> import torch
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
        2022, eq. 6, which has the variance of a Gaussian in the place of 1 / kappa.
    """
    options = Options(
        distribution,
        beta,
        beta_weighs,
        kappa_max,
        reduction,
        relative_to_uniform,
        detach_target,
        check_kappa,
    )
    return _loss(pred, target, kappa, options)


class VISimSiamLoss(nn.Module):
    """:func:`vi_simsiam_loss` as a module, which takes the place of a SimSiam loss.

    SimSiam averages two directions. VI-SimSiam takes a third tensor, kappa, and adds them::

        loss = 0.5 * (criterion(p1, z2) + criterion(p2, z1))             # before
        loss = criterion(p1, z2, kappa1) + criterion(p2, z1, kappa2)     # after

    The prediction comes first and the target second: the target is detached inside. All options
    are attributes of the module as well, and may be assigned.

    Args:
        distribution, beta, beta_weighs, kappa_max: as in :func:`vi_simsiam_loss`.
        reduction, relative_to_uniform, detach_target, check_kappa: likewise.

    Raises:
        ValueError: an option that :func:`vi_simsiam_loss` refuses.

    Example:

        >>> import torch
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
        self.options = Options(
            distribution,
            beta,
            beta_weighs,
            kappa_max,
            reduction,
            relative_to_uniform,
            detach_target,
            check_kappa,
        )

    def forward(self, pred: Tensors, target: Tensors, kappa: Tensors) -> Tensor:
        """The loss of a batch, as :func:`vi_simsiam_loss` with the options of the module.

        Args:
            pred: predictions, ``(..., d)``; or V such tensors. Gradients flow here and to kappa.
            target: projections of the other view, of pred's shape; or T <= V such tensors.
            kappa: concentration of each prediction, ``(...)`` or ``(..., 1)``; or V such tensors.

        Returns:
            A scalar, or with ``reduction="none"`` the loss of each sample; float32 or better.

        Raises:
            ValueError, TypeError: as :func:`vi_simsiam_loss`.
        """
        return _loss(pred, target, kappa, self.options)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in vars(self.options).items())


def _option(name: str) -> property:
    """An attribute of the module that reads and replaces one of its options."""

    def set_option(module: VISimSiamLoss, value: Any) -> None:
        module.options = replace(module.options, **{name: value})

    def get_option(module: VISimSiamLoss) -> Any:
        return getattr(module.options, name)

    return property(
        get_option, set_option, doc=f"The option ``{name}`` of :func:`vi_simsiam_loss`."
    )


for _field in fields(Options):
    setattr(VISimSiamLoss, _field.name, _option(_field.name))


@torch.fx.wrap  # torch.fx records a call of it, and does not look inside
def _loss(pred: Tensors, target: Tensors, kappa: Tensors, options: Options) -> Tensor:
    views = views_of(pred, target, kappa, any_batch=True)
    preds, kappas = views.preds, views.kappas or ()
    targets = detached_targets(views) if options.detach_target else views.targets
    family = family_named(options.distribution)
    check = options.check_kappa
    if check is None:
        check = values_are_cheap(kappas[0])
    if check:
        for k in kappas:
            check_inside(k, family)

    with autocast_disabled(preds[0].device):
        dtype = ops.common_dtype(*preds, *targets, *kappas)
        kappas = [k.to(dtype) for k in kappas]
        if options.kappa_max is not None:
            kappas = [_bounded(family.inside(k), options.kappa_max) for k in kappas]
        pairs = views.pairs()
        directions = [(preds[i], targets[j], kappas[i]) for i, j in pairs]
        scale = _scale(options.reduction, len(pairs) * kappas[0].numel())
        if scale is None:
            losses = [_losses(*direction, family, options) for direction in directions]
            loss = reduce(views.stacked(losses), options.reduction)
        else:
            loss = _sum(directions, family, options, scale)
    if check:
        _check_loss(loss, preds, targets)
    return loss


def _scale(reduction: str, count: int) -> float | None:
    """The factor of the sum of all losses, or None where they are not summed."""
    if reduction == "none" or count == 0:
        return None
    return 1.0 if reduction == "sum" else 1 / count


def _losses(
    pred: Tensor, target: Tensor, kappa: Tensor, family: Family, options: Options
) -> Tensor:
    """The loss of each sample, (...)."""
    weight, beta = _weight(kappa, options)
    loss = ops.vi_simsiam_loss(pred, target, kappa, family, beta) + _constant(pred, options)
    return loss if weight is None else weight * loss


def _sum(
    directions: Sequence[tuple[Tensor, Tensor, Tensor]],
    family: Family,
    options: Options,
    scale: float,
) -> Tensor:
    """scale times the sum of the losses of all samples, a scalar."""
    total: Tensor | None = None
    for pred, target, kappa in directions:
        weight, beta = _weight(kappa, options)
        total = ops.vi_simsiam_loss(pred, target, kappa, family, beta, scale, weight, total)
        if constant := _constant(pred, options):
            total = total + scale * constant * (kappa.numel() if weight is None else weight.sum())
    assert total is not None  # there is at least one direction
    return total


def _weight(kappa: Tensor, options: Options) -> tuple[Tensor | None, float]:
    """What multiplies the loss of each sample, and beta of the gradient of its cosine."""
    if options.beta and options.beta_weighs == "loss":
        return kappa.detach().clamp(min=1) ** -options.beta, 0.0
    return None, options.beta


def _constant(pred: Tensor, options: Options) -> float:
    return 0.0 if options.relative_to_uniform else log_area(pred.shape[-1])


def _bounded(kappa: Tensor, kappa_max: float) -> Tensor:
    ratio = kappa / kappa_max
    return kappa / torch.hypot(torch.ones_like(ratio), ratio)  # whose square does not overflow


def _check_loss(loss: Tensor, preds: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    """Raises a ValueError if the loss is NaN because a vector is not finite.

    The vectors are read only once the loss is NaN.
    """
    loss = loss.detach()
    if not (math.isnan(loss.item()) if loss.ndim == 0 else bool(loss.isnan().any())):
        return
    for name, tensors in (("pred", preds), ("target", targets)):
        if not all(bool(tensor.isfinite().all()) for tensor in tensors):
            raise ValueError(f"{name} must be finite, got NaN or infinity")
