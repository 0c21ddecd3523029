"""KL(vMF(mu_p, kappa_p) || vMF(mu_q, kappa_q)) of d, concentrations and half angle between the
means.

See csrc/math/kl_von_mises_fisher.h. sin2 = w = (1 - mu_p . mu_q)/2 and cos2 = 1 - sin2.
Derivatives are autograd's, on fixed quadrature nodes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._tensors import wide
from .quadrature import GAUSS_LEGENDRE
from .von_mises_fisher import mean_resultant_length, moments, row


def kl(kappa_p: Tensor, kappa_q: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """KL = same_mean(kappa_p, kappa_q) + 2 kappa_q A(kappa_p) sin2, both terms at least 0."""
    angle = 2 * kappa_q * mean_resultant_length(kappa_p, d) * sin2
    return same_mean(kappa_p, kappa_q, d) + angle


def same_mean(kappa_p: Tensor, kappa_q: Tensor, d: int) -> Tensor:
    """The integral of (s - kappa_q) A'(s) from kappa_q to kappa_p.

    With s = b sinh(tau): quadrature where tau spans less than 1, else the closed form
    log p(mu_p) - log p(mu_q) - (kappa_p - kappa_q)(1 - A), which does not cancel there.
    """
    dtype = torch.promote_types(kappa_p.dtype, kappa_q.dtype)
    p, q = torch.broadcast_tensors(wide(kappa_p), wide(kappa_q))
    a = moments(p, d)
    closed = (a.log_prob_at_mode - moments(q, d).log_prob_at_mode) - (p - q) * a.one_minus_mean

    b = (d - 1) / 2
    c_p, c_q = (p * p + b * b).sqrt(), (q * q + b * b).sqrt()
    both = torch.where((p == 0) & (q == 0), 1.0, p * c_q + q * c_p)
    sinh_span = (p - q) * ((p + q) / both)
    near = sinh_span.abs() < math.sinh(1.0)
    span = torch.where(near, sinh_span, 0.0).asinh().unsqueeze(-1)
    nodes, weights = (row(column, p) for column in GAUSS_LEGENDRE[32])
    e, kq, cq = span * nodes, q.unsqueeze(-1), c_q.unsqueeze(-1)
    half = (0.5 * e).sinh()
    off = 2 * half * (kq * half + cq * (0.5 * e).cosh())
    s = (kq + off).clamp(min=0)  # >= 0 but for rounding
    integrand = weights * off * (s * s + b * b).sqrt() * moments(s, d).variance
    integral = span.squeeze(-1) * integrand.sum(-1)
    return torch.where(near, integral, closed).to(dtype)
