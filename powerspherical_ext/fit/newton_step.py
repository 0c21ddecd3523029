"""The Newton step of a maximum likelihood fit, without its Hessian as a matrix, and what is taken
of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Hessian", "climb", "newton_step", "solve"]

# v [B, K, d] -> H v [B, K, d], symmetric
Hessian = Callable[[Tensor], Tensor]

# A named tuple of tensors [B, K] and [B, K, ...], of which ``value`` [B, K] is the likelihood
Point = TypeVar("Point", bound=Any)

_HALVINGS = 30


def climb(
    after: Callable[[Point, Tensor], Point],
    start: Point,
    step: Tensor,
    pending: Tensor,
    floor: Tensor,
) -> Point:
    """The point after the first of the shares 1, 1/2, 1/4, ... of the step that keeps the value
    from falling below ``floor``.

    Each component that is ``pending`` has a share of its own; the others stay where they are.
    """
    point = start
    for halving in range(_HALVINGS):
        trial = after(start, 0.5**halving * step)
        accepted = pending & (trial.value >= floor)
        if accepted.all():
            return trial
        pairs = zip(trial, point, strict=True)
        point = type(start)(*(torch.where(_like(accepted, new), new, old) for new, old in pairs))
        pending = pending & ~accepted
        if not pending.any():
            break
    return point


def _like(mask: Tensor, x: Tensor) -> Tensor:
    return mask.reshape(mask.shape + (x.dim() - mask.dim()) * (1,))


def solve(hessian: Hessian, force: Tensor, tolerance: float) -> Tensor:
    """H^-1 force (B, K, d), by conjugate gradients, to that part of |force|.

    H is positive definite at a local maximum of the likelihood. Elsewhere the iteration ends at the
    first direction in which it is not, with what it has, or that direction if it has nothing: an
    ascent in any case (Steihaug, 1983).
    """
    step, residual = torch.zeros_like(force), force
    direction, square = residual, residual.square().sum(-1, keepdim=True)
    enough, convex = square * tolerance**2, torch.ones_like(square, dtype=torch.bool)
    for iteration in range(2 * force.shape[-1]):
        running = convex & (square > enough)
        if not running.any():
            break
        image = hessian(direction)
        energy = (direction * image).sum(-1, keepdim=True)
        convex = convex & ~(running & (energy <= 0))
        used = running & (energy != 0) if iteration == 0 else running & convex
        length = torch.where(used, square / torch.where(used, energy, 1.0).abs(), 0.0)
        step, residual = step + length * direction, residual - length * image
        previous, square = square, residual.square().sum(-1, keepdim=True)
        direction = residual + square / torch.where(running, previous, 1.0) * direction
    return step


def newton_step(hessian: Hessian, force: Tensor) -> Tensor:
    """`solve` to 1e-12, differentiable in the force; H is a constant."""
    step: Tensor = _NewtonStep.apply(hessian, force)
    return step


class _NewtonStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hessian: Hessian, force: Tensor) -> Tensor:
        ctx.hessian = hessian
        return solve(hessian, force, 1e-12)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, solve(ctx.hessian, grad, 1e-12)
