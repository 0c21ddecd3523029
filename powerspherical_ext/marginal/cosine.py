"""The distribution of the cosine t = mu . x of any family: its density, distribution function and
inverse distribution function.

With sin2 = (1 - t)/2, cos2 = (1 + t)/2, b = (d - 1)/2 and u = log(cos2/sin2), the density of u,

    g(u) = p(mu) area(S^{d-2}) exp(log_prob_ratio) (4 sin2 cos2)^b / 2,

is smooth and has one mode for every d >= 2, though that of t is infinite at both ends for d = 2.
`tails` integrates it.

All of it runs in float64, and in float32 on devices that lack it: a float32 t or concentration is
an exact number, and only the result is rounded. The density's own width is 1/sqrt(d), so that in
float32 arithmetic the rounding of the mode alone would cost about 1e-4 at d = 1e6.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .._tensors import wide
from ..families import Family
from ..reference import log_area
from ..reference.gamma import sample_gamma
from ..reference.normal import ProposalNoise, normals
from ..reference.philox import row_words
from .tails import DROP, Density, masses, mode_of, move, rule, tail_quantile

__all__ = ["cdf", "entropy", "icdf", "log_prob", "sample"]


def log_prob(t: Tensor, kappa: Tensor, d: int, family: Family) -> Tensor:
    """log f(t) = log p(mu) + log_prob_ratio + (d - 3)/2 log(1 - t^2) + log area(S^{d-2}).

    For d = 2, where at t = -1 the second term can be -infinity and the third is +infinity, the
    value there is that at the smallest cos2.
    """
    dtype = t.dtype
    t, kappa = wide(t), wide(kappa)
    sin2, cos2 = (1 - t) / 2, (1 + t) / 2
    module = family.reference
    if d == 2:
        cos2 = torch.where((cos2 == 0) & (kappa > 0), torch.finfo(cos2.dtype).tiny, cos2)
    value = (
        module.log_prob_at_mode(kappa, d)
        + log_area(d - 1)
        + module.log_prob_ratio(kappa, d, sin2, cos2)
    )
    if d != 3:  # for which the factor is 1, and not 0 times infinity at the ends
        value = value + (d - 3) / 2 * (4 * sin2 * cos2).log()
    result: Tensor = value.to(dtype)
    return result


def cdf(t: Tensor, kappa: Tensor, d: int, family: Family, upper: bool = False) -> Tensor:
    """P(T <= t), or P(T > t) for ``upper``; the smaller of the two to relative accuracy.

    d/dt = +-f(t), d/dkappa = -+f(t) (1 - t^2) implicit_gradient; both differentiable again.
    """
    dtype = t.dtype
    kappa = wide(kappa)
    below, above = masses(kappa.detach(), d, family, dtype)
    t, kappa = torch.broadcast_tensors(wide(t), kappa)
    result: Tensor = _Cdf.apply(t, kappa, below + above, d, family, upper, dtype)
    return result.to(dtype)


def icdf(q: Tensor, kappa: Tensor, d: int, family: Family) -> Tensor:
    """t with P(T <= t) = q: dt/dq = 1/f(t), dt/dkappa = (1 - t^2) implicit_gradient."""
    dtype = q.dtype
    kappa = wide(kappa)
    below, above = masses(kappa.detach(), d, family, dtype)
    q, kappa = torch.broadcast_tensors(wide(q), kappa)
    result: Tensor = _Icdf.apply(q, kappa, below, above, d, family, dtype)
    return result.to(dtype)


def entropy(kappa: Tensor, d: int, family: Family) -> Tensor:
    """-E[log f(t)] by quadrature about the mode, differentiable in kappa through the density."""
    dtype = kappa.dtype
    kappa = wide(kappa)
    module = family.reference
    peak = module.log_prob_at_mode(kappa, d) + log_area(d - 1)
    mode = mode_of(kappa.detach(), d, family)
    total = torch.zeros_like(kappa)
    nodes, weights = rule(dtype, kappa, mode.b)
    for sign in (-torch.ones_like(kappa), torch.ones_like(kappa)):
        width = mode.width(sign, DROP[dtype])
        for node, weight in zip(nodes, weights, strict=True):
            sin2, cos2 = move(mode.sin2, mode.cos2, sign * width * node)
            log_square = (4 * sin2 * cos2).log()
            log_g = peak + module.log_prob_ratio(kappa, d, sin2, cos2) + (d - 1) / 2 * log_square
            total = total + weight * width * log_g.exp() * (log_square - log_g)
    return (0.5 * total).to(dtype)


def sample(kappa: Tensor, d: int, rng_state: Tensor, family: Family) -> Tensor:
    """One t per element of kappa by the family's sampler; dt/dkappa = (1 - t^2) implicit_gradient.

    A Gamma(b) variate stands in for |g'|^2/2, half the squared length of d - 1 normals, so the cost
    does not depend on d.
    """
    result: Tensor = _Sample.apply(kappa, d, rng_state, family)[0]
    return result


def _density_u_twice(t: Tensor, kappa: Tensor, d: int, family: Family) -> Tensor:
    """2 g(u) = (1 - t^2) f(t), finite at both ends for every d."""
    sin2, cos2 = (1 - t) / 2, (1 + t) / 2
    module = family.reference
    log_prob_at_mode = module.log_prob_at_mode(kappa, d) + log_area(d - 1)
    log_g: Tensor = (
        log_prob_at_mode
        + module.log_prob_ratio(kappa, d, sin2, cos2)
        + (d - 1) / 2 * (4 * sin2 * cos2).log()
    )
    return log_g.exp()


class _Cdf(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        t: Tensor,
        kappa: Tensor,
        mass: Tensor,
        d: int,
        family: Family,
        upper: bool,
        dtype: torch.dtype,
    ) -> Tensor:
        tiny = torch.finfo(t.dtype).tiny
        sin2, cos2 = ((1 - t) / 2).clamp(tiny, 1), ((1 + t) / 2).clamp(tiny, 1)
        mode = mode_of(kappa, d, family)
        h = (cos2 / mode.cos2).log() - (sin2 / mode.sin2).log()
        sign = torch.where(h < 0, -1.0, 1.0).to(h.dtype)
        start = Density(family, kappa, d, sin2, cos2)
        smaller = start.tail(sign, dtype) * mode.log_ratio(h, mode.slope()).exp() / mass
        result = torch.where((h < 0) != upper, smaller, 1 - smaller)
        result = torch.where(t <= -1, 1.0 if upper else 0.0, result)
        result = torch.where(t >= 1, 0.0 if upper else 1.0, result)
        return torch.where(t.isnan() | kappa.isnan(), torch.nan, result)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        t, kappa, _, ctx.d, ctx.family, ctx.upper, _ = inputs
        ctx.save_for_backward(t, kappa)
        ctx.save_for_forward(t, kappa)

    @staticmethod
    def _slopes(ctx: Any, t: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor]:
        sign = -1.0 if ctx.upper else 1.0
        sin2, cos2 = (1 - t) / 2, (1 + t) / 2
        speed = ctx.family.reference.implicit_gradient(kappa, ctx.d, sin2, cos2)
        dkappa = -sign * _density_u_twice(t, kappa, ctx.d, ctx.family) * speed
        return sign * log_prob(t, kappa, ctx.d, ctx.family).exp(), dkappa

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        dt, dkappa = _Cdf._slopes(ctx, *ctx.saved_tensors)
        return grad * dt, grad * dkappa, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, dt: Tensor | None, dkappa: Tensor | None, *_: Any) -> Tensor:
        return _jvp(_Cdf._slopes(ctx, *ctx.saved_tensors), dt, dkappa)


class _Icdf(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        q: Tensor,
        kappa: Tensor,
        below: Tensor,
        above: Tensor,
        d: int,
        family: Family,
        dtype: torch.dtype,
    ) -> Tensor:
        mode = mode_of(kappa, d, family)
        lower = q * (below + above) < below
        sign = torch.where(lower, -1.0, 1.0).to(q.dtype)
        p = torch.where(lower, q, 1 - q).clamp(torch.finfo(q.dtype).tiny, 1) * (below + above)
        h = tail_quantile(mode, sign, p, torch.where(lower, below, above), dtype)
        sin2, cos2 = move(mode.sin2, mode.cos2, h)
        t = torch.where(q <= 0, -1.0, torch.where(q >= 1, 1.0, cos2 - sin2))
        return torch.where((q >= 0) & (q <= 1) & ~kappa.isnan(), t, torch.nan)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, kappa, _, _, ctx.d, ctx.family, _ = inputs
        ctx.save_for_backward(output, kappa)
        ctx.save_for_forward(output, kappa)

    @staticmethod
    def _slopes(ctx: Any, t: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor]:
        sin2, cos2 = (1 - t) / 2, (1 + t) / 2
        speed = ctx.family.reference.implicit_gradient(kappa, ctx.d, sin2, cos2)
        return (-log_prob(t, kappa, ctx.d, ctx.family)).exp(), 4 * sin2 * cos2 * speed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        dq, dkappa = _Icdf._slopes(ctx, *ctx.saved_tensors)
        return grad * dq, grad * dkappa, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, dq: Tensor | None, dkappa: Tensor | None, *_: Any) -> Tensor:
        return _jvp(_Icdf._slopes(ctx, *ctx.saved_tensors), dq, dkappa)


class _Sample(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(kappa: Tensor, d: int, rng_state: Tensor, family: Family) -> tuple[Tensor, Tensor]:
        rows = 2 * torch.arange(kappa.numel(), device=kappa.device).reshape(kappa.shape)
        words = row_words(rng_state, rows, 0, torch.zeros_like(rows))
        normal = normals(words, kappa.dtype)
        b = torch.full_like(kappa, (d - 1) / 2)
        s = sample_gamma(b, normal[..., 0], ProposalNoise(rng_state, rows + 1, kappa.dtype))
        noise = ProposalNoise(rng_state, rows, kappa.dtype)
        t, r = family.reference.sample(kappa, d, normal[..., 1], s, noise)
        square = 2 * s * r * r  # 1 - t^2, from which the smaller of sin2 and cos2 does not cancel
        small = square / (2 * (1 + t.abs()))
        return t, torch.where(t > 0, small, 1 - small)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        kappa, ctx.d, _, ctx.family = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1], kappa)
        ctx.save_for_forward(output[1], kappa)

    @staticmethod
    def _slope(ctx: Any, sin2: Tensor, kappa: Tensor) -> Tensor:
        cos2 = 1 - sin2
        speed: Tensor = ctx.family.reference.implicit_gradient(kappa, ctx.d, sin2, cos2)
        return 4 * sin2 * cos2 * speed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> Any:
        return grad * _Sample._slope(ctx, *ctx.saved_tensors), None, None, None

    @staticmethod
    def jvp(ctx: Any, dkappa: Tensor, *_: Any) -> Any:
        slope = _Sample._slope(ctx, *ctx.saved_tensors)
        return dkappa * slope, torch.zeros_like(slope)


def _jvp(slopes: tuple[Tensor, Tensor], *tangents: Tensor | None) -> Tensor:
    parts = [s * v for s, v in zip(slopes, tangents, strict=True) if v is not None]
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]
