"""Power Spherical and von Mises-Fisher distributions for PyTorch, with kernels of their own."""

from ._library import __version__, show_config
from .distributions import HypersphericalUniform, PowerSpherical, SphericalCauchy, VonMisesFisher
from .losses import KappaHead, VISimSiamLoss, vi_simsiam_loss
from .mixtures import FittedMixture, fit_mixture

__all__ = [
    "FittedMixture",
    "HypersphericalUniform",
    "KappaHead",
    "PowerSpherical",
    "SphericalCauchy",
    "VISimSiamLoss",
    "VonMisesFisher",
    "__version__",
    "fit_mixture",
    "show_config",
    "vi_simsiam_loss",
]
