"""The law of the cosine to the mean direction."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from .. import ops
from .._tensors import savable
from ..families import Family
from ..marginal import cosine, entropy, sampling
from ._arguments import as_size, check_float, copy_validation, validates
from ._variances import variances

__all__ = ["CosineMarginal"]


class _RotationallySymmetric(Protocol):
    """What the marginal reads of the distribution that it belongs to."""

    concentration: Tensor
    _family: ClassVar[Family]

    @property
    def batch_shape(self) -> Size: ...

    @property
    def event_shape(self) -> Size: ...


class CosineMarginal(Distribution):
    r"""Distribution on [-1, 1] of :math:`t = \mu^\top x` for a rotationally symmetric x.

    .. math:: f(t) = p(t)\, \frac{2 \pi^{(d-1)/2}}{\Gamma((d-1)/2)}\, (1 - t^2)^{(d-3)/2},

    where p(t) is the density on the sphere. For Power Spherical, (1 + t)/2 is
    Beta(:math:`\kappa + (d-1)/2`, :math:`(d-1)/2`) distributed (De Cao and Aziz, 2020, eq. 9).

    Usually made by `RotationallySymmetric.marginal_t`.

    Args:
        base: the distribution of x, of batch shape (...); t has the same batch shape and the event
            shape (). Only its concentration, dimension and family matter.
        validate_args: check values given to `log_prob`, `cdf`, `survival` and `icdf` (default: as
            for ``base``).

    Precision: all functions compute in float64 (float32 on devices without it) and return the
    common dtype of argument and concentration, at least float32. `cdf` and `survival` are accurate
    relative to the smaller of the two. Where t is close to 1, as at a high concentration, it is the
    number t itself that is coarse: floats near 1 are 6e-8 (float32) or 1e-16 (float64) apart, while
    1 - t is about (d - 1)/(2 :math:`\kappa`). Take such values of t in float64.

    Raises:
        TypeError: an argument is no tensor, or not of a floating-point dtype.
        ValueError: with ``validate_args``, t outside [-1, 1] or a probability outside [0, 1].

    Example:
        >>> from powerspherical_ext import PowerSpherical
        >>> t = PowerSpherical(torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 10.0])).marginal_t
        >>> t.cdf(torch.tensor(0.5))
        tensor([0.7500, 0.0422])
        >>> t.icdf(torch.tensor(0.25))
        tensor([-0.5000,  0.7632])
        >>> t.mean
        tensor([0.0000, 0.8333])

    Source:
        Mardia and Jupp, "Directional Statistics", 2000, section 9.3; De Cao and Aziz, "The Power
        Spherical distribution", 2020, eq. 9.
    """

    support = constraints.interval(-1.0, 1.0)
    has_rsample = True

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """The domain of the concentration, which is that of the family."""
        return {"concentration": self._family.concentration}

    def __init__(self, base: _RotationallySymmetric, validate_args: bool | None = None) -> None:
        self.concentration = base.concentration
        self.dim = base.event_shape[0]
        self._family = base._family
        if validate_args is None:  # where base has torch's default, so has this, even if it changes
            validate_args = vars(base).get("_validate_args")
        super().__init__(base.batch_shape, Size(), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> CosineMarginal:
        """The same distribution with a larger batch shape, to which the old one broadcasts.

        Raises:
            RuntimeError: the old batch shape does not broadcast to the new one.
        """
        new: CosineMarginal = self._get_checked_instance(CosineMarginal, _instance)
        batch_shape = Size(batch_shape)
        new.concentration = self.concentration.expand(batch_shape)
        new.dim, new._family = self.dim, self._family
        super(CosineMarginal, new).__init__(batch_shape, Size(), validate_args=False)
        copy_validation(self, new)
        return new

    def rsample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Samples of shape ``sample_shape + batch_shape``, at a cost that does not depend on d.

        The gradient is that at a fixed quantile, :math:`\partial t / \partial\kappa =
        -(\partial F / \partial\kappa) / f`, accurate also where t rounds to 1.

        Args:
            sample_shape: how many samples to draw for each element of the batch; a number or a
                shape.
            generator: source of the random numbers, as in `RotationallySymmetric.rsample`.

        Example:
            >>> from powerspherical_ext import PowerSpherical
            >>> p = PowerSpherical(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 10.0]))
            >>> p.marginal_t.rsample((5,)).shape
            torch.Size([5, 2])
        """
        dtype = self.concentration.dtype
        concentration = self._inside(ops.common_dtype(self.concentration))
        concentration = concentration.expand(self._extended_shape(as_size(sample_shape)))
        rng_state = ops.new_rng_state(concentration.device, generator)
        return sampling.sample(concentration, self.dim, rng_state, self._family).to(dtype)

    def sample(self, sample_shape: Any = (), *, generator: torch.Generator | None = None) -> Tensor:
        """Like `rsample`, with the same arguments, shape and dtype, but without gradients."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator=generator)

    def log_prob(self, value: Tensor) -> Tensor:
        """log f(t), with the shape of ``value`` broadcast against the batch.

        At t = 1 it is +infinity for d = 2 and -infinity for d > 3; at t = -1 as well, unless the
        concentration is positive: then the Power Spherical density is 0 there for d >= 3, and for
        d = 2 behaves as (1 + t)^(concentration - 1/2), for which the value at the smallest positive
        1 + t stands in. Derivatives in t are infinite there as well.
        """
        t, concentration = self._prepare("log_prob", value)
        return cosine.log_prob(t, concentration, self.dim, self._family)

    def cdf(self, value: Tensor) -> Tensor:
        """P(T <= t), with the shape of ``value`` broadcast against the batch.

        It is differentiable in both arguments: d/dt = f(t). Errors are those of the class.

        Example:
            >>> from powerspherical_ext import VonMisesFisher
            >>> p = VonMisesFisher(torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 5.0]))
            >>> p.marginal_t.cdf(torch.tensor(0.0))
            tensor([0.5000, 0.0067])
        """
        t, concentration = self._prepare("cdf", value)
        return cosine.cdf(t, concentration, self.dim, self._family)

    def survival(self, value: Tensor) -> Tensor:
        """P(T > t) = 1 - cdf, without the cancellation; otherwise like `cdf`."""
        t, concentration = self._prepare("survival", value)
        return cosine.cdf(t, concentration, self.dim, self._family, upper=True)

    def icdf(self, value: Tensor) -> Tensor:
        """t with cdf(t) = ``value``, with the shape of ``value`` broadcast against the batch.

        It is differentiable in both arguments: dt/dq = 1/f(t). Errors are those of the class. NaN
        for a value outside [0, 1] when arguments are not validated.

        Example:
            >>> from powerspherical_ext import VonMisesFisher
            >>> p = VonMisesFisher(torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 5.0]))
            >>> p.marginal_t.icdf(torch.tensor(0.25))
            tensor([-0.5000,  0.7228])
        """
        q, concentration = self._prepare("icdf", value, constraints.unit_interval)
        return cosine.icdf(q, concentration, self.dim, self._family)

    @property
    def mean(self) -> Tensor:
        r"""E[t] = :math:`A_d(\kappa)`, shape (...)."""
        return ops.mean_resultant_length(self.concentration, self.dim, self._family)

    @property
    def variance(self) -> Tensor:
        """Var[t], shape (...)."""
        variance = variances(self.concentration, self.dim, self._family)[0]
        return variance.to(ops.common_dtype(self.concentration))

    def entropy(self) -> Tensor:
        """Differential entropy of t in nats, shape (...); by quadrature."""
        concentration = self._inside(ops.common_dtype(self.concentration))
        return entropy.entropy(concentration, self.dim, self._family)

    def _inside(self, dtype: torch.dtype) -> Tensor:
        """The concentration, and NaN outside of its domain."""
        return self._family.inside(self.concentration.to(dtype))

    def __repr__(self) -> str:
        parameters = super().__repr__().partition("(")[2]
        return f"{type(self).__name__}(family: {self._family.name}, dim: {self.dim}, {parameters}"

    def _prepare(
        self, method: str, value: Tensor, support: constraints.Constraint | None = None
    ) -> tuple[Tensor, Tensor]:
        check_float(f"{type(self).__name__}.{method}", "value", value)
        if value.device != self.concentration.device and value.dim():
            raise ValueError(
                f"{type(self).__name__}.{method}: value must be on the device of concentration, "
                f"{self.concentration.device}, got {value.device}"
            )
        if validates(self, value):
            support = self.support if support is None else support
            if not bool(support.check(value).all()):
                raise ValueError(
                    f"{type(self).__name__}.{method}: value must satisfy {support}, got {value}"
                )
        dtype = ops.common_dtype(value, self.concentration)
        value, concentration = savable(value.to(dtype), self._inside(dtype))
        return value, concentration
