"""The geometry that every rotationally symmetric family shares; see csrc/sphere.h.

Shapes: value, mu (..., d); kappa (...); batch dimensions broadcast.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from . import power_spherical, von_mises_fisher
from .normal import ProposalNoise, row_normals

# The families, by the index that the ops take: in the order of dispatch_family in csrc/families.h.
FAMILIES: tuple[ModuleType, ...] = (power_spherical, von_mises_fisher)
POWER_SPHERICAL, VON_MISES_FISHER = range(2)


def half_angle(value: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """sin2 = |x - mu|^2 / S and cos2 = |x + mu|^2 / S, S their sum: (1 - t)/2 and (1 + t)/2.

    Sums of squares have condition number 1, and to first order neither fraction sees the rounding
    of |x| and |mu|, as the dot product does (Kahan, "How futile are mindless assessments of
    roundoff"). The larger fraction is 1 minus the smaller. So every gradient is that of the smaller
    one, which does not cancel near its own pole, as that of the larger one does.
    """
    minus, plus = (value - mu).square().sum(-1), (value + mu).square().sum(-1)
    antipode = plus < minus
    small = torch.where(antipode, plus, minus) / (minus + plus)
    return torch.where(antipode, 1 - small, small), torch.where(antipode, small, 1 - small)


def log_prob(value: Tensor, mu: Tensor, kappa: Tensor, family: int) -> Tensor:
    """log_prob_at_mode(kappa) + log_prob_ratio(kappa, half_angle)."""
    sin2, cos2 = half_angle(value, mu)
    module = FAMILIES[family]
    result: Tensor = module.log_prob_at_mode(kappa, mu.shape[-1]) + module.log_prob_ratio(
        kappa, sin2, cos2
    )
    return result


def rsample(mu: Tensor, kappa: Tensor, rng_state: Tensor, family: int) -> Tensor:
    """x = t m + r g', m = mu / |mu|, g' the part of a normal vector g orthogonal to m.

    Differentiable once, by the rotation field: dx = t dm - m (x . dm) + implicit_gradient (m - t
    x) dkappa.
    """
    sample: Tensor = _RSample.apply(mu, kappa, rng_state, family)
    return sample


def rsample_backward(
    grad: Tensor, sample: Tensor, mu: Tensor, kappa: Tensor, family: int
) -> tuple[Tensor, Tensor]:
    """(t G - (G . m) x) / |mu| and implicit_gradient (G . (m - t x)), for the upstream gradient G.

    Differentiating this again raises: the rotation field is no derivative of a map of fixed noise.
    """
    grads: tuple[Tensor, Tensor] = _RSampleBackward.apply(grad, sample, mu, kappa, family)
    return grads


def rsample_fixed_noise(mu: Tensor, kappa: Tensor, rng_state: Tensor, family: int) -> Tensor:
    """The same sample as `rsample`, with the derivative of the map from (mu, kappa) to x that holds
    the noise (a normal vector h, and the quantile of t) fixed:

        x = t m + sqrt(1 - t^2) h'/|h'|,  dt/dkappa = (1 - t^2) implicit_gradient,

    h' the part of h orthogonal to m. h' has the direction of the sample's g'; h . m and |h'| come
    from fresh normals, because g . m and |g'| went into t, and holding them would give a biased
    gradient. This one is unbiased, and of a variance in mu that is never below that of the rotation
    field, which is its conditional expectation given x.
    """
    d = mu.shape[-1]
    with torch.no_grad():
        sin2, cos2 = half_angle(_sample(mu, kappa, rng_state, family), mu)
        speed = FAMILIES[family].implicit_gradient(kappa, d, sin2, cos2)
        radius = 2 * (sin2 * cos2).sqrt()
    step = speed * (kappa - kappa.detach())
    m = mu / mu.square().sum(-1, keepdim=True).sqrt()
    with torch.no_grad():
        normals = row_normals(rng_state, _rows(mu, kappa), 2 * d, mu.dtype)
        g = _orthogonal(normals[..., :d], m)[1]
        p, rest = _orthogonal(normals[..., d:], m)
        h = (rest.square().sum(-1, keepdim=True) / g.square().sum(-1, keepdim=True)).sqrt() * g
        h = h + p.unsqueeze(-1) * m
    tangent = _orthogonal(h, m)[1]
    direction = tangent / tangent.square().sum(-1, keepdim=True).sqrt()
    t = (cos2 - sin2) + radius**2 * step
    sine = radius - (cos2 - sin2) * radius * step
    sample: Tensor = t.unsqueeze(-1) * m + sine.unsqueeze(-1) * direction
    return sample


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


def _sample(mu: Tensor, kappa: Tensor, rng_state: Tensor, family: int) -> Tensor:
    rows, d = _rows(mu, kappa), mu.shape[-1]
    m = mu / mu.square().sum(-1, keepdim=True).sqrt()
    p, g = _orthogonal(row_normals(rng_state, rows, d, mu.dtype), m)
    s = 0.5 * g.square().sum(-1)
    noise = ProposalNoise(rng_state, rows, mu.dtype)
    t, r = FAMILIES[family].sample(kappa.expand(rows.shape), d, p, s, noise)
    scale = (t * t + 2 * s * r * r).rsqrt()
    sample: Tensor = (scale * t).unsqueeze(-1) * m + (scale * r).unsqueeze(-1) * g
    return sample


def _sum_to(tensor: Tensor, like: Tensor) -> Tensor:
    return tensor if tensor.shape == like.shape else tensor.sum_to_size(like.shape)


class _RSample(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(mu: Tensor, kappa: Tensor, rng_state: Tensor, family: int) -> Tensor:
        return _sample(mu, kappa, rng_state, family)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        mu, kappa, _, ctx.family = inputs
        ctx.save_for_backward(output, mu, kappa)
        ctx.save_for_forward(output, mu, kappa)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        sample, mu, kappa = ctx.saved_tensors
        grad_mu, grad_kappa = rsample_backward(grad, sample, mu, kappa, ctx.family)
        return _sum_to(grad_mu, mu), _sum_to(grad_kappa, kappa), None, None

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
        grad: Tensor, sample: Tensor, mu: Tensor, kappa: Tensor, family: int
    ) -> tuple[Tensor, Tensor]:
        sin2, cos2 = half_angle(sample, mu)
        length = mu.square().sum(-1, keepdim=True).sqrt()
        m = mu / length
        along = (grad * m).sum(-1, keepdim=True)
        grad_mu = ((cos2 - sin2).unsqueeze(-1) * grad - along * sample) / length
        outward = (grad * (m - sample)).sum(-1) + 2 * sin2 * (grad * sample).sum(-1)
        return grad_mu, FAMILIES[family].implicit_gradient(
            kappa, mu.shape[-1], sin2, cos2
        ) * outward


class _RSampleTangent(_FirstOrder):
    @staticmethod
    def forward(
        dmu: Tensor | None,
        dkappa: Tensor | None,
        sample: Tensor,
        mu: Tensor,
        kappa: Tensor,
        family: int,
    ) -> Tensor:
        sin2, cos2 = half_angle(sample, mu)
        length = mu.square().sum(-1, keepdim=True).sqrt()
        m = mu / length
        tangent = torch.zeros_like(sample)
        if dmu is not None:
            dm = (dmu - (dmu * m).sum(-1, keepdim=True) * m) / length
            tangent = (cos2 - sin2).unsqueeze(-1) * dm - (sample * dm).sum(-1, keepdim=True) * m
        if dkappa is not None:
            speed = FAMILIES[family].implicit_gradient(kappa, mu.shape[-1], sin2, cos2) * dkappa
            tangent = tangent + speed.unsqueeze(-1) * (
                (m - sample) + 2 * sin2.unsqueeze(-1) * sample
            )
        return tangent
