"""lightly's SimSiam example with a kappa: `python lightly_simsiam.py` trains on random images.

Tried with lightly 1.6. What is new is marked; the rest is how lightly users write a SimSiam.
Mind the order of arguments: lightly's examples write `criterion(z0, p1)`, target first. Here the
prediction comes first, since the loss stops the gradient at the target. z is detached below, so
that the loss raises if the two are swapped.
"""

from __future__ import annotations

import argparse

import torch
from lightly.models.modules import SimSiamPredictionHead, SimSiamProjectionHead
from torch import Tensor, nn

from powerspherical_ext import KappaHead, VISimSiamLoss


class VISimSiam(nn.Module):
    def __init__(self, backbone: nn.Module, features: int = 512, dim: int = 128) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = SimSiamProjectionHead(features, features, dim)
        self.prediction_head = SimSiamPredictionHead(dim, dim // 2, dim)
        self.kappa_head = KappaHead(features)  # new

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        f = self.backbone(x).flatten(start_dim=1)
        z = self.projection_head(f)
        p = self.prediction_head(z)
        z = z.detach()
        return z, p, self.kappa_head(f)  # new: the third


def training_step(model: nn.Module, criterion: VISimSiamLoss, x0: Tensor, x1: Tensor) -> Tensor:
    z0, p0, k0 = model(x0)
    z1, p1, k1 = model(x1)
    loss = criterion(p1, z0, k1) + criterion(p0, z1, k0)  # new
    return loss


def main(arguments: list[str] | None = None) -> list[float]:
    """Train for some steps on random images; the loss of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10)
    steps = parser.parse_args(arguments).steps

    from lightly.transforms import SimSiamTransform
    from torchvision.datasets import FakeData
    from torchvision.models import resnet18

    transform = SimSiamTransform(input_size=32)
    images = FakeData(8 * steps, image_size=(3, 40, 40), transform=transform)
    model = VISimSiam(nn.Sequential(*list(resnet18().children())[:-1]))
    criterion = VISimSiamLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06)  # kappa_head is among them
    losses = []
    for (x0, x1), _ in torch.utils.data.DataLoader(images, batch_size=8):
        loss = training_step(model, criterion, x0, x1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        print(f"loss {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    main()
