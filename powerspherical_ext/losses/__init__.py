"""Self-supervised objectives on the sphere, each a few lines to add to a training loop."""

from .heads import KappaHead
from .vi_simsiam import VISimSiamLoss, feature_std, mean_resultant_length, vi_simsiam_loss

__all__ = [
    "KappaHead",
    "VISimSiamLoss",
    "feature_std",
    "mean_resultant_length",
    "vi_simsiam_loss",
]
