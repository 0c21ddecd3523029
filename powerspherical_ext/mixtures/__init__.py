"""Mixtures of distributions on the sphere: maximum likelihood by expectation-maximisation."""

from .fit_mixture import fit_mixture
from .fitted_mixture import FittedMixture

__all__ = ["FittedMixture", "fit_mixture"]
