"""The geometry that every rotationally symmetric family shares; see csrc/sphere.h.

Shapes: value, mu (..., d); kappa (...); batch dimensions broadcast.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .._tensors import sum_to
from .contract import FamilyReference
from .normal import ProposalNoise, row_normals


def half_angle(value: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """sin2 = (1 - t)/2 and cos2 = (1 + t)/2 of t = x . mu/(|x| |mu|), for x = value.

        4 sin2 |x| |mu| = |x - mu|^2 - (|x| - |mu|)^2,   4 cos2 |x| |mu| = |x + mu|^2 - the same

    For vectors of nearly one length nothing cancels but within that difference of a pole. With
    S = |x - mu|^2 + |x + mu|^2, D = |x|^2 - |mu|^2 = (x - mu) . (x + mu) and 4 |x| |mu| = P,

        P^2 = S^2 - 4 D^2,   (|x| - |mu|)^2 = 2 D^2/(S + P).

    The larger fraction is 1 minus the smaller. So every gradient is that of the smaller one, which
    does not cancel near its own pole, as that of the larger one does.
    """
    minus, plus = value - mu, value + mu
    difference = (minus * plus).sum(-1)
    minus, plus = minus.square().sum(-1), plus.square().sum(-1)
    total = minus + plus
    product = (total - 2 * difference).sqrt() * (total + 2 * difference).sqrt()
    excess = 2 * difference * (difference / (total + product))
    antipode = plus < minus
    small = ((torch.where(antipode, plus, minus) - excess) / product).clamp(min=0)
    return torch.where(antipode, 1 - small, small), torch.where(antipode, small, 1 - small)


def log_prob(value: Tensor, mu: Tensor, kappa: Tensor, family: FamilyReference) -> Tensor:
    """log_prob_at_mode(kappa) + log_prob_ratio(kappa, half_angle)."""
    (sin2, cos2), d = half_angle(value, mu), mu.shape[-1]
    return family.log_prob_at_mode(kappa, d) + family.log_prob_ratio(kappa, d, sin2, cos2)


def rsample(mu: Tensor, kappa: Tensor, rng_state: Tensor, family: FamilyReference) -> Tensor:
    """x = t m + r g', m = mu / |mu|, g' the part of a normal vector g orthogonal to m.

    Differentiable once, by the rotation field:
    dx = t dm - m (x . dm) + implicit_gradient (m - t x) dkappa.
    """
    sample: Tensor = _RSample.apply(mu, kappa, rng_state, family)
    return sample


def rsample_backward(
    grad: Tensor, sample: Tensor, mu: Tensor, kappa: Tensor, family: FamilyReference
) -> tuple[Tensor, Tensor]:
    """(t G - (G . m) x) / |mu| and implicit_gradient (G . (m - t x)), for the upstream gradient G.

    Differentiating this again raises: the rotation field is no derivative of a map of fixed noise.
    """
    grads: tuple[Tensor, Tensor] = _RSampleBackward.apply(grad, sample, mu, kappa, family)
    return grads


def _rows(mu: Tensor, kappa: Tensor) -> Tensor:
    batch = torch.broadcast_shapes(mu.shape[:-1], kappa.shape)
    return torch.arange(math.prod(batch), device=mu.device).reshape(batch)


def _orthogonal(g: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    """g . m, and the part of g orthogonal to m."""
    p = (g * m).sum(-1, keepdim=True)
    rest = g - p * m
    if g.shape[-1] < 16:  # it can be small: make it orthogonal to rounding of its own
        rest = rest - (rest * m).sum(-1, keepdim=True) * m
    return p.squeeze(-1), rest


def sample(
    mu: Tensor, kappa: Tensor, rng_state: Tensor, family: FamilyReference, at_once: int = 1
) -> Tensor:
    """`rsample` without its gradient; ``at_once`` is that of `ProposalNoise`."""
    rows, d = _rows(mu, kappa), mu.shape[-1]
    m = mu / mu.square().sum(-1, keepdim=True).sqrt()
    p, g = _orthogonal(row_normals(rng_state, rows, d, mu.dtype), m)
    s = 0.5 * g.square().sum(-1)
    noise = ProposalNoise(rng_state, rows, mu.dtype, at_once)
    t, r = family.sample(kappa.expand(rows.shape), d, p, s, noise)
    scale = (t * t + 2 * s * r * r).rsqrt()
    sample: Tensor = (scale * t).unsqueeze(-1) * m + (scale * r).unsqueeze(-1) * g
    return sample


class _RSample(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(mu: Tensor, kappa: Tensor, rng_state: Tensor, family: FamilyReference) -> Tensor:
        return sample(mu, kappa, rng_state, family)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        mu, kappa, _, ctx.family = inputs
        ctx.save_for_backward(output, mu, kappa)
        ctx.save_for_forward(output, mu, kappa)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        sample, mu, kappa = ctx.saved_tensors
        grad_mu, grad_kappa = rsample_backward(grad, sample, mu, kappa, ctx.family)
        return sum_to(grad_mu, mu), sum_to(grad_kappa, kappa), None, None

    @staticmethod
    def jvp(ctx: Any, dmu: Tensor | None, dkappa: Tensor | None, *_: Any) -> Tensor:
        sample, mu, kappa = ctx.saved_tensors
        return _RSampleTangent.apply(dmu, dkappa, sample, mu, kappa, ctx.family)  # type: ignore[no-any-return]


class _FirstOrder(torch.autograd.Function):
    """A derivative that has none itself."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(
            "rsample has no second derivative: its gradient is that of the rotation field"
        )

    jvp = backward


class _RSampleBackward(_FirstOrder):
    @staticmethod
    def forward(
        grad: Tensor, sample: Tensor, mu: Tensor, kappa: Tensor, family: FamilyReference
    ) -> tuple[Tensor, Tensor]:
        sin2, cos2 = half_angle(sample, mu)
        length = mu.square().sum(-1, keepdim=True).sqrt()
        m = mu / length
        along = (grad * m).sum(-1, keepdim=True)
        t = cos2 - sin2 + 0 * kappa  # NaN where kappa is
        grad_mu = (t.unsqueeze(-1) * grad - along * sample) / length
        outward = (grad * _outward(sample, mu)).sum(-1) / length.squeeze(-1)
        return grad_mu, family.implicit_gradient(kappa, mu.shape[-1], sin2, cos2) * outward


def _outward(sample: Tensor, mu: Tensor) -> Tensor:
    """The part of mu orthogonal to the sample, which is that of their difference."""
    gap = mu - sample
    along = (gap * sample).sum(-1, keepdim=True) / sample.square().sum(-1, keepdim=True)
    return gap - along * sample


class _RSampleTangent(_FirstOrder):
    @staticmethod
    def forward(
        dmu: Tensor | None,
        dkappa: Tensor | None,
        sample: Tensor,
        mu: Tensor,
        kappa: Tensor,
        family: FamilyReference,
    ) -> Tensor:
        sin2, cos2 = half_angle(sample, mu)
        length = mu.square().sum(-1, keepdim=True).sqrt()
        m = mu / length
        tangent = torch.zeros_like(sample)
        if dmu is not None:
            dm = (dmu - (dmu * m).sum(-1, keepdim=True) * m) / length
            tangent = (cos2 - sin2).unsqueeze(-1) * dm - (sample * dm).sum(-1, keepdim=True) * m
        if dkappa is not None:
            speed = family.implicit_gradient(kappa, mu.shape[-1], sin2, cos2) * dkappa
            tangent = tangent + speed.unsqueeze(-1) * (_outward(sample, mu) / length)
        return tangent
