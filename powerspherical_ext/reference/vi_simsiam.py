"""The VI-SimSiam loss of pairs of vectors that are not normalised; see csrc/vi_simsiam.h."""

from __future__ import annotations

import torch
from torch import Tensor

from .sphere import FAMILIES, chords

_SHORTEST = 1e-12  # a shorter vector has no direction: its cosine counts as 0, its gradient is 0


def vi_simsiam_loss(
    pred: Tensor, target: Tensor, kappa: Tensor, family: int, beta: float = 0.0
) -> Tensor:
    """-log p(x/|x|; mu/|mu|, kappa) - log_area, for x = target and mu = pred (..., d), kappa (...).

    As -(KL + kappa log_peak_1 + log_falloff) nothing of size log_area cancels. The gradients of
    pred and target are multiplied by stopgrad(kappa)^-beta.
    """
    module, d = FAMILIES[family], pred.shape[-1]
    pred, target = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (pred, target))
    y, z = _direction_chords(target, pred)
    if beta == 0:
        falloff = module.log_falloff(kappa, y, z)
    else:
        falloff = module.log_falloff(kappa, y.detach(), z.detach())
        slope = module.log_falloff(kappa.detach() ** (1 - beta), y, z)
        falloff = falloff + torch.where(slope.isfinite(), slope - slope.detach(), 0.0)
    peak = module.kl_uniform(kappa, d) + kappa * module.log_peak_1(kappa, d)
    loss: Tensor = -(peak + falloff)
    return loss


def _direction_chords(value: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """`chords` of value/|value| and mu/|mu|; 1/2 and 1/2 where either has no direction."""
    (value, has_value), (mu, has_mu) = _direction(value), _direction(mu)
    y, z = chords(value, mu)
    known = has_value & has_mu
    return torch.where(known, y, 0.5), torch.where(known, z, 0.5)


def _direction(vector: Tensor) -> tuple[Tensor, Tensor]:
    """vector/|vector|, and where there is one; anything else has no gradient."""
    known = ~(vector.square().sum(-1) < _SHORTEST**2)  # NaN stays NaN
    vector = torch.where(known.unsqueeze(-1), vector, 1.0)
    return vector / vector.square().sum(-1, keepdim=True).sqrt(), known
