"""The network of train_vi_simsiam.py: an encoder and the heads that a method needs."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from powerspherical_ext.losses import DirectPred, KappaHead, VISimSiamHead


class Outputs(NamedTuple):
    y: Tensor  # (N, encoder.features): the features, which kNN compares
    z: Tensor  # (N, d): the projection, which is the target of the other view
    mu: Tensor  # (N, d): the prediction of the other view's z, before normalisation
    kappa: Tensor | None  # (N,): the concentration of the prediction; None without a kappa head


class Views(NamedTuple):
    """The outputs of V views of the same images."""

    z: tuple[Tensor, ...]
    mu: tuple[Tensor, ...]
    kappa: tuple[Tensor, ...] | None


class Network(nn.Module):
    def __init__(self, encoder: ResNet, head: VISimSiamHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, *images: Tensor) -> Outputs:
        """Each tensor has images of one size; the rows of the outputs follow their order."""
        parts = [self.encoder(group) for group in images]
        y = torch.cat(parts) if len(parts) > 1 else parts[0]
        return Outputs(y, *self.head(y))


def split_views(out: Outputs, n_views: int) -> Views:
    kappa = None if out.kappa is None else out.kappa.chunk(n_views)
    return Views(out.z.chunk(n_views), out.mu.chunk(n_views), kappa)


def build_network(method, settings) -> Network:
    """The network of a method (a class of methods.py) with the settings that a checkpoint holds."""
    encoder = ResNet(
        settings["channels"], settings["width"], settings["network"], settings["view_size"]
    )
    return Network(encoder, build_head(encoder.features, method, settings))


def build_head(features: int, method, settings) -> VISimSiamHead:
    """Projector, predictor and kappa head, in one of three sizes.

    "paper": VISimSiamHead's own, which are SimSiam's projector and predictor.
    "directpred": two layers each and no BatchNorm at the end, as Tian et al. 2021 have them. The
    paper calls its networks "almost identical" to these, and does not say what differs.
    "quick": two layers and a wide predictor, because training is short: "paper" gave an AUROC of
    kappa of .721 and .741 on damaged images with seeds 0 and 1, where these give .776 and .753.
    """
    style, d = settings["projector"], settings["dim"]
    projector, predictor = None, None
    hidden = 512
    if style == "quick":
        hidden = d // 2
        projector = nn.Sequential(
            nn.Linear(features, d, bias=False),
            nn.BatchNorm1d(d),
            nn.ReLU(inplace=True),
            nn.Linear(d, d, bias=False),
            nn.BatchNorm1d(d, affine=False),
        )
    elif style == "directpred":
        projector = two_layers(features, 512, d)
    if method.has_prototypes:
        projector = projector or VISimSiamHead(features, d).projector
        projector = nn.Sequential(projector, Prototypes(d, d, bias=False))
    if not method.has_predictor:
        predictor = nn.Identity()
    elif settings["predictor"] == "directpred":
        predictor = DirectPred(d)
    elif style == "directpred":
        predictor = two_layers(d, 512, d)
    elif style == "quick":
        predictor = nn.Sequential(
            nn.Linear(d, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, d),
        )
    kappa_head: nn.Module = NoKappa()
    if method.has_kappa:
        # AdamW does not bring a plain softplus to the scale of kappa.
        scale = ("softplus_d", d) if settings["optimizer"] == "adamw" else ("softplus", None)
        kappa_head = KappaHead(features, hidden, *scale, distribution=settings["distribution"])
    return VISimSiamHead(
        features, d, projector=projector, predictor=predictor, kappa_head=kappa_head
    )


def two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.BatchNorm1d(hidden, affine=False),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, outputs),
    )


class Prototypes(nn.Linear):
    """DINO's last layer: the logits are the cosines to the prototypes, one for each category."""

    def forward(self, z: Tensor) -> Tensor:
        return F.linear(F.normalize(z, dim=-1), F.normalize(self.weight, dim=-1))


class NoKappa(nn.Module):
    def forward(self, y: Tensor) -> None:
        return None


class ResNet(nn.Module):
    """ "small": a stem that halves the image, and three stages of one residual block.

    "resnet18": ResNet-18, which has 512 features at a width of 64. Its stem is that of ImageNet for
    views of 64 pixels and more, and for smaller ones a convolution that keeps the size.
    """

    def __init__(self, channels: int, width: int, network: str, view_size: int) -> None:
        super().__init__()
        if network == "small":
            stages, blocks = 3, 1
            layers: list[nn.Module] = [conv_bn(channels, width, stride=2), nn.ReLU(inplace=True)]
        else:
            stages, blocks = 4, 2
            large = view_size >= 64
            stem = conv_bn(channels, width, *((2, 7) if large else (1, 3)))
            layers = [stem, nn.ReLU(inplace=True)]
            if large:
                layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        self.features = width * 2 ** (stages - 1)
        for stage in range(stages):
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


def embed(model: Network, images: Tensor, batch_size: int = 500) -> Outputs:
    """The outputs for all images, computed batch by batch and without gradient."""
    model.eval()
    with torch.no_grad():
        parts = [
            model(batch.contiguous(memory_format=torch.channels_last))
            for batch in images.split(batch_size)
        ]
    y, z = (torch.cat([part[i] for part in parts]).float() for i in range(2))
    mu = z if parts[0].mu is parts[0].z else torch.cat([part.mu for part in parts]).float()
    kappa = None if parts[0].kappa is None else torch.cat([part.kappa for part in parts])
    return Outputs(y, z, mu, kappa)
