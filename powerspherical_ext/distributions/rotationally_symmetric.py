"""What every distribution on the sphere that is symmetric about a mean direction shares."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from .. import ops
from .constraints import finite_nonnegative, sphere

__all__ = ["RotationallySymmetric"]


class RotationallySymmetric(Distribution):
    r"""A density on :math:`S^{d-1}` that depends on x only through :math:`t = \mu^\top x`.

    A subclass names its family and adds what is particular to it; shapes, validation, sampling and
    the moments that follow from those of t are here.

    Args:
        loc: mean directions :math:`\mu`, unit vectors, shape (..., d), d >= 2.
        concentration: :math:`\kappa \ge 0`, shape (...) or a number; 0 is the uniform distribution.
        validate_args: check values as well as shapes and dtypes (torch's default: yes).

    The batch dimensions of the two broadcast; both are promoted to their common dtype.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": sphere,
        "concentration": finite_nonnegative,
    }
    support = sphere
    has_rsample = True
    _family: ClassVar[int]

    def __init__(
        self, loc: Tensor, concentration: Tensor | float, validate_args: bool | None = None
    ) -> None:
        name = type(self).__name__
        _check_float(name, "loc", loc)
        if loc.dim() == 0 or loc.shape[-1] < 2:
            raise ValueError(
                f"{name}: loc must have shape (..., d) with d >= 2, got {tuple(loc.shape)}"
            )
        if isinstance(concentration, int | float):
            concentration = loc.new_tensor(concentration)
        _check_float(name, "concentration", concentration)
        if concentration.device != loc.device:
            raise ValueError(
                f"{name}: concentration must be on the device of loc, {loc.device}, "
                f"got {concentration.device}"
            )
        try:
            batch_shape = torch.broadcast_shapes(loc.shape[:-1], concentration.shape)
        except RuntimeError:
            raise ValueError(
                f"{name}: concentration must broadcast against the batch shape "
                f"{tuple(loc.shape[:-1])} of loc, got shape {tuple(concentration.shape)}"
            ) from None
        self.loc, self.concentration = loc, concentration  # each is validated in its own dtype
        super().__init__(batch_shape, loc.shape[-1:], validate_args=validate_args)
        dtype = torch.promote_types(loc.dtype, concentration.dtype)
        self.loc = loc.to(dtype).expand(*batch_shape, loc.shape[-1])
        self.concentration = concentration.to(dtype).expand(batch_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._get_checked_instance(type(self), _instance)  # no subclass adds parameters
        batch_shape = Size(batch_shape)
        new.loc = self.loc.expand(batch_shape + self.event_shape)
        new.concentration = self.concentration.expand(batch_shape)
        super(RotationallySymmetric, new).__init__(
            batch_shape, self.event_shape, validate_args=False
        )
        new._validate_args = self._validate_args
        return new

    def rsample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Samples ``sample_shape + batch_shape + (d,)``, differentiable in both parameters.

        The gradient is pathwise and unbiased: in ``loc`` along the infinitesimal rotation that
        carries it to its new place, in ``concentration`` at a fixed quantile of t. Its mean is
        exact; it is not the derivative at fixed noise, and has no second derivative.
        """
        shape = self._extended_shape(as_size(sample_shape))
        rng_state = ops.new_rng_state(self.loc.device, generator)
        loc = self.loc.expand(shape)
        return ops.rsample(loc, self.concentration, rng_state, self._family).to(self.loc.dtype)

    def sample(self, sample_shape: Any = (), *, generator: torch.Generator | None = None) -> Tensor:
        """Like `rsample`, without gradients."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator=generator)

    def log_prob(self, value: Tensor) -> Tensor:
        r"""Log-density at ``value`` (..., d), with respect to the surface measure, in nats.

        Evaluated at value/|value| under loc/|loc|; insensitive to first order to the rounding of
        either norm. The gradients are tangent to the sphere. At the antipode of ``loc`` the density
        is 0 for a positive concentration: there the result is -inf, its gradient in ``value`` and
        ``loc`` is 0, and in ``concentration`` that of the normaliser alone. Half precision is read
        as it is and computed, and returned, in float32.
        """
        check_value(self, value, self.loc.device)
        if self._validate_args:
            self._validate_sample(value)
        return ops.log_prob(value, self.loc, self.concentration, self._family)

    @property
    def mode(self) -> Tensor:
        """The mean direction, shape (..., d); any direction is one when the concentration is 0."""
        return self.loc

    @property
    def mean(self) -> Tensor:
        r"""E[x] = :math:`A_d(\kappa)\,\mu`, shape (..., d): inside the sphere, not on it."""
        return self.mean_resultant_length().unsqueeze(-1) * self.loc

    def mean_resultant_length(self) -> Tensor:
        r""":math:`A_d(\kappa) = E[\mu^\top x]`, in [0, 1), shape (...)."""
        return ops.mean_resultant_length(self.concentration, self._dim, self._family)

    @property
    def variance(self) -> Tensor:
        """Diagonal of `covariance_matrix`, shape (..., d)."""
        along, orthogonal = self._variances()
        square = self.loc.to(along.dtype).square()
        return along.unsqueeze(-1) * square + orthogonal.unsqueeze(-1) * (1 - square)

    @property
    def covariance_matrix(self) -> Tensor:
        r"""Var[t] :math:`\mu\mu^\top` + E[1 - t^2]/(d-1) (I - :math:`\mu\mu^\top`), (..., d, d)."""
        along, orthogonal = (x[..., None, None] for x in self._variances())
        loc = self.loc.to(along.dtype)
        outer = loc.unsqueeze(-1) * loc.unsqueeze(-2)
        identity = torch.eye(self._dim, dtype=loc.dtype, device=loc.device)
        return along * outer + orthogonal * (identity - outer)

    def _variances(self) -> tuple[Tensor, Tensor]:
        """The variance along the mean direction, Var[t], and in each direction orthogonal to it."""
        raise NotImplementedError

    def entropy(self) -> Tensor:
        """Differential entropy in nats, shape (...): log surface area - KL(p || uniform)."""
        return ops.entropy(self.concentration, self._dim, self._family)

    @property
    def _dim(self) -> int:
        return self._event_shape[0]


def as_size(sample_shape: Any) -> Size:
    """A sample shape; a bare number of samples is one as well."""
    return Size((sample_shape,) if isinstance(sample_shape, int) else sample_shape)


def check_value(p: Distribution, value: Tensor, device: torch.device) -> None:
    """Whether log_prob can take ``value``: its type, device and shape, but not its entries."""
    owner = f"{type(p).__name__}.log_prob"
    _check_float(owner, "value", value)
    if value.device != device:
        raise ValueError(f"{owner}: value must be on the device of p, {device}, got {value.device}")
    try:
        fits = value.shape[-1:] == p.event_shape
        torch.broadcast_shapes(value.shape[:-1], p.batch_shape)
    except RuntimeError:
        fits = False
    if not fits:
        wanted = "(..., " + ", ".join(map(str, p.batch_shape + p.event_shape)) + ")"
        raise ValueError(
            f"{owner}: value must have a shape that broadcasts against {wanted}, "
            f"got {tuple(value.shape)}"
        )


def _check_float(owner: str, argument: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{owner}: {argument} must be a tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{owner}: {argument} must have a floating-point dtype, got {value.dtype}")
