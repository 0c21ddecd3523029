"""Encoder, projector f, predictor h and kappa predictor u, in the paper's letters."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from powerspherical_ext.losses import KappaHead


class Outputs(NamedTuple):
    y: Tensor  # (N, encoder.features): what the encoder hands on, and what kNN compares
    z: Tensor  # (N, d): projection, the target
    mu: Tensor  # (N, d): prediction of the other view's z, before normalisation
    kappa: Tensor | None  # (N,): how sure of it; None for SimSiam


class VISimSiam(nn.Module):
    """SimSiam with one more head. with_kappa=False is SimSiam itself."""

    def __init__(self, channels: int, width: int, d: int, with_kappa: bool) -> None:
        super().__init__()
        self.encoder = ResNet(channels, width)
        features = self.encoder.features
        self.f = nn.Sequential(
            nn.Linear(features, d, bias=False),
            nn.BatchNorm1d(d),
            nn.ReLU(inplace=True),
            nn.Linear(d, d, bias=False),
            nn.BatchNorm1d(d, affine=False),
        )
        self.h = nn.Sequential(
            nn.Linear(d, d // 2, bias=False),
            nn.BatchNorm1d(d // 2),
            nn.ReLU(inplace=True),
            nn.Linear(d // 2, d),
        )
        self.u = KappaHead(features, d // 2, "softplus_d", dim=d) if with_kappa else None

    def forward(self, images: Tensor) -> Outputs:
        y = self.encoder(images)
        z = self.f(y)
        return Outputs(y, z, self.h(z), None if self.u is None else self.u(y))


class ResNet(nn.Module):
    """A stem that halves the image, and three stages of residual blocks."""

    def __init__(self, channels: int, width: int, blocks: int = 1) -> None:
        super().__init__()
        self.features = 4 * width
        layers: list[nn.Module] = [conv_bn(channels, width, stride=2), nn.ReLU(inplace=True)]
        for stage in range(3):
            for block in range(blocks):
                out = width * 2**stage
                first_of_stage = block == 0 and stage > 0
                inputs = out // 2 if first_of_stage else out
                layers.append(ResidualBlock(inputs, out, stride=2 if first_of_stage else 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).mean(dim=(2, 3))


class ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            conv_bn(inputs, outputs, stride), nn.ReLU(inplace=True), conv_bn(outputs, outputs, 1)
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, stride, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.branch(x) + self.shortcut(x))


def conv_bn(inputs: int, outputs: int, stride: int, kernel: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def embed(model: VISimSiam, images: Tensor, batch_size: int = 500) -> Outputs:
    """All outputs for images that may not fit through the network at once; no gradient."""
    model.eval()
    with torch.no_grad():
        parts = [
            model(batch.contiguous(memory_format=torch.channels_last))
            for batch in images.split(batch_size)
        ]
    y, z, mu = (torch.cat([part[i] for part in parts]).float() for i in range(3))
    kappa = None if parts[0].kappa is None else torch.cat([part.kappa for part in parts])
    return Outputs(y, z, mu, kappa)
