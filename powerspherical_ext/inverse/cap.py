"""The cap about the mean direction that holds a probability: its angle, and the concentration of
which the angle is given.

The angle theta of a cap of probability p is that with P(t >= cos(theta)) = p. Both directions go
through sin2 = sin^2(theta/2) and cos2 = cos^2(theta/2), so that small angles keep their digits.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import ops
from .._kernels import register_autograd, register_fake
from .._tensors import ROWS, by_rows, wide
from ..families import FAMILIES, Family
from ..marginal.cosine import jvp, log_density_of_angle, smaller_tail, vjp
from ..marginal.tails import masses, mode_of, move, tail_quantile
from ..ops._dispatch import batch_shape, is_traced, python_op
from .concentration import largest, mean_cosine_slope_at_0
from .solver import Domain, Excess

__all__ = ["angle_quantile", "concentration_of_cap"]

_STEPS, _MORE_STEPS = 14, 3  # with the float32 rule of the tails; with that of float64
_ACCURACY = 1e-11  # of a distribution function
_LOG_ROOT = 0.5 * math.log(2 * math.pi)
_OPS = torch.ops.powerspherical_ext


def angle_quantile(p: Tensor, kappa: Tensor, d: int, family: Family) -> Tensor:
    """theta in [0, pi] with P(t >= cos(theta)) = p, in the dtype of ``p``.

    dtheta/dp = 1/(f(t) sin(theta)), dtheta/dkappa = -sin(theta) implicit_gradient.
    """
    function = _OPS.angle_quantile if is_traced() else _Angle.apply
    result: Tensor = function(wide(p), wide(kappa), d, family.index, _rule(p))
    return result.to(p.dtype)


def concentration_of_cap(angle: Tensor, p: Tensor, d: int, family: Family) -> Tensor:
    """kappa (...) with angle_quantile(p, kappa) = angle, in the dtype of ``angle``.

    It is NaN where the cap holds more than p under the uniform distribution, or less at the largest
    concentration of the dtype, and where p is not between 0 and 1.
    """
    function = _OPS.concentration_of_cap if is_traced() else _Concentration.apply
    last = largest(family, angle.dtype)
    eps = torch.finfo(angle.dtype).eps
    result: Tensor = function(wide(angle), wide(p), d, family.index, last, eps)
    return result.to(angle.dtype)


def _rule(x: Tensor) -> torch.dtype:
    """The dtype to whose accuracy a result is computed."""
    return torch.promote_types(x.dtype, torch.float32)


@python_op("angle_quantile(Tensor p, Tensor kappa, int d, int family, ScalarType dtype) -> Tensor")
def _angle_quantile(p: Tensor, kappa: Tensor, d: int, family: int, dtype: torch.dtype) -> Tensor:
    law = FAMILIES[family]

    def of_masses(p: Tensor, kappa: Tensor, below: Tensor, above: Tensor) -> Tensor:
        mode, total = mode_of(kappa, d, law), below + above
        upper = p * total < above
        sign = torch.where(upper, 1.0, -1.0).to(p.dtype)
        tail = torch.where(upper, p, 1 - p).clamp(torch.finfo(p.dtype).tiny, 1) * total
        h = tail_quantile(mode, sign, tail, torch.where(upper, above, below), dtype)
        sin2, cos2 = move(mode.sin2, mode.cos2, h)
        angle = 2 * torch.atan2(sin2.sqrt(), cos2.sqrt())
        angle = torch.where(p <= 0, 0.0, torch.where(p >= 1, math.pi, angle))
        return torch.where((p >= 0) & (p <= 1) & ~kappa.isnan(), angle, torch.nan)

    return by_rows(of_masses, ROWS, p, kappa, *masses(kappa, d, law, dtype))


class _Angle(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(p: Tensor, kappa: Tensor, d: int, family: int, dtype: torch.dtype) -> Tensor:
        return _angle_quantile(p, kappa, d, family, dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        p, kappa, ctx.d, ctx.family, _ = inputs
        ctx.save_for_backward(p, kappa, output)
        ctx.save_for_forward(p, kappa, output)

    @staticmethod
    def _slopes(ctx: Any, _: Tensor, kappa: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
        density, speed = _density_and_speed(angle, kappa, ctx.d, ctx.family)
        return angle.sin() / density, -angle.sin() * speed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return *vjp(ctx, grad, _Angle._slopes), None, None, None

    @staticmethod
    def jvp(ctx: Any, dp: Tensor | None, dkappa: Tensor | None, *_: Any) -> Tensor:
        return jvp(_Angle._slopes(ctx, *ctx.saved_tensors), dp, dkappa)


@python_op(
    "concentration_of_cap(Tensor angle, Tensor p, int d, int family, float last, float eps)"
    " -> Tensor"
)
def _concentration_of_cap(
    angle: Tensor, p: Tensor, d: int, family: int, last: float, eps: float
) -> Tensor:
    """``eps`` is that of the dtype of the angle as it was given."""
    law, rule = FAMILIES[family], torch.float64 if eps < 1e-10 else torch.float32
    # This concentration moves the mean cosine from 0 by about its standard deviation.
    domain = Domain(1 / (d**0.5 * mean_cosine_slope_at_0(d, law)), law.upper_bound, last)

    def of_cap(angle: Tensor, p: Tensor) -> Tensor:
        inside = (angle > 0) & (angle < math.pi) & (p > 0) & (p < 1)
        angle, p = torch.where(inside, angle, 1.0), torch.where(inside, p, 0.5)
        sin2, cos2 = (angle / 2).sin().square(), (angle / 2).cos().square()
        wanted = _normal_quantile(torch.minimum(p, 1 - p), p < 0.5)

        def excess(kappa: Tensor, rule: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
            """The difference of normal quantiles, which straighten a probability, with its
            derivatives in kappa and in the angle."""
            below, above = masses(kappa, d, law, rule)
            tail, is_lower = smaller_tail(sin2, cos2, kappa, d, law, below + above, rule)
            z = _normal_quantile(tail, ~is_lower)
            log_density = log_density_of_angle(sin2, cos2, kappa, d, law)
            density = (log_density + 0.5 * z * z + _LOG_ROOT).exp()
            speed = law.reference.implicit_gradient(kappa, d, sin2, cos2)
            return z - wanted, density * speed, density / angle.sin()

        def excess_by(rule: torch.dtype) -> Excess:
            return lambda kappa: excess(kappa, rule)[:2]

        start = torch.full_like(angle, math.log(2))
        kappa = domain.solve(excess_by(torch.float32), start, _STEPS)
        if rule == torch.float64:
            kappa = domain.polish(excess_by(rule), kappa, _MORE_STEPS)
        for end, sign in ((0.0, 1), (last, -1)):
            beyond, _, slope = excess(torch.full_like(angle, end), rule)
            # An angle that was rounded, or computed for this end, may be beyond by its rounding.
            tolerance = 4 * eps * angle * slope + _ACCURACY
            inside = inside & ~(sign * beyond > tolerance)
            kappa = torch.where(sign * beyond >= 0, end, kappa)
        return torch.where(inside, kappa, torch.nan)

    return by_rows(of_cap, ROWS, angle, p)


class _Concentration(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(angle: Tensor, p: Tensor, d: int, family: int, last: float, eps: float) -> Tensor:
        return _concentration_of_cap(angle, p, d, family, last, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        angle, p, ctx.d, ctx.family, *_ = inputs
        ctx.save_for_backward(angle, p, output)
        ctx.save_for_forward(angle, p, output)

    @staticmethod
    def _slopes(ctx: Any, angle: Tensor, _: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor]:
        density, speed = _density_and_speed(angle, kappa, ctx.d, ctx.family)
        return -1 / (angle.sin() * speed), 1 / (density * speed)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return *vjp(ctx, grad, _Concentration._slopes), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, dangle: Tensor | None, dp: Tensor | None, *_: Any) -> Tensor:
        return jvp(_Concentration._slopes(ctx, *ctx.saved_tensors), dangle, dp)


@register_autograd("angle_quantile")
def _(*arguments: Any) -> Tensor:
    result: Tensor = _Angle.apply(*arguments)
    return result


@register_autograd("concentration_of_cap")
def _(*arguments: Any) -> Tensor:
    result: Tensor = _Concentration.apply(*arguments)
    return result


@register_fake("angle_quantile")
@register_fake("concentration_of_cap")
def _(x: Tensor, other: Tensor, *_: Any) -> Tensor:
    return x.new_empty(batch_shape(x.shape, other.shape))


def _normal_quantile(tail: Tensor, is_lower: Tensor) -> Tensor:
    """z with P(Z <= z) = tail, or P(Z > z) = tail where the tail is not the lower one."""
    z = torch.special.ndtri(tail)
    return torch.where(is_lower, z, -z)


def _density_and_speed(angle: Tensor, kappa: Tensor, d: int, family: int) -> tuple[Tensor, Tensor]:
    """(1 - t^2) f(t), and the implicit gradient, at an angle."""
    sin2, cos2 = (angle / 2).sin().square(), (angle / 2).cos().square()
    density = log_density_of_angle(sin2, cos2, kappa, d, FAMILIES[family]).exp()
    return density, ops.implicit_gradient(kappa, sin2, cos2, d, family)
