"""The VI-SimSiam loss of pairs of vectors that are not normalised; see csrc/vi_simsiam.h."""

from __future__ import annotations

import torch
from torch import Tensor

from .contract import FamilyReference
from .sphere import half_angle

_SHORTEST = 1e-12  # a shorter vector has no direction: its cosine counts as 0, its gradient is 0


# kappa^-beta, and what it multiplies, are evaluated at no smaller kappa: both are then finite.
_SMALLEST_KAPPA = {torch.float32: 1e-30, torch.float64: 1e-290}


def vi_simsiam_loss(
    pred: Tensor, target: Tensor, kappa: Tensor, family: FamilyReference, beta: float = 0.0
) -> Tensor:
    """-log p(x/|x|; mu/|mu|, kappa) - log_area, for x = target and mu = pred (..., d), kappa (...).

    As -(log_prob_at_mode_over_uniform + log_prob_ratio) nothing of size log_area cancels. The
    gradients of pred and target are multiplied by stopgrad(kappa)^-beta.
    """
    d = pred.shape[-1]
    pred, target = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (pred, target))
    sin2, cos2 = _direction_half_angle(target, pred)
    if beta == 0:
        ratio = family.log_prob_ratio(kappa, d, sin2, cos2)
    else:
        ratio = family.log_prob_ratio(kappa, d, sin2.detach(), cos2.detach())
        constant = kappa.detach().clamp(min=_SMALLEST_KAPPA[kappa.dtype])
        weighted = constant**-beta * family.log_prob_ratio(constant, d, sin2, cos2)
        ratio = ratio + torch.where(weighted.isinf(), 0.0, weighted - weighted.detach())
    return -(family.log_prob_at_mode_over_uniform(kappa, d) + ratio)


def _direction_half_angle(value: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """`half_angle` of value/|value| and mu/|mu|; 1/2 and 1/2 where either has no direction."""
    (value, has_value), (mu, has_mu) = _direction(value), _direction(mu)
    sin2, cos2 = half_angle(value, mu)
    known = has_value & has_mu | sin2.isnan()  # NaN stays NaN beside a vector without a direction
    return torch.where(known, sin2, 0.5), torch.where(known, cos2, 0.5)


def _direction(vector: Tensor) -> tuple[Tensor, Tensor]:
    """vector/|vector|, and where there is one; anything else has no gradient."""
    known = ~(vector.square().sum(-1) < _SHORTEST**2)  # NaN stays NaN
    vector = torch.where(known.unsqueeze(-1), vector, 1.0)
    return vector / vector.square().sum(-1, keepdim=True).sqrt(), known
