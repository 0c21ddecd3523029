"""Kullback-Leibler divergences, registered with torch.distributions.kl_divergence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions.kl import register_kl

from .. import ops
from .hyperspherical_uniform import HypersphericalUniform
from .rotationally_symmetric import RotationallySymmetric


@register_kl(RotationallySymmetric, RotationallySymmetric)
def _kl_symmetric_symmetric(p: RotationallySymmetric, q: RotationallySymmetric) -> Tensor:
    _check_dimensions(p, q)
    return ops.kl(p.concentration, q.concentration, p.loc, q.loc, p._family, q._family)


@register_kl(RotationallySymmetric, HypersphericalUniform)
def _kl_symmetric_uniform(p: RotationallySymmetric, q: HypersphericalUniform) -> Tensor:
    _check_dimensions(p, q)
    kl = ops.kl_uniform(p.concentration, p.event_shape[0], p._family)
    return kl.expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))


@register_kl(HypersphericalUniform, RotationallySymmetric)
def _kl_uniform_symmetric(p: HypersphericalUniform, q: RotationallySymmetric) -> Tensor:
    _check_dimensions(p, q)
    uniform, loc = torch.zeros_like(q.concentration), q.loc.detach()
    kl = ops.kl(uniform, q.concentration, loc, loc, q._family, q._family)
    return kl.expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))


@register_kl(HypersphericalUniform, HypersphericalUniform)
def _kl_uniform_uniform(p: HypersphericalUniform, q: HypersphericalUniform) -> Tensor:
    _check_dimensions(p, q)
    dtype = ops.common_dtype(p.mean, q.mean)
    shape = torch.broadcast_shapes(p.batch_shape, q.batch_shape)
    return torch.zeros(shape, dtype=dtype, device=p.mean.device)


def _check_dimensions(p: Any, q: Any) -> None:
    if p.event_shape != q.event_shape:
        raise ValueError(
            "kl_divergence: both distributions must live on the same sphere, got vectors of "
            f"length {p.event_shape[0]} and {q.event_shape[0]}; HypersphericalUniform takes the "
            "length of the vectors"
        )
