"""Hedged instance embeddings (HIB): the probability that two stochastic embeddings match."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ._autocast import autocast_disabled
from ._embeddings import StochasticLoss, check_options, embeddings_of

__all__ = ["HedgedInstanceLoss", "hedged_instance_loss"]


def hedged_instance_loss(
    z1: Tensor,
    z2: Tensor,
    kappa1: Tensor,
    kappa2: Tensor,
    *,
    n_samples: int = 16,
    temperature: float | Tensor = 0.1,
    bias: float | Tensor = 0.0,
    kl_weight: float = 0.0,
    distribution: str = "von_mises_fisher",
    reduction: str = "mean",
    gather: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Soft contrastive loss: the log probability that the views of an image match, and that those
    of different images do not.

    .. code-block:: text

        P_ac   = (1/S) sum_s sigmoid(e_as . e_cs / temperature + bias)
        e_cs   ~ p(z; mu_c, kappa_c),   mu_c = z_c / |z_c|
        loss_a = - log P_ab - mean_c log(1 - P_ac) + kl_weight KL(p(z; mu_a, kappa_a) || uniform)

    View b is the other view of a's image, and c runs over the 2N - 2 views of the batch that are of
    other images. So matches and others weigh alike, as in the balanced pairs of the source. Sample
    s of a view is compared with sample s of every other view; the source compares all S^2 pairs of
    samples, whose mean has the same expectation. The source has the distance of Gaussian samples in
    the place of minus the cosine.

    Where all kappa are infinite, each sample is its mean direction. The loss is then the pairwise
    form of InfoNCE, which has a logistic function for each pair in the place of the softmax over
    the batch:

    .. code-block:: text

        loss_a = softplus(-(mu_a . mu_b/temperature + bias))
                 + mean_c softplus(mu_a . mu_c/temperature + bias).

    Args:
        z1, z2: mean directions of the two views before normalisation, ``(N, d)``.
        kappa1, kappa2: their concentrations, inside the domain, ``(N,)`` or ``(N, 1)``.
        n_samples: S, samples of each view. They are reparameterised.
        temperature: a positive number, or a tensor of one element, which may need a gradient; 1/a
            of the source.
        bias: a number, or a tensor of one element; b of the source.
        kl_weight: weight of the divergence from the uniform distribution, which keeps kappa from
            growing without need; beta of the source, where it is 1e-4.
        distribution: name of the family, as in :func:`vi_simsiam_loss`.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        gather: compare with the views of all processes (each must hold as many samples). Each
            process draws samples of all views.
        generator: of the random numbers; torch's own by default.

    Returns:
        A scalar; with ``reduction="none"`` the loss of each view, ``(2, N)``.

    Data types:
        The widest of the arguments' types, and float32 at least; autocast is off inside.

    Raises:
        ValueError: as :func:`mc_infonce_loss`; a kl_weight that is negative.
        TypeError: a tensor that is not floating-point.

    Example::

        >>> z, kappa = torch.eye(4), torch.full((4,), 1e6)
        >>> print(f"{hedged_instance_loss(z, z, kappa, kappa, bias=-5.0):.4f}")
        0.0134

    Source:
        Oh, Murphy, Pan, Roth, Schroff and Gallagher, "Modeling Uncertainty with Hedged Instance
        Embeddings", ICLR 2019; on the sphere: Kirchhof, Kasneci and Oh 2023.
    """
    check_options(temperature, n_samples, reduction)
    if not 0 <= kl_weight < math.inf:
        raise ValueError(f"kl_weight must be 0 or more and finite, got {kl_weight}")
    with autocast_disabled(z1.device):
        views, dtype = embeddings_of((z1, z2), (kappa1, kappa2), distribution, gather)
        logits = views.cosines(views.samples(n_samples, generator), 1 / temperature) + bias
        log_s, others = math.log(n_samples), logits.shape[-1] - 2
        match = F.logsigmoid(views.at_partner(logits)).logsumexp(0) - log_s
        # A view does not match itself with probability 0, so that it adds 0 to the sum.
        no_match = F.logsigmoid(-logits).logsumexp(0) - log_s
        no_match = no_match.scatter(1, views.partner.unsqueeze(-1), 0.0).sum(-1)
        losses = -match - no_match / max(others, 1)
        if kl_weight:
            kl = ops.kl_uniform(views.mine(views.kappa), views.d, views.family)
            losses = losses + kl_weight * kl
        return views.reduce(losses, dtype, reduction)


class HedgedInstanceLoss(StochasticLoss):
    """:func:`hedged_instance_loss` as a module.

    Args:
        n_samples, kl_weight, distribution, reduction, gather: as in :func:`hedged_instance_loss`,
            which also says what ``forward`` takes, returns and raises.
        temperature, bias: numbers.
        learnable: whether the two are learnt, as in the source: parameters are then
            ``log_temperature`` and ``bias``. Give them to the optimiser.

    Example::

        >>> criterion = HedgedInstanceLoss(learnable=True)
        >>> z, kappa = torch.randn(2, 8, 16), torch.full((2, 8), 20.0)
        >>> criterion(*z, *kappa).backward()
        >>> sorted(name for name, _ in criterion.named_parameters())
        ['bias', 'log_temperature']
    """

    function = staticmethod(hedged_instance_loss)

    def __init__(
        self,
        *,
        n_samples: int = 16,
        temperature: float = 0.1,
        bias: float = 0.0,
        kl_weight: float = 0.0,
        distribution: str = "von_mises_fisher",
        reduction: str = "mean",
        gather: bool = False,
        learnable: bool = True,
    ) -> None:
        super().__init__(
            temperature,
            learnable,
            n_samples=n_samples,
            kl_weight=kl_weight,
            distribution=distribution,
            reduction=reduction,
            gather=gather,
        )
        self.bias: float | Tensor = nn.Parameter(torch.tensor(float(bias))) if learnable else bias

    def _arguments(self) -> dict[str, Any]:
        return {"bias": self.bias, **super()._arguments()}
