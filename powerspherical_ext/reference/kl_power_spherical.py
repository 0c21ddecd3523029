"""KL(PS(mu_p, kappa_p) || PS(mu_q, kappa_q)) of d, the concentrations and the half angle between
the means.

See csrc/math/kl_power_spherical.h for the derivation, ranges and errors. sin2 = |mu_p - mu_q|^2/S
and cos2 = 1 - sin2. Derivatives of any order are those of autograd, on fixed quadrature nodes. The
value is computed in float64 and rounded once (in float32 on devices without float64).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._tensors import wide
from .quadrature import GAUSS_LEGENDRE
from .stirling import bregman_log_gamma_ratio, raises


def kl(kappa_p: Tensor, kappa_q: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """KL = same_mean(kappa_p, kappa_q) + kappa_q mean_gap(kappa_p, sin2), both terms at least 0."""
    dtype = torch.promote_types(kappa_p.dtype, kappa_q.dtype)
    kappa_p, kappa_q, sin2, cos2 = (wide(x) for x in (kappa_p, kappa_q, sin2, cos2))
    result = same_mean(kappa_p, kappa_q, d) + kappa_q * mean_gap(kappa_p, d, sin2, cos2)
    return result.to(dtype)


def same_mean(kappa_p: Tensor, kappa_q: Tensor, d: int) -> Tensor:
    """L(kappa_p) - L(kappa_q) - (kappa_p - kappa_q) L'(kappa_p), L = log p(mu)."""
    b = (d - 1) / 2
    difference = kappa_p - kappa_q
    x0, x1 = torch.broadcast_tensors(b + kappa_q, b + kappa_p)
    return bregman_log_gamma_ratio(b, x0, x1, difference, raises(b, difference.dtype))


def mean_gap(kappa: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """M = int_0^inf e^{-b Y - kappa U} (1 - e^{-kappa V}) / (1 - e^{-Y}) dY >= 0.

    e^{-U} = sin2 + cos2 e^{-Y}, V = Y - U. On two panels, split at -log sin2, where U stops
    growing.
    """
    kappa, sin2, cos2 = torch.broadcast_tensors(kappa, sin2, cos2)
    coincide = sin2 == 0
    sin2, cos2 = torch.where(coincide, 0.5, sin2), torch.where(coincide, 0.5, cos2)
    b = (d - 1) / 2
    double = kappa.dtype == torch.float64
    reach = 40.0 if double else 20.0
    with torch.no_grad():
        k, w, q = kappa.detach(), sin2.detach(), cos2.detach()
        log_w = torch.where(q < w, (-torch.where(q < w, q, 0.0)).log1p(), w.log())
        rate, beta = b + k * q - 1, k * w + b + 1
        end = reach / rate.clamp(min=1e-3)
        split = (w < 0.25) & (end > -log_w)
        rest = (reach + rate * log_w).clamp(4.0, reach) / b
        whole = torch.minimum(end, -log_w + w.log1p() + reach / b)
        whole = torch.where(-k * log_w < reach, whole.clamp(min=reach / b), whole)
        first = torch.where(split, -log_w, whole)
        second = torch.where(split, rest, 0.0)
    total = _panel(kappa, b, sin2, cos2, torch.zeros_like(first), first, beta)
    total = total + _panel(kappa, b, sin2, cos2, first, second, torch.ones_like(beta))
    return torch.where(coincide, 0.0, total)


def _panel(
    kappa: Tensor, b: float, w: Tensor, q: Tensor, start: Tensor, length: Tensor, beta: Tensor
) -> Tensor:
    """The integral of mean_gap over start < Y < start + length, by Y = start + expm1(tau)/beta."""
    rule = GAUSS_LEGENDRE[64 if kappa.dtype == torch.float64 else 32]
    nodes = torch.tensor(rule[0], dtype=kappa.dtype, device=kappa.device)
    weights = torch.tensor(rule[1], dtype=kappa.dtype, device=kappa.device)
    kappa, w, q, start, length, beta = (x.unsqueeze(-1) for x in (kappa, w, q, start, length, beta))
    # [..., nodes] from here on; the nodes of an empty panel have weight 0.
    tau_end = (beta * length).log1p()
    tau = tau_end * nodes
    at = start + tau.expm1() / beta
    at = torch.where(length > 0, at, 1.0)
    fraction = -(-at).expm1()
    far = at > 30
    near_at = torch.where(far, 1.0, at)
    far_sum = torch.where(far, w + q * (-at).exp(), 1.0)
    v = torch.where(far, at + far_sum.log(), (w * near_at.expm1()).log1p())
    u_of_q = -(-torch.where(w < 0.5, 0.5, q) * fraction).log1p()
    u = torch.where(w < 0.5, at - v, u_of_q)
    integrand = (-b * at - kappa * u).exp() * -(-kappa * v).expm1() / fraction
    jacobian = weights * tau.exp() * tau_end / beta
    return (jacobian * integrand).sum(-1)
