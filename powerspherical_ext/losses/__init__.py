"""Self-supervised objectives on the sphere. Each takes a few lines in a training loop.

A batch without samples has no losses: as in torch, their mean is NaN and their sum 0, whatever the
other options of a loss are, and the gradients are as empty as the arguments. What takes statistics
of a batch (`barlow_twins_loss`, `feature_std`, `DirectPred` in training) refuses such a batch.
"""

from .barlow_twins import barlow_twins_loss, cross_correlation
from .diagnostics import feature_std, mean_resultant_length
from .dino import DINOLoss
from .heads import DirectPred, KappaHead, VISimSiamHead, VISimSiamOutput
from .objective import expected_log_prob, j_align, j_kl, j_uniform, log_renormalizer
from .simclr import nt_xent_loss, simclr_loss, vi_simclr_loss
from .simsiam import simsiam_loss
from .vi_simsiam import VISimSiamLoss, vi_simsiam_loss

__all__ = [
    "DINOLoss",
    "DirectPred",
    "KappaHead",
    "VISimSiamHead",
    "VISimSiamLoss",
    "VISimSiamOutput",
    "barlow_twins_loss",
    "cross_correlation",
    "expected_log_prob",
    "feature_std",
    "j_align",
    "j_kl",
    "j_uniform",
    "log_renormalizer",
    "mean_resultant_length",
    "nt_xent_loss",
    "simclr_loss",
    "simsiam_loss",
    "vi_simclr_loss",
    "vi_simsiam_loss",
]
