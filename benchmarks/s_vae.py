"""Von Mises-Fisher as most code bases have it: after Davidson et al. (2018), "Hyperspherical
Variational Auto-Encoders", with Wood's rejection sampler (1994) and a Householder reflection.

A peer, its habits kept: above kappa = 10 the width b of the envelope is replaced by its limit for
kappa >> d, which gives samples of another law where kappa is not; the gradient is that of the
accepted proposal and ignores that acceptance depends on kappa; log I is the logarithm of an I that
underflows. The check of the suite shows where that matters.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from scipy.special import ive
from torch import Tensor


class _Ive(torch.autograd.Function):
    """exp(-z) I_v(z), by SciPy."""

    @staticmethod
    def forward(ctx: Any, v: float, z: Tensor) -> Tensor:
        value = torch.as_tensor(ive(v, z.double().cpu().numpy())).to(z)
        ctx.save_for_backward(z, value)
        ctx.v = v
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        z, value = ctx.saved_tensors
        return None, grad * (_Ive.apply(ctx.v - 1, z) - value * (ctx.v + z) / z)


def log_prob(x: Tensor, loc: Tensor, kappa: Tensor) -> Tensor:
    v = loc.shape[-1] / 2 - 1
    log_i = _Ive.apply(v, kappa).log() + kappa
    log_c = v * kappa.log() - (v + 1) * math.log(2 * math.pi) - log_i
    return log_c + kappa * (x * loc).sum(-1)


def rsample(loc: Tensor, kappa: Tensor) -> Tensor:
    t = (_cosine_3 if loc.shape[-1] == 3 else _cosine)(kappa.unsqueeze(-1), loc.shape[-1])
    v = torch.randn_like(loc)[..., 1:]
    v = v / v.norm(dim=-1, keepdim=True)
    x = torch.cat([t, (1 - t * t).clamp(min=1e-10).sqrt() * v], -1)  # about the first axis
    first = torch.zeros_like(loc)
    first[..., 0] = 1
    u = first - loc
    u = u / (u.norm(dim=-1, keepdim=True) + 1e-5)
    return x - 2 * (x * u).sum(-1, keepdim=True) * u


def _cosine_3(kappa: Tensor, d: int) -> Tensor:
    """The quantile function: t = 1 + log(u + (1 - u) exp(-2 kappa))/kappa."""
    u = torch.rand_like(kappa)
    return 1 + torch.logaddexp(u.log(), (1 - u).log() - 2 * kappa) / kappa


def _cosine(kappa: Tensor, d: int) -> Tensor:
    m = d - 1
    root = (4 * kappa**2 + m**2).sqrt()
    exact, limit = (root - 2 * kappa) / m, m / (4 * kappa)
    blend = (kappa - 10).clamp(0, 1)
    b = blend * limit + (1 - blend) * exact
    a = (m + 2 * kappa + root) / 4
    level = 4 * a * b / (1 + b) - m * math.log(m)
    proposal = torch.distributions.Beta(
        torch.tensor(m / 2, dtype=kappa.dtype, device=kappa.device),
        torch.tensor(m / 2, dtype=kappa.dtype, device=kappa.device),
    )
    cosine, waits = torch.zeros_like(kappa), torch.ones_like(kappa, dtype=torch.bool)
    while bool(waits.any()):
        e = proposal.sample(kappa.shape)
        t = 2 * a * b / (1 - (1 - b) * e)
        accepted = m * t.log() - t + level >= torch.rand_like(kappa).log()
        w = (1 - (1 + b) * e) / (1 - (1 - b) * e)
        cosine = torch.where(waits & accepted, w, cosine)
        waits = waits & ~accepted
    return cosine
