"""Kullback-Leibler divergences, registered with torch.distributions.kl_divergence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions.kl import register_kl

from .. import ops, reference
from .hyperspherical_uniform import HypersphericalUniform
from .power_spherical import PowerSpherical
from .rotationally_symmetric import RotationallySymmetric


def _check_dimensions(p: Any, q: Any) -> None:
    if p.event_shape != q.event_shape:
        raise ValueError(
            "kl_divergence: both distributions must live on the same sphere, got vectors of "
            f"length {p.event_shape[0]} and {q.event_shape[0]}"
        )


@register_kl(RotationallySymmetric, HypersphericalUniform)
def _kl_symmetric_uniform(p: RotationallySymmetric, q: HypersphericalUniform) -> Tensor:
    _check_dimensions(p, q)
    kl = ops.kl_uniform(p.concentration, p.event_shape[0], p._family)
    return kl.expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))


@register_kl(HypersphericalUniform, HypersphericalUniform)
def _kl_uniform_uniform(p: HypersphericalUniform, q: HypersphericalUniform) -> Tensor:
    _check_dimensions(p, q)
    dtype = ops.common_dtype(p.mean, q.mean)
    shape = torch.broadcast_shapes(p.batch_shape, q.batch_shape)
    return torch.zeros(shape, dtype=dtype, device=p.mean.device)


@register_kl(PowerSpherical, PowerSpherical)
def _kl_power_spherical_power_spherical(p: PowerSpherical, q: PowerSpherical) -> Tensor:
    _check_dimensions(p, q)
    kappa_p, kappa_q, mu_p, mu_q = _promoted(p.concentration, q.concentration, p.loc, q.loc)
    y, z = reference.chords(mu_p, mu_q)
    return reference.kl_power_spherical.kl(kappa_p, kappa_q, p.event_shape[0], y, z)


@register_kl(HypersphericalUniform, PowerSpherical)
def _kl_uniform_power_spherical(p: HypersphericalUniform, q: PowerSpherical) -> Tensor:
    _check_dimensions(p, q)
    (kappa,) = _promoted(q.concentration)
    uniform = torch.zeros_like(kappa)
    kl = reference.kl_power_spherical.same_mean(uniform, kappa, p.event_shape[0])
    return kl.expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))


def _promoted(*tensors: Tensor) -> tuple[Tensor, ...]:
    dtype = ops.common_dtype(*tensors)
    return tuple(x.to(dtype) for x in tensors)
