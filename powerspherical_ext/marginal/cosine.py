"""The distribution of the cosine t = mu . x of any family: its density, distribution function and
inverse distribution function.

With sin2 = (1 - t)/2, cos2 = (1 + t)/2, b = (d - 1)/2 and u = log(cos2/sin2), the density of u,

    g(u) = p(mu) area(S^{d-2}) exp(log_prob_ratio) (4 sin2 cos2)^b / 2,

is smooth and has one mode for every d >= 2, though that of t is infinite at both ends for d = 2.
`tails` integrates it.

All of it runs in float64, and in float32 on devices that lack it: a float32 t or concentration is
an exact number, and only the result is rounded. The density's own width is 1/sqrt(d), so that in
float32 arithmetic the rounding of the mode alone would cost about 1e-4 at d = 1e6.

The distribution function and its inverse are ops, so that a compiler does not see their loops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import ops
from .._kernels import register_autograd, register_fake
from .._tensors import ROWS, by_rows, sum_to, wide
from ..families import FAMILIES, Family
from ..ops._dispatch import batch_shape, is_traced, python_op
from ..reference import log_area
from .tails import Density, masses, mode_of, move, tail_quantile

__all__ = ["cdf", "icdf", "jvp", "log_density_of_angle", "log_prob", "smaller_tail", "vjp"]


def log_prob(t: Tensor, kappa: Tensor, d: int, family: Family) -> Tensor:
    """log f(t) = log p(mu) + log_prob_ratio + (d - 3)/2 log(1 - t^2) + log area(S^{d-2}).

    For d = 2, where at t = -1 the second term can be -infinity and the third is +infinity, the
    value there is that at the smallest cos2.
    """
    dtype = t.dtype
    t, kappa = wide(t), wide(kappa)
    sin2, cos2 = (1 - t) / 2, (1 + t) / 2
    if d == 2:
        cos2 = torch.where((cos2 == 0) & (kappa > 0), torch.finfo(cos2.dtype).tiny, cos2)
    value = (
        ops.log_prob_at_mode(kappa, d, family)
        + log_area(d - 1)
        + family.reference.log_prob_ratio(kappa, d, sin2, cos2)
    )
    if d != 3:  # for which the factor is 1, and not 0 times infinity at the ends
        value = value + (d - 3) / 2 * (4 * sin2 * cos2).log()
    result: Tensor = value.to(dtype)
    return result


def cdf(t: Tensor, kappa: Tensor, d: int, family: Family, upper: bool = False) -> Tensor:
    """P(T <= t), or P(T > t) for ``upper``; the smaller of the two to relative accuracy.

    d/dt = +-f(t), d/dkappa = -+f(t) (1 - t^2) implicit_gradient; both differentiable again.
    """
    function = _OPS.cosine_cdf if is_traced() else _Cdf.apply
    result: Tensor = function(wide(t), wide(kappa), d, family.index, upper, t.dtype)
    return result.to(t.dtype)


def icdf(q: Tensor, kappa: Tensor, d: int, family: Family) -> Tensor:
    """t with P(T <= t) = q: dt/dq = 1/f(t), dt/dkappa = (1 - t^2) implicit_gradient."""
    function = _OPS.cosine_icdf if is_traced() else _Icdf.apply
    result: Tensor = function(wide(q), wide(kappa), d, family.index, q.dtype)
    return result.to(q.dtype)


_OPS = torch.ops.powerspherical_ext


@python_op(
    "cosine_cdf(Tensor t, Tensor kappa, int d, int family, bool upper, ScalarType dtype) -> Tensor"
)
def _cdf(t: Tensor, kappa: Tensor, d: int, family: int, upper: bool, dtype: torch.dtype) -> Tensor:
    """To the accuracy of ``dtype``, at least."""
    law = FAMILIES[family]

    def of_mass(t: Tensor, kappa: Tensor, mass: Tensor) -> Tensor:
        smaller, is_lower = smaller_tail((1 - t) / 2, (1 + t) / 2, kappa, d, law, mass, dtype)
        result = torch.where(is_lower != upper, smaller, 1 - smaller)
        result = torch.where(t <= -1, 1.0 if upper else 0.0, result)
        result = torch.where(t >= 1, 0.0 if upper else 1.0, result)
        return torch.where(t.isnan() | kappa.isnan(), torch.nan, result)

    below, above = masses(kappa, d, law, dtype)
    return by_rows(of_mass, ROWS, t, kappa, below + above)


def smaller_tail(
    sin2: Tensor,
    cos2: Tensor,
    kappa: Tensor,
    d: int,
    family: Family,
    mass: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """The probability on the side of t = cos2 - sin2 that is away from the mode of u, and whether
    this is that of smaller t. ``mass`` is the sum of `masses`."""
    tiny = torch.finfo(sin2.dtype).tiny
    sin2, cos2 = sin2.clamp(tiny, 1), cos2.clamp(tiny, 1)
    mode = mode_of(kappa, d, family)
    h = (cos2 / mode.cos2).log() - (sin2 / mode.sin2).log()
    sign = torch.where(h < 0, -1.0, 1.0).to(h.dtype)
    start = Density(family, kappa, d, sin2, cos2)
    return start.tail(sign, dtype) * mode.log_ratio(h, mode.slope()).exp() / mass, h < 0


class _Cdf(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        t: Tensor, kappa: Tensor, d: int, family: int, upper: bool, dtype: torch.dtype
    ) -> Tensor:
        return _cdf(t, kappa, d, family, upper, dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        t, kappa, ctx.d, ctx.family, ctx.upper, _ = inputs
        ctx.save_for_backward(t, kappa)
        ctx.save_for_forward(t, kappa)

    @staticmethod
    def _slopes(ctx: Any, t: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor]:
        sign = -1.0 if ctx.upper else 1.0
        sin2, cos2 = (1 - t) / 2, (1 + t) / 2
        speed = ops.implicit_gradient(kappa, sin2, cos2, ctx.d, ctx.family)
        family = FAMILIES[ctx.family]
        dkappa = -sign * log_density_of_angle(sin2, cos2, kappa, ctx.d, family).exp() * speed
        return sign * log_prob(t, kappa, ctx.d, family).exp(), dkappa

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return *vjp(ctx, grad, _Cdf._slopes), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, dt: Tensor | None, dkappa: Tensor | None, *_: Any) -> Tensor:
        return jvp(_Cdf._slopes(ctx, *ctx.saved_tensors), dt, dkappa)


@python_op("cosine_icdf(Tensor q, Tensor kappa, int d, int family, ScalarType dtype) -> Tensor")
def _icdf(q: Tensor, kappa: Tensor, d: int, family: int, dtype: torch.dtype) -> Tensor:
    """To the accuracy of ``dtype``, at least."""
    law = FAMILIES[family]

    def of_masses(q: Tensor, kappa: Tensor, below: Tensor, above: Tensor) -> Tensor:
        mode = mode_of(kappa, d, law)
        lower = q * (below + above) < below
        sign = torch.where(lower, -1.0, 1.0).to(q.dtype)
        p = torch.where(lower, q, 1 - q).clamp(torch.finfo(q.dtype).tiny, 1) * (below + above)
        h = tail_quantile(mode, sign, p, torch.where(lower, below, above), dtype)
        sin2, cos2 = move(mode.sin2, mode.cos2, h)
        t = torch.where(q <= 0, -1.0, torch.where(q >= 1, 1.0, cos2 - sin2))
        return torch.where((q >= 0) & (q <= 1) & ~kappa.isnan(), t, torch.nan)

    return by_rows(of_masses, ROWS, q, kappa, *masses(kappa, d, law, dtype))


class _Icdf(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(q: Tensor, kappa: Tensor, d: int, family: int, dtype: torch.dtype) -> Tensor:
        return _icdf(q, kappa, d, family, dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        q, kappa, ctx.d, ctx.family, _ = inputs
        ctx.save_for_backward(q, kappa, output)
        ctx.save_for_forward(q, kappa, output)

    @staticmethod
    def _slopes(ctx: Any, _: Tensor, kappa: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        sin2, cos2 = (1 - t) / 2, (1 + t) / 2
        speed = ops.implicit_gradient(kappa, sin2, cos2, ctx.d, ctx.family)
        return (-log_prob(t, kappa, ctx.d, FAMILIES[ctx.family])).exp(), 4 * sin2 * cos2 * speed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return *vjp(ctx, grad, _Icdf._slopes), None, None, None

    @staticmethod
    def jvp(ctx: Any, dq: Tensor | None, dkappa: Tensor | None, *_: Any) -> Tensor:
        return jvp(_Icdf._slopes(ctx, *ctx.saved_tensors), dq, dkappa)


@register_autograd("cosine_cdf")
def _(*arguments: Any) -> Tensor:
    result: Tensor = _Cdf.apply(*arguments)
    return result


@register_autograd("cosine_icdf")
def _(*arguments: Any) -> Tensor:
    result: Tensor = _Icdf.apply(*arguments)
    return result


@register_fake("cosine_cdf")
@register_fake("cosine_icdf")
def _(x: Tensor, kappa: Tensor, *_: Any) -> Tensor:
    return x.new_empty(batch_shape(x.shape, kappa.shape))


def log_density_of_angle(
    sin2: Tensor, cos2: Tensor, kappa: Tensor, d: int, family: Family
) -> Tensor:
    """log((1 - t^2) f(t)) = log(2 g(u)), which is finite at both ends for every d, or -infinity."""
    log_g: Tensor = (
        ops.log_prob_at_mode(kappa, d, family)
        + log_area(d - 1)
        + family.reference.log_prob_ratio(kappa, d, sin2, cos2)
        + (d - 1) / 2 * (4 * sin2 * cos2).log()
    )
    return log_g


def vjp(
    ctx: Any, grad: Tensor, slopes: Callable[..., tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """The gradients of two inputs, which are saved first; ``slopes`` takes all that is saved."""
    x, kappa, *_ = ctx.saved_tensors
    dx, dkappa = slopes(ctx, *ctx.saved_tensors)
    return sum_to(grad * dx, x), sum_to(grad * dkappa, kappa)


def jvp(slopes: tuple[Tensor, Tensor], *tangents: Tensor | None) -> Tensor:
    """The derivative along the tangents of two inputs, of which one may be None."""
    parts = [s * v for s, v in zip(slopes, tangents, strict=True) if v is not None]
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]
