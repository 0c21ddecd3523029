"""SimSiam: the alignment of a von Mises-Fisher whose concentration is the same for every image."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .. import ops
from ._autocast import autocast_disabled
from ._reduction import reduce
from ._views import Tensors, detached_targets, views_of

__all__ = ["simsiam_loss"]


def simsiam_loss(
    pred: Tensors, target: Tensors, *, reduction: str = "mean", detach_target: bool = True
) -> Tensor:
    r"""Minus the cosine between a prediction and the other view's projection.

    .. code-block:: text

        loss = - mu . z,   mu = pred / |pred|,   z = stopgrad(target / |target|)

    In the frame of :mod:`powerspherical_ext.losses.objective` q is a point mass at z and p a von
    Mises-Fisher around mu of a constant concentration kappa, so that

    .. code-block:: text

        J_align = log C(kappa) + kappa mu . z = constant - kappa loss

    J_KL is constant, and J_uniform is left to the predictor (:class:`DirectPred`).

    Args:
        pred: predictions, ``(N, d)``; or V such tensors.
        target: projections of the other view, ``(N, d)``; or T <= V such tensors, of the same crops
            as the first T predictions. Pairs i == j are left out.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        detach_target: stop the gradient at the target.

    Returns:
        A scalar; with ``reduction="none"`` the loss of each sample, ``(N,)``, in the list form
        ``(V T - T, N)``.

    Data types:
        The wider of the arguments' types, and float32 at least; autocast is off inside.

    Raises:
        ValueError: shapes, numbers of views or devices that do not fit, a single view, an unknown
            reduction, NaN or infinite features (on the CPU), or a target that requires a gradient
            beside a pred that does not, since then the two were most likely swapped.
        TypeError: a tensor that is not floating-point, or a mixture of tensors and lists.

    Example:

        >>> import torch
        >>> p, z = torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([[3.0, 4.0], [0.0, 2.0]])
        >>> simsiam_loss(p, z)
        tensor(-0.8000)

    Source:
        Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021, eq. 1 and 2; as
        inference: Nakamura, Okada and Taniguchi 2023, Claim 4.3.
    """
    views = views_of(pred, target)
    preds = views.preds
    targets = detached_targets(views) if detach_target else views.targets
    dtype = ops.common_dtype(*preds, *targets)
    with autocast_disabled(preds[0].device):
        losses = [
            -F.cosine_similarity(preds[i].to(dtype), targets[j].to(dtype), -1)
            for i, j in views.pairs()
        ]
        return reduce(views.stacked(losses), reduction)
