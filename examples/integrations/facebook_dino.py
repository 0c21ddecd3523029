"""facebookresearch/dino with a kappa: VI-SimSiam on its multi-crop training, without a teacher.

Tried with commit 7c446df; run it from a checkout of that repository, or with one on PYTHONPATH.
In main_dino.py the teacher, its momentum update and DINOHead go; augmentations, schedules and the
rest stay. main_dino.py converts the head's BatchNorm to SyncBatchNorm by itself.
"""

from __future__ import annotations

import utils  # of facebookresearch/dino
from torch import Tensor, nn

from powerspherical_ext.losses import VISimSiamHead, VISimSiamLoss


def student_network(backbone: nn.Module, embed_dim: int, dim: int = 2048) -> nn.Module:
    student = utils.MultiCropWrapper(backbone, VISimSiamHead(embed_dim, dim))
    return student


def training_step(student: nn.Module, criterion: VISimSiamLoss, images: list[Tensor]) -> Tensor:
    """The loss of one step of main_dino.py's train_one_epoch(): 2 global views, then local ones."""
    z, mu, kappa = (part.chunk(len(images)) for part in student(images))
    loss = criterion(mu, z[:2], kappa)
    return loss
