"""Maximum likelihood in any batch shape, for any family that has an estimator."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Size, Tensor
from torch.autograd.function import once_differentiable

from .. import ops
from .._tensors import wide
from ..families import Family
from . import Estimator, Fit, Settings
from .products import masses

__all__ = ["estimate", "scalar_functions", "without_repeats"]


def estimate(
    family: Family,
    estimator: Estimator,
    samples: Tensor,
    weights: Tensor,
    max_iterations: int,
    tolerance: float,
) -> Fit:
    """The fit of samples (..., n, d), whose batch shape broadcasts to that of weights (..., n).

    Samples that several weights share are not repeated. A fit whose weights are all 0, or not
    finite, has NaN for its mean direction and its concentration. It changes no other fit, and no
    gradient of the samples.
    """
    layout = _layout(samples, weights.shape)
    x, w = layout.samples(samples), layout.weights(weights)
    if x.requires_grad or w.requires_grad:
        w = wide(w)  # parts of gradients cancel, and are added before they are rounded
    mass = masses(w.detach())
    undefined = ~((mass > 0) & (mass < math.inf))
    any_undefined = bool(undefined.any())
    given = w
    if any_undefined:
        w = torch.where(undefined.unsqueeze(-1), 1.0, w)
    scalar = scalar_functions(family, samples.shape[-1])
    fit = estimator(x, w, Settings(max_iterations, tolerance, scalar))
    if any_undefined:
        mu, kappa = _Undefined.apply(fit.mu, fit.kappa, given, undefined)
        gradient, change = (v.masked_fill(undefined, 0) for v in (fit.gradient, fit.change))
        fit = Fit(mu, kappa, gradient, change, fit.at_bound & ~undefined)
    return Fit(*(layout.restore(v) for v in fit))


def scalar_functions(family: Family, d: int) -> Callable[[str, Tensor], Tensor]:
    """What `Settings` calls ``scalar``."""

    def scalar(name: str, kappa: Tensor) -> Tensor:
        return ops.scalar_function(ops.ScalarFunction[name.upper()], kappa, d, family)

    return scalar


def without_repeats(samples: Tensor) -> Tensor:
    """The samples (..., n, d), with size 1 for the batch dimensions along which they repeat.

    A gradient has the shape of what was expanded, so samples that want one keep their shape.
    """
    if samples.requires_grad:
        return samples
    for i in range(samples.dim() - 2):
        if samples.stride(i) == 0 and samples.shape[i] > 1:
            samples = samples.narrow(i, 0, 1)
    return samples


class _Layout(NamedTuple):
    """How a batch becomes B batches of K weighted components that share their samples."""

    shape: Size  # (..., n) of the broadcast samples and weights
    own: list[int]  # batch dimensions along which samples differ; their sizes multiply to B
    common: list[int]  # those along which only weights do; their sizes multiply to K

    def samples(self, samples: Tensor) -> Tensor:
        """(..., n, d) to (B, n, d)."""
        samples = without_repeats(samples)
        missing = len(self.shape) + 1 - samples.dim()
        x = samples.reshape(*missing * (1,), *samples.shape)
        x = x.permute([*self.own, *self.common, -2, -1])
        return x.reshape(self.batch, *x.shape[-2:]).expand(-1, self.shape[-1], -1)

    def weights(self, weights: Tensor) -> Tensor:
        """(..., n) to (B, K, n)."""
        w = weights.permute([*self.own, *self.common, -1])
        return w.reshape(self.batch, self.components, self.shape[-1])

    def restore(self, values: Tensor) -> Tensor:
        """(B, K, ...) to the batch shape."""
        order, rest = self.own + self.common, list(values.shape[2:])
        back = sorted(range(len(order)), key=order.__getitem__)
        trailing = range(len(order), len(order) + len(rest))
        return values.reshape([self.shape[i] for i in order] + rest).permute([*back, *trailing])

    @property
    def batch(self) -> int:
        return math.prod(self.shape[i] for i in self.own)

    @property
    def components(self) -> int:
        return math.prod(self.shape[i] for i in self.common)


def _layout(samples: Tensor, shape: Size) -> _Layout:
    sizes = without_repeats(samples).shape[:-2]
    sizes = Size((len(shape) - 1 - len(sizes)) * (1,)) + sizes
    common = [i for i, size in enumerate(sizes) if size == 1]
    own = [i for i, size in enumerate(sizes) if size != 1]
    return _Layout(shape, own, common)


class _Undefined(torch.autograd.Function):
    """Puts NaN where a fit is undefined.

    The gradient of its weights is NaN, but 0 where nothing depends on the fit.
    """

    @staticmethod
    def forward(
        ctx: Any, mu: Tensor, kappa: Tensor, weights: Tensor, undefined: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(undefined)
        ctx.weights = weights.shape, weights.dtype
        mu = mu.masked_fill(undefined.unsqueeze(-1), math.nan)
        return mu, kappa.masked_fill(undefined, math.nan)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_mu: Tensor, grad_kappa: Tensor) -> Any:
        (undefined,) = ctx.saved_tensors
        (shape, dtype), grad_weights = ctx.weights, None
        if ctx.needs_input_grad[2]:
            used = (grad_mu != 0).any(-1) | (grad_kappa != 0)
            grad_weights = grad_mu.new_zeros(shape, dtype=dtype)
            grad_weights.masked_fill_((undefined & used).unsqueeze(-1), math.nan)
        grad_mu = grad_mu.masked_fill(undefined.unsqueeze(-1), 0)
        return grad_mu, grad_kappa.masked_fill(undefined, 0), grad_weights, None
