"""The Newton step of a maximum likelihood fit, without its Hessian as a matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Solve", "solve"]


def solve(
    force: Tensor, x: Tensor, stiffness: Tensor, curvature: Tensor, mu: Tensor, tolerance: float
) -> Tensor:
    """(stiffness P + P X^T diag(curvature) X P) step = force, by conjugate gradients.

    The matrix is positive definite at a local maximum of F. Elsewhere the iteration ends at the
    first direction in which it is not, with what it has, or that direction if it has nothing: an
    ascent of F in any case (Steihaug, 1983).
    """

    def project(v: Tensor) -> Tensor:
        return v - (v * mu).sum(-1, keepdim=True) * mu

    def apply(v: Tensor) -> Tensor:
        along = (x @ v.unsqueeze(-1)).squeeze(-1)
        bent = ((curvature * along).unsqueeze(-2) @ x).squeeze(-2)
        return project(stiffness.unsqueeze(-1) * v + bent)

    step, residual = torch.zeros_like(force), project(force)
    direction, square = residual, residual.square().sum(-1, keepdim=True)
    enough, convex = square * tolerance**2, torch.ones_like(square, dtype=torch.bool)
    for iteration in range(2 * x.shape[-1]):
        running = convex & (square > enough)
        if not running.any():
            break
        image = apply(direction)
        energy = (direction * image).sum(-1, keepdim=True)
        convex = convex & ~(running & (energy <= 0))
        used = running & (energy != 0) if iteration == 0 else running & convex
        length = torch.where(used, square / torch.where(used, energy, 1.0).abs(), 0.0)
        step, residual = step + length * direction, residual - length * image
        previous, square = square, residual.square().sum(-1, keepdim=True)
        direction = residual + square / torch.where(running, previous, 1.0) * direction
    return step


class Solve(torch.autograd.Function):
    """`solve`, linear and symmetric in its first argument; the others are constants."""

    @staticmethod
    def forward(
        ctx: Any, force: Tensor, x: Tensor, stiffness: Tensor, curvature: Tensor, mu: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, stiffness, curvature, mu)
        return solve(force, x, stiffness, curvature, mu, 1e-12)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, stiffness, curvature, mu = ctx.saved_tensors
        return solve(grad, x, stiffness, curvature, mu, 1e-12), None, None, None, None
