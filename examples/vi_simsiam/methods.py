"""The rows of the paper's Table 1, VI-SimCLR, and the losses of stochastic embeddings that users
compare with them: one class each, with its loss and what follows a step.

A loss takes the heads' outputs of V views, of which the first two are large. DINO's also takes the
images of these two, for its teacher.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from powerspherical_ext.losses import (
    DINOLoss,
    VISimSiamLoss,
    barlow_twins_loss,
    expected_likelihood_kernel_loss,
    hedged_instance_loss,
    mc_infonce_loss,
    nt_xent_loss,
    simsiam_loss,
    vi_simclr_loss,
)

from .model import Network, Outputs, Views

Settings = Mapping[str, Any]


class Method(nn.Module):
    """What a method adds to the network. Its state is saved with the network's."""

    has_predictor = False  # mu = h(z); otherwise mu is z
    has_kappa = False
    has_prototypes = False  # z are the logits of categories

    def __init__(self, settings: Settings, network: Network) -> None:
        super().__init__()

    def loss(self, views: Views, large: Tensor) -> Tensor:
        """``large`` are the images of the two large views, (2N, C, H, W)."""
        raise NotImplementedError

    def confidence(self, out: Outputs) -> dict[str, Tensor]:
        """How sure the method itself is of each image, (N,), with the name of that number."""
        return {} if out.kappa is None else {"kappa": out.kappa}

    def after_step(self, network: Network, progress: float) -> None:
        """``progress`` goes from 0 to 1 in a run."""


class SimSiam(Method):
    """Chen and He 2021. Claim 4.3: a von Mises-Fisher of one kappa for all images."""

    has_predictor = True

    def loss(self, views: Views, large: Tensor) -> Tensor:
        return simsiam_loss(views.mu, views.z[:2])


class VISimSiam(Method):
    """The paper's eq. 33. Algorithm 1 adds the two directions, of which the loss is the mean."""

    has_predictor = has_kappa = True

    def __init__(self, settings: Settings, network: Network) -> None:
        super().__init__(settings, network)
        self.criterion = VISimSiamLoss(
            distribution=settings["distribution"],
            beta=settings["beta"],
            beta_weighs=settings["beta_weighs"],
        )

    def loss(self, views: Views, large: Tensor) -> Tensor:
        return 2 * self.criterion(views.mu, views.z[:2], views.kappa)


class SimCLR(Method):
    """Chen et al. 2020: each view looks for its counterpart among all others of the batch."""

    def loss(self, views: Views, large: Tensor) -> Tensor:
        return mean_over_pairs(nt_xent_loss, views.z, temperature=0.5, gather=True)


class VISimCLR(Method):
    """SimCLR with a kappa for each image: VI-SimSiam's posterior and an explicit J_uniform."""

    has_kappa = True

    def __init__(self, settings: Settings, network: Network) -> None:
        super().__init__(settings, network)
        self.distribution = settings["distribution"]

    def loss(self, views: Views, large: Tensor) -> Tensor:
        return vi_simclr_loss(
            views.mu, views.z[:2], views.kappa, distribution=self.distribution, gather=True
        )


class DINO(Method):
    """Caron et al. 2021. Claims 4.7 to 4.9: categorical posteriors; the loss moves the centre.

    The teacher is the moving average of the network. Its momentum rises to 1 along a cosine. With a
    momentum of 0, as in the paper, the network is its own teacher.
    """

    has_prototypes = True

    def __init__(self, settings: Settings, network: Network) -> None:
        super().__init__(settings, network)
        self.criterion = DINOLoss(settings["dim"], target_temperature=0.04, pred_temperature=0.1)
        self.momentum = settings["teacher_momentum"]
        self.teacher = copy.deepcopy(network).requires_grad_(False) if self.momentum else None

    def loss(self, views: Views, large: Tensor) -> Tensor:
        if self.teacher is None:
            return self.criterion(views.z, views.z[:2])
        with torch.no_grad():
            targets = self.teacher(large).z.chunk(2)
        return self.criterion(views.z, targets)

    def confidence(self, out: Outputs) -> dict[str, Tensor]:
        """Minus the entropy of the categorical posterior q, section 6.4."""
        logits = (out.z - self.criterion.center) / self.criterion.target_temperature
        log_q = logits.log_softmax(dim=-1)
        return {"negative entropy": (log_q.exp() * log_q).sum(dim=-1)}

    @torch.no_grad()
    def after_step(self, network: Network, progress: float) -> None:
        if self.teacher is not None:
            step = (1 - self.momentum) * (1 + math.cos(math.pi * progress)) / 2
            for ours, its in zip(self.teacher.parameters(), network.parameters(), strict=True):
                ours.lerp_(its, step)


class BarlowTwins(Method):
    """Zbontar et al. 2021; section 4.4. It is divided by d, so that one lr serves every d."""

    def loss(self, views: Views, large: Tensor) -> Tensor:
        return mean_over_pairs(barlow_twins_loss, views.z, gather=True) / views.z[0].shape[-1]


class Stochastic(Method):
    """A loss of the distributions of two views, whose samples a generator of its own draws.

    The generator is a part of the method's state, so that a resumed run draws the same samples.
    Every process draws those of the whole batch.
    """

    has_kappa = True
    pair_loss: Callable[..., Tensor]
    n_samples = 8

    def __init__(self, settings: Settings, network: Network) -> None:
        super().__init__(settings, network)
        self.distribution = settings["distribution"]
        self.generator = torch.Generator().manual_seed(settings["seed"])

    def loss(self, views: Views, large: Tensor) -> Tensor:
        options = {"n_samples": self.n_samples, "generator": self.generator, "gather": True}
        losses = [
            self.pair_loss(
                *(views.z[i], views.z[j], views.kappa[i], views.kappa[j]),
                distribution=self.distribution,
                **options,
            )
            for i, j in pairs(len(views.z))
        ]
        return torch.stack(losses).mean()

    def get_extra_state(self) -> Tensor:
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        self.generator.set_state(state.cpu())


class MCInfoNCE(Stochastic):
    """Kirchhof, Kasneci and Oh 2023: InfoNCE between samples."""

    pair_loss = staticmethod(mc_infonce_loss)


class ELK(Stochastic):
    """Kirchhof et al. 2022: the expected likelihood kernel takes the place of the cosine."""

    pair_loss = staticmethod(expected_likelihood_kernel_loss)


class HIB(Stochastic):
    """Oh et al. 2019: hedged instance embeddings, the probability that two samples match."""

    pair_loss = staticmethod(hedged_instance_loss)


METHODS: dict[str, type[Method]] = {
    "vi-simsiam": VISimSiam,
    "simsiam": SimSiam,
    "simclr": SimCLR,
    "vi-simclr": VISimCLR,
    "dino": DINO,
    "barlow-twins": BarlowTwins,
    "mc-infonce": MCInfoNCE,
    "elk": ELK,
    "hib": HIB,
}


def mean_over_pairs(loss, z, **options) -> Tensor:
    """The mean of a symmetric loss over each large view with every later view."""
    return torch.stack([loss(z[i], z[j], **options) for i, j in pairs(len(z))]).mean()


def pairs(n_views: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(2) for j in range(i + 1, n_views)]
