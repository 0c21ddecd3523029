"""facebookresearch/simsiam with a kappa: the model of simsiam/builder.py, the step of its train().

Tried with commit a7bc177; run it from a checkout of that repository, or with one on PYTHONPATH.
There the projector replaces `encoder.fc`, so that the backbone's output is not at hand, and kappa
is predicted from z instead. With --fix-pred-lr the optimiser takes the model's parts by name:
`{'params': model.module.kappa_head.parameters(), 'fix_lr': False}` has to be among them.
"""

from __future__ import annotations

from collections.abc import Callable

from simsiam.builder import SimSiam
from torch import Tensor, nn

from powerspherical_ext import KappaHead, VISimSiamLoss


class VISimSiam(SimSiam):
    def __init__(
        self, base_encoder: Callable[..., nn.Module], dim: int = 2048, pred_dim: int = 512
    ) -> None:
        super().__init__(base_encoder, dim, pred_dim)
        self.kappa_head = KappaHead(dim)

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
        z1, z2 = self.encoder(x1), self.encoder(x2)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        return p1, p2, z1.detach(), z2.detach(), self.kappa_head(z1), self.kappa_head(z2)


def training_step(model: nn.Module, criterion: VISimSiamLoss, images: list[Tensor]) -> Tensor:
    """The loss of one step of main_simsiam.py's train()."""
    p1, p2, z1, z2, k1, k2 = model(x1=images[0], x2=images[1])
    loss = criterion(p1, z2, k1) + criterion(p2, z1, k2)
    return loss
