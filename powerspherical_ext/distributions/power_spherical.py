"""The Power Spherical distribution."""

from __future__ import annotations

import math

from torch import Tensor

from .. import ops
from .._tensors import wide
from ..families import family_named
from .rotationally_symmetric import RotationallySymmetric

__all__ = ["PowerSpherical"]


class PowerSpherical(RotationallySymmetric):
    r"""Power Spherical distribution on :math:`S^{d-1}`.

    .. math::
        p(x) = C(\kappa) (1 + \mu^\top x)^\kappa, \qquad
        \log C(\kappa) = -\left[(\alpha + \beta) \log 2 + \beta \log \pi
            + \log\Gamma(\alpha) - \log\Gamma(\alpha + \beta)\right],

    with :math:`\beta = (d-1)/2` and :math:`\alpha = \beta + \kappa`, with respect to the surface
    measure. :math:`(1 + \mu^\top x)/2` is Beta(:math:`\alpha`, :math:`\beta`) distributed; given
    it, x is uniform on the circle of latitude.

    Args:
        loc: mean directions :math:`\mu`, unit vectors, shape (..., d), d >= 2.
        concentration: :math:`0 \le \kappa < 2^{50}`, shape (...) or a number; 0 is the uniform
            distribution. The bound, about 1.1e15, is where accuracy ends. An infinite
            concentration is outside, and does not mean a point mass.
        validate_args: check values as well as shapes and dtypes (torch's default: yes).
        scale: another name of ``concentration``, as in the ``power-spherical`` and
            ``s-vae-pytorch`` packages.
        normalize: divide ``loc`` by its length first, as ``torch.nn.functional.normalize`` does.

    Shapes: the batch dimensions of ``loc`` and ``concentration`` broadcast to ``batch_shape``;
    ``event_shape`` is (d,).

    Dtypes: both are promoted to their common dtype, which samples have; a number or a tensor of
    integers takes the dtype of ``loc``. Densities and all other quantities are computed and
    returned in that dtype, and in float32 for half precision.

    Raises:
        TypeError: ``loc`` is not a floating-point tensor, or the concentration neither a tensor nor
            a number, or complex.
        ValueError: a shape does not fit, d < 2, or, with ``validate_args``, a mean direction is not
            a unit vector or a concentration is negative, NaN or not below the bound. Without
            ``validate_args`` everything is NaN for such a concentration.

    Example:
        >>> import torch
        >>> from powerspherical_ext import PowerSpherical
        >>> _ = torch.manual_seed(0)
        >>> p = PowerSpherical(torch.tensor([0.0, 0.0, 1.0]), concentration=10.0)
        >>> p.rsample((2,)).shape
        torch.Size([2, 3])
        >>> p.log_prob(torch.tensor([0.0, 0.0, 1.0]))
        tensor(-0.1331)
        >>> p.mean
        tensor([0.0000, 0.0000, 0.8333])

    Source:
        De Cao and Aziz, "The Power Spherical distribution", 2020, eq. 7 to 9.
    """

    _family = family_named("power_spherical")

    def log_normalizer(self) -> Tensor:
        r"""log C(:math:`\kappa`), shape (...), so that log p = log C + :math:`\kappa` log1p(t).

        Example:
            >>> import torch
            >>> p = PowerSpherical(torch.tensor([0.0, 0.0, 1.0]), concentration=10.0)
            >>> p.log_normalizer()
            tensor(-7.0646)
        """
        kappa = wide(self.concentration)  # the two terms nearly cancel at some concentration
        value = ops.log_prob_at_mode(kappa, self._dim, self._family) - kappa * math.log(2)
        return value.to(ops.common_dtype(self.concentration))
