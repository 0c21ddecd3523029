"""Kullback-Leibler divergences, registered with torch.distributions.kl_divergence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions.kl import register_kl

from .. import ops, reference
from .hyperspherical_uniform import HypersphericalUniform
from .power_spherical import PowerSpherical
from .rotationally_symmetric import RotationallySymmetric
from .von_mises_fisher import VonMisesFisher

_mixed = reference.kl_power_spherical_von_mises_fisher


def _register(p_type: type, q_type: type, scalar: Callable[..., Tensor]) -> None:
    """KL(p || q) = scalar(kappa_p, kappa_q, d, y, z), y and z the chords of the mean directions."""

    @register_kl(p_type, q_type)
    def _kl(p: RotationallySymmetric, q: RotationallySymmetric) -> Tensor:
        _check_dimensions(p, q)
        kappa_p, kappa_q, mu_p, mu_q = _promoted(p.concentration, q.concentration, p.loc, q.loc)
        return scalar(kappa_p, kappa_q, p.event_shape[0], *reference.chords(mu_p, mu_q))


def _register_from_uniform(q_type: type, same_mean: Callable[..., Tensor]) -> None:
    """KL(uniform || q) = KL(q0 || q), q0 the same as q but for a concentration of 0."""

    @register_kl(HypersphericalUniform, q_type)
    def _kl(p: HypersphericalUniform, q: RotationallySymmetric) -> Tensor:
        _check_dimensions(p, q)
        (kappa,) = _promoted(q.concentration)
        kl = same_mean(torch.zeros_like(kappa), kappa, p.event_shape[0])
        return kl.expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))


_register(PowerSpherical, PowerSpherical, reference.kl_power_spherical.kl)
_register(VonMisesFisher, VonMisesFisher, reference.kl_von_mises_fisher.kl)
_register(PowerSpherical, VonMisesFisher, _mixed.kl_from_power_spherical)
_register(VonMisesFisher, PowerSpherical, _mixed.kl_from_von_mises_fisher)
_register_from_uniform(PowerSpherical, reference.kl_power_spherical.same_mean)
_register_from_uniform(VonMisesFisher, reference.kl_von_mises_fisher.same_mean)


@register_kl(RotationallySymmetric, HypersphericalUniform)
def _kl_concentrated_uniform(p: RotationallySymmetric, q: HypersphericalUniform) -> Tensor:
    _check_dimensions(p, q)
    kl = ops.kl_uniform(p.concentration, p.event_shape[0], p._family)
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
            f"length {p.event_shape[0]} and {q.event_shape[0]}"
        )


def _promoted(*tensors: Tensor) -> tuple[Tensor, ...]:
    dtype = ops.common_dtype(*tensors)
    return tuple(x.to(dtype) for x in tensors)
