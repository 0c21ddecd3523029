"""Power Spherical, von Mises-Fisher and spherical Cauchy distributions for PyTorch, with compiled
kernels, and losses with a concentration for each sample."""

from ._library import __version__, show_config  # first: its warnings name who imports the package

# isort: split
from . import export as export
from . import goodness_of_fit as goodness_of_fit
from . import metrics as metrics
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


def __getattr__(name: str) -> object:
    """For names of other packages. An ImportError, since `from ... import` hides other errors."""
    if name == "MarginalTDistribution":
        raise ImportError(
            "powerspherical_ext has no MarginalTDistribution(dim, scale): the distribution of the "
            "cosine to the mean direction is the attribute marginal_t of a distribution"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
