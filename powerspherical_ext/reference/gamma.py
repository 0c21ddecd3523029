"""Gamma variates; see csrc/math/gamma.h."""

from __future__ import annotations

import torch
from torch import Tensor

from .normal import ProposalNoise, first_accepted, replace_first

MAX_TRIALS = 16


def log1p_minus_cubic(w: Tensor) -> Tensor:
    """log1p(w) - w + w^2/2 - w^3/3 for w > -1, by its series where it cancels (|w| < 1/5)."""
    near = w.abs() < 0.2
    v = torch.where(near, w, 0.0)
    series = torch.zeros_like(w)
    for n in range(26 if w.dtype == torch.float64 else 12, 3, -1):
        series = series * -v + 1 / n
    far = torch.where(near, 1.0, w)
    direct = far.log1p() - far * (1 - far * (0.5 - far / 3))
    return torch.where(near, -(v**4) * series, direct)


def sample_gamma(a: Tensor, first_normal: Tensor, noise: ProposalNoise) -> Tensor:
    """One variate of Gamma(a, 1) by Marsaglia and Tsang (2000).

    The proposal m (1 + c n)^3, m = a - 1/3, c = 1 / (3 sqrt(m)), is accepted with probability
    exp(3 m log1p_minus_cubic(c n)); a < 1 goes through Gamma(a + 1) U^(1/a).
    """
    boosted = a < 1
    m = torch.where(boosted, a + 1, a) - 1 / 3
    shape, c = m.unsqueeze(-1), 1 / (3 * m.sqrt()).unsqueeze(-1)
    result, boost = m, torch.zeros_like(m)
    done = torch.zeros_like(m, dtype=torch.bool)
    for trial in range(0, MAX_TRIALS, noise.at_once):
        normals = noise.normals(trial)
        w = c * (replace_first(first_normal, normals) if trial == 0 else normals)
        minus_two_log_accept, minus_two_log_boost = noise.minus_two_logs(trial)
        inside = torch.where(w > -1, w, 0.0)
        ratio = -6 * shape * log1p_minus_cubic(inside)
        some, index = first_accepted((w > -1) & (minus_two_log_accept >= ratio))
        value = (shape * (1 + inside) ** 3).gather(-1, index).squeeze(-1)
        result = torch.where(~done & some, value, result)
        index = torch.where(some.unsqueeze(-1), index, noise.at_once - 1)
        boost = torch.where(done, boost, minus_two_log_boost.gather(-1, index).squeeze(-1))
        done = done | some
    return torch.where(boosted, result * torch.exp(-0.5 * boost / a), result)
