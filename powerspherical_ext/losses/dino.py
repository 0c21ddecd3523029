"""DINO: the objective with categorical posteriors on the simplex."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from .._tensors import everywhere, whole
from ._autocast import autocast_disabled
from ._distributed import all_mean
from ._views import Tensors, detached_targets, views_of

__all__ = ["DINOLoss"]


class DINOLoss(nn.Module):
    r"""Cross entropy between a centred, sharpened target and the prediction of another view.

    .. code-block:: text

        P    = softmax((target - c) / target_temperature)     q(z|x_i), no gradient
        Q    = softmax(pred / pred_temperature)               p(z|x_j)
        loss = - sum_k P_k log Q_k                            - J_align
        c   <- m c + (1 - m) mean of target                   after each training step

    In the frame of :mod:`powerspherical_ext.losses.objective` both posteriors are categorical, and
    the loss is -J_align. The centre c stands for J_uniform: it keeps the mean of q near the uniform
    distribution. The target's temperature sets J_KL = H(P) - log K.

    No teacher is needed, and the paper has none: target may come from the same network as pred.

    Args:
        dim: number K of categories.
        target_temperature: tau_phi. It may be changed between steps, as DINO's warm-up does.
        pred_temperature: tau_theta.
        center_momentum: m.

    Shape:
        - pred: ``(N, K)``, or V such tensors. Gradients flow here.
        - target: ``(N, K)``, or T <= V such tensors, of the same crops as the first T predictions.
          Pairs i == j are left out.
        - loss: a scalar, the mean over pairs and samples.

    The centre is updated in training mode only, from all targets of the call and of all processes.
    A process without samples leaves it where it is.
    It is a buffer, so that ``state_dict`` holds it.

    Data types:
        The wider of the arguments' types, and float32 at least; autocast is off inside.

    Raises:
        ValueError: shapes, numbers of views or devices that do not fit, a single view, a
            temperature that is not positive, a momentum outside [0, 1], NaN or infinite logits (on
            the CPU), or a target that requires a gradient beside a pred that does not.
        TypeError: a tensor that is not floating-point, or a mixture of tensors and lists.

    Example:

        >>> criterion = DINOLoss(dim=3)
        >>> logits = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
        >>> print(f"{criterion(logits, logits):.5f}")
        0.00005
        >>> criterion.center
        tensor([0.0500, 0.1000, 0.0000])

    Source:
        Caron, Touvron, Misra, Jegou, Mairal, Bojanowski and Joulin, "Emerging Properties in
        Self-Supervised Vision Transformers", ICCV 2021, eq. 1 and 4; as inference: Nakamura, Okada
        and Taniguchi 2023, eq. 3 to 5, Claims 4.7 to 4.9.
    """

    center: Tensor  # (K,)

    def __init__(
        self,
        dim: int,
        *,
        target_temperature: float = 0.04,
        pred_temperature: float = 0.1,
        center_momentum: float = 0.9,
    ) -> None:
        super().__init__()
        if dim < 2:
            raise ValueError(f"dim must be at least 2, got {dim}")
        if not 0 <= center_momentum <= 1:
            raise ValueError(f"center_momentum must be in [0, 1], got {center_momentum}")
        self.target_temperature = target_temperature
        self.pred_temperature = pred_temperature
        self.center_momentum = center_momentum
        self._check_temperatures()
        self.register_buffer("center", torch.zeros(dim))

    def forward(self, pred: Tensors, target: Tensors) -> Tensor:
        """The loss of a batch. In training it also moves the centre, after the loss is computed.

        Args:
            pred: logits, ``(N, K)``; or V such tensors. Gradients flow here.
            target: logits of the other view, ``(N, K)``; or T <= V such tensors.

        Returns:
            A scalar, the mean over pairs and samples; float32 or better.

        Raises:
            ValueError, TypeError: as the class says.
        """
        self._check_temperatures()
        temperatures = self.target_temperature, self.pred_temperature
        momentum = self.center_momentum if self.training else None
        return _loss(pred, target, self.center, temperatures, momentum)

    @torch.no_grad()
    def update_center(self, targets: Sequence[Tensor]) -> None:
        """Move the centre towards the mean of the targets of all processes; training does that."""
        _move(self.center, targets, self.center_momentum)

    def _check_temperatures(self) -> None:
        for name in ("target_temperature", "pred_temperature"):
            temperature = getattr(self, name)
            if not 0 < temperature < float("inf"):
                raise ValueError(f"{name} must be positive and finite, got {temperature}")

    def extra_repr(self) -> str:
        return (
            f"dim={len(self.center)}, target_temperature={self.target_temperature}, "
            f"pred_temperature={self.pred_temperature}, center_momentum={self.center_momentum}"
        )


@torch.fx.wrap  # torch.fx records a call of it, and does not look inside
def _loss(
    pred: Tensors,
    target: Tensors,
    center: Tensor,
    temperatures: tuple[float, float],
    momentum: float | None,
) -> Tensor:
    """The loss; with a momentum the centre is moved afterwards, in place."""
    views = views_of(pred, target)
    preds, targets = views.preds, detached_targets(views)
    if preds[0].shape[-1] != len(center):
        raise ValueError(f"pred must have shape (N, {len(center)}), got {tuple(preds[0].shape)}")
    dtype = ops.common_dtype(*preds, *targets)
    of_target, of_pred = temperatures
    with autocast_disabled(preds[0].device):
        losses = []
        for i, j in views.pairs():
            centred = targets[j].to(dtype) - everywhere(center, targets[j])
            q = F.softmax(centred / of_target, -1)
            log_p = F.log_softmax(preds[i].to(dtype) / of_pred, -1)
            losses.append(-(q * log_p).sum(-1))
        loss = torch.stack(losses).mean()
        if momentum is not None:
            _move(center, targets, momentum)
    return loss


@torch.no_grad()
def _move(center: Tensor, targets: Sequence[Tensor], momentum: float) -> None:
    """Moves the centre towards the mean of the targets; without any it stays where it is."""
    rows = torch.cat([z.to(center.dtype) for z in targets])
    mean = whole(rows.mean(dim=0)) if len(rows) else center
    center.lerp_(all_mean(mean), 1 - momentum)
