"""The von Mises-Fisher distribution."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from .. import ops
from .._tensors import wide
from ..families import family_named
from .rotationally_symmetric import RotationallySymmetric

__all__ = ["VonMisesFisher"]


class VonMisesFisher(RotationallySymmetric):
    r"""Von Mises-Fisher distribution on :math:`S^{d-1}`.

    .. math::
        p(x) = C(\kappa) \exp(\kappa\, \mu^\top x), \qquad
        \log C(\kappa) = (d/2 - 1) \log \kappa - (d/2) \log 2\pi - \log I_{d/2-1}(\kappa),

    with respect to the surface measure. On the circle, d = 2, it is the von Mises distribution.

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
        >>> from powerspherical_ext import VonMisesFisher
        >>> _ = torch.manual_seed(0)
        >>> p = VonMisesFisher(torch.tensor([0.0, 0.0, 1.0]), concentration=10.0)
        >>> p.rsample((2,)).shape
        torch.Size([2, 3])
        >>> p.log_prob(torch.tensor([0.0, 0.0, 1.0]))
        tensor(0.4647)
        >>> p.mean
        tensor([0.0000, 0.0000, 0.9000])

    Source:
        Mardia and Jupp, "Directional Statistics", 2000, section 9.3.2.
    """

    _family = family_named("von_mises_fisher")

    def log_normalizer(self) -> Tensor:
        r"""log C(:math:`\kappa`), shape (...), so that log p = log C + :math:`\kappa` t.

        Example:
            >>> VonMisesFisher(torch.tensor([0.0, 0.0, 1.0]), concentration=10.0).log_normalizer()
            tensor(-9.5353)
        """
        kappa = wide(self.concentration)  # the two terms nearly cancel at some concentration
        value = ops.log_prob_at_mode(kappa, self._dim, self._family) - kappa
        return value.to(ops.common_dtype(self.concentration))

    def product(self, *others: VonMisesFisher) -> VonMisesFisher:
        r"""The normalised product of densities, :math:`\prod_j p_j(x) / \int \prod_j p_j`.

        It is von Mises-Fisher itself, with :math:`\kappa\mu = \sum_j \kappa_j \mu_j`; where the sum
        vanishes it is uniform, and its mean direction that of the first density. The batches
        broadcast, and the dtypes are promoted. ``VonMisesFisher.product(p, q)`` and
        ``p.product(q)`` are the same.

        Args:
            others: any number of distributions on the same sphere.

        Raises:
            ValueError: the spheres differ, or the product is so concentrated that its concentration
                is outside of the domain.

        Example:
            >>> import torch
            >>> from powerspherical_ext import VonMisesFisher
            >>> east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
            >>> VonMisesFisher.product(VonMisesFisher(east, 3.0), VonMisesFisher(north, 4.0))
            VonMisesFisher(loc: torch.Size([2]), concentration: 5.0)

        Source:
            Mardia and Jupp 2000, section 9.3.2: the exponents kappa mu . x add up.
        """
        experts = (self, *others)
        shapes = [tuple(p.event_shape) for p in experts]
        if any(shape != shapes[0] for shape in shapes):
            raise ValueError(
                "VonMisesFisher.product: all experts must live on the same sphere, got event "
                f"shapes {sorted(shapes)}"
            )
        dtype = reduce(torch.promote_types, (p.loc.dtype for p in experts))
        terms = [
            p._family.inside(wide(p.concentration)).unsqueeze(-1) * wide(p.loc) for p in experts
        ]
        total = sum(terms[1:], start=terms[0])
        kappa = torch.linalg.vector_norm(total, dim=-1, keepdim=True)
        vanishes = kappa == 0
        loc = torch.where(vanishes, self.loc, total / torch.where(vanishes, 1.0, kappa))
        validates = any(p._validate_args for p in experts)
        return type(self)(loc.to(dtype), kappa.squeeze(-1).to(dtype), validate_args=validates)
