"""Self-supervised objectives on the sphere. Each takes a few lines in a training loop.

A batch without samples has no losses: as in torch, their mean is NaN and their sum 0, whatever the
other options of a loss are, and the gradients are as empty as the arguments. What takes statistics
of a batch (`barlow_twins_loss`, `feature_std`, `DirectPred` in training) refuses such a batch.
"""

from .barlow_twins import barlow_twins_loss, cross_correlation
from .diagnostics import feature_std, mean_resultant_length
from .dino import DINOLoss
from .expected_likelihood_kernel import (
    ExpectedLikelihoodKernelLoss,
    expected_likelihood_kernel_loss,
)
from .heads import DirectPred, KappaHead, VISimSiamHead, VISimSiamOutput
from .hedged_instance import HedgedInstanceLoss, hedged_instance_loss
from .mc_infonce import MCInfoNCELoss, mc_infonce_loss
from .objective import expected_log_prob, j_align, j_kl, j_uniform, log_renormalizer
from .simclr import nt_xent_loss, simclr_loss, vi_simclr_loss
from .simsiam import simsiam_loss
from .vi_simsiam import VISimSiamLoss, vi_simsiam_loss

__all__ = [
    "DINOLoss",
    "DirectPred",
    "ExpectedLikelihoodKernelLoss",
    "HedgedInstanceLoss",
    "KappaHead",
    "MCInfoNCELoss",
    "VISimSiamHead",
    "VISimSiamLoss",
    "VISimSiamOutput",
    "barlow_twins_loss",
    "cross_correlation",
    "expected_likelihood_kernel_loss",
    "expected_log_prob",
    "feature_std",
    "hedged_instance_loss",
    "j_align",
    "j_kl",
    "j_uniform",
    "log_renormalizer",
    "mc_infonce_loss",
    "mean_resultant_length",
    "nt_xent_loss",
    "simclr_loss",
    "simsiam_loss",
    "vi_simclr_loss",
    "vi_simsiam_loss",
]
