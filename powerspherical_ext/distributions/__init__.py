"""Distributions on the unit sphere, as torch.distributions."""

from . import kl, transform_to  # noqa: F401  (they register with torch)
from .cosine_marginal import CosineMarginal
from .hyperspherical_uniform import HypersphericalUniform
from .power_spherical import PowerSpherical
from .rotationally_symmetric import RotationallySymmetric
from .spherical_cauchy import SphericalCauchy
from .von_mises_fisher import VonMisesFisher

__all__ = [
    "CosineMarginal",
    "HypersphericalUniform",
    "PowerSpherical",
    "RotationallySymmetric",
    "SphericalCauchy",
    "VonMisesFisher",
]
