"""KL(SC(mu_p, p) || SC(mu_q, q)) of d, the concentrations and the half angle between the means.

See csrc/math/kl_spherical_cauchy.h. sin2 = (1 - mu_p . mu_q)/2. Derivatives of any order are
autograd's, on fixed quadrature nodes.
"""

from __future__ import annotations

from torch import Tensor

from .._tensors import wide
from .spherical_cauchy import gap, kl_at


def kl(rho_p: Tensor, rho_q: Tensor, d: int, sin2: Tensor, cos2: Tensor) -> Tensor:
    """KL = b E[log1p(x/(1 + w))], x = 4 D (D + P)/P^2, D = |p mu_p - q mu_q|^2."""
    p, q = wide(rho_p), wide(rho_q)
    distance = (p - q).square() + 4 * p * q * wide(sin2)
    product = gap(p) * (1 + p) * gap(q) * (1 + q)
    ratio = distance / product
    return kl_at(4 * ratio * (ratio + 1), d).to(rho_p.dtype)
