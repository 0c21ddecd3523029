"""The spherical Cauchy distribution."""

from __future__ import annotations

from torch import Tensor

from .. import ops
from .._tensors import wide
from ..families import family_named
from .rotationally_symmetric import RotationallySymmetric

__all__ = ["SphericalCauchy"]


class SphericalCauchy(RotationallySymmetric):
    r"""Spherical Cauchy distribution on :math:`S^{d-1}`.

    .. math::
        p(x) = \frac{\Gamma(d/2)}{2 \pi^{d/2}}
            \left( \frac{1 - \rho^2}{1 + \rho^2 - 2 \rho\, \mu^\top x} \right)^{d-1},

    with respect to the surface measure. It is the law of a uniform point moved by the Moebius map
    of the ball that carries the origin to :math:`\rho\mu`. Its tails are heavy: the density falls
    as a power of the distance from the mode. On the circle, d = 2, it is the wrapped Cauchy
    distribution.

    Args:
        loc: mean directions :math:`\mu`, unit vectors, shape (..., d), d >= 2.
        concentration: :math:`0 \le \rho < 1`, shape (...) or a number; 0 is the uniform
            distribution.
        validate_args: check values as well as shapes and dtypes (torch's default: yes).
        scale: another name of ``concentration``, as in the ``power-spherical`` and
            ``s-vae-pytorch`` packages.
        normalize: divide ``loc`` by its length first, as ``torch.nn.functional.normalize`` does.

    Shapes: the batch dimensions of ``loc`` and ``concentration`` broadcast to ``batch_shape``;
    ``event_shape`` is (d,).

    Dtypes: both are promoted to their common dtype, which samples have; a number or a tensor of
    integers takes the dtype of ``loc``. Densities and all other quantities are computed and
    returned in that dtype, and in float32 for half precision.

    Precision: the distribution depends on :math:`1 - \rho`, and the numbers of a dtype below 1 are
    6e-8 (float32), 1e-16 (float64), 5e-4 (float16) and 4e-3 (bfloat16) apart. So float32 holds
    concentrations up to 1 - 6e-8, and knows :math:`1 - \rho` to a relative error of 3e-8 /
    (:math:`1 - \rho`): to 3e-5 at 0.999. All quantities are accurate for the number
    :math:`\rho` that is given, but for one: near the mode the density bends on the scale
    :math:`1 - \rho` of the angle, so that for :math:`1 - \rho` below 6e-5 in float32 the rounding
    of the lengths of ``loc`` and of a value is felt in `log_prob` (27 ulp at 2^-17). Take
    concentrations that close to 1 in float64.

    Raises:
        TypeError: ``loc`` is not a floating-point tensor, or the concentration neither a tensor nor
            a number, or complex.
        ValueError: a shape does not fit, d < 2, or, with ``validate_args``, a mean direction is not
            a unit vector or a concentration is outside [0, 1) or NaN. Without ``validate_args``
            everything is NaN for such a concentration.

    Example:
        >>> import torch
        >>> from powerspherical_ext import SphericalCauchy
        >>> _ = torch.manual_seed(0)
        >>> p = SphericalCauchy(torch.tensor([0.0, 0.0, 1.0]), concentration=0.5)
        >>> p.rsample((2,)).shape
        torch.Size([2, 3])
        >>> p.log_prob(torch.tensor([0.0, 0.0, 1.0]))
        tensor(-0.3338)
        >>> p.mean
        tensor([0.0000, 0.0000, 0.6320])

    Source:
        Kato and McCullagh, "Some properties of a Cauchy family on the sphere derived from the
        Moebius transformations", Bernoulli 26, 2020, eq. 1.
    """

    _family = family_named("spherical_cauchy")

    def log_normalizer(self) -> Tensor:
        r"""log C(:math:`\rho`), shape (...).

        .. math:: \log p = \log C - (d - 1) \log(1 + \rho^2 - 2 \rho\, t)

        Example:
            >>> import torch
            >>> SphericalCauchy(torch.tensor([0.0, 0.0, 1.0]), concentration=0.5).log_normalizer()
            tensor(-3.1064)
        """
        rho = wide(self.concentration)  # the two terms nearly cancel at some concentration
        value = ops.log_prob_at_mode(rho, self._dim, self._family)
        value = value + 2 * (self._dim - 1) * (-rho).log1p()
        return value.to(ops.common_dtype(self.concentration))
