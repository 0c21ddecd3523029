"""The modules between a backbone and a loss: projectors, predictors, and predictors of kappa."""

from .direct_pred import DirectPred
from .kappa_head import KappaHead
from .vi_simsiam_head import VISimSiamHead, VISimSiamOutput

__all__ = ["DirectPred", "KappaHead", "VISimSiamHead", "VISimSiamOutput"]
