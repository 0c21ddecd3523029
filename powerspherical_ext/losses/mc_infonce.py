"""MCInfoNCE: the contrastive loss of samples of stochastic embeddings."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ._autocast import autocast_disabled
from ._embeddings import StochasticLoss, check_options, embeddings_of

__all__ = ["MCInfoNCELoss", "mc_infonce_loss"]


def mc_infonce_loss(
    z1: Tensor,
    z2: Tensor,
    kappa1: Tensor,
    kappa2: Tensor,
    *,
    n_samples: int = 16,
    temperature: float | Tensor = 1 / 16,
    distribution: str = "von_mises_fisher",
    reduction: str = "mean",
    gather: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""InfoNCE between samples of the views' distributions, averaged over the samples inside of the
    logarithm.

    .. code-block:: text

        loss_a = - log (1/S) sum_s [ exp(e_as . e_bs / temperature)
                                     / sum_(c != a) exp(e_as . e_cs / temperature) ]
        e_cs ~ p(z; mu_c, kappa_c),   mu_c = z_c / |z_c|

    View b is the other view of a's image, and c runs over both views of the batch. Where all kappa
    are infinite, each sample is its mean direction, and the loss is :func:`nt_xent_loss` at the
    same temperature, which is InfoNCE with the 2N - 1 other views of the batch.

    If latents of positive pairs have the density C exp(z . z'/temperature), and the latents of the
    data are uniform, then the loss of infinitely many negatives is smallest where mu and kappa are
    those of the true posteriors of the latents, up to a rotation (the theorem of the source).
    ``examples/mc_infonce_synthetic.py`` shows it.

    The products of all pairs are one matrix product for each sample. They take memory for 4 S N^2
    numbers, and none for N^2 d.

    Args:
        z1, z2: mean directions of the two views before normalisation, ``(N, d)``.
        kappa1, kappa2: their concentrations, inside the domain, ``(N,)`` or ``(N, 1)``.
        n_samples: S, samples of each view. They are reparameterised, and their gradient in kappa is
            unbiased.
        temperature: a positive number, or a tensor of one element, which may need a gradient.
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
        ValueError: shapes or devices that do not fit, an unknown distribution or reduction, a
            temperature that is not positive, an n_samples below 1, or, on the CPU, NaN or infinite
            features, or a kappa outside of its domain.
        TypeError: a tensor that is not floating-point.

    Example::

        >>> z, kappa = torch.eye(4), torch.full((4,), 1e10)
        >>> print(f"{mc_infonce_loss(z, z, kappa, kappa, temperature=0.5):.4f}")
        0.5944

    Source:
        Kirchhof, Kasneci and Oh, "Probabilistic Contrastive Learning Recovers the Correct Aleatoric
        Uncertainty of Ambiguous Inputs", ICML 2023.
    """
    check_options(temperature, n_samples, reduction)
    with autocast_disabled(z1.device):
        views, dtype = embeddings_of((z1, z2), (kappa1, kappa2), distribution, gather)
        logits = views.cosines(views.samples(n_samples, generator), 1 / temperature)
        partner = views.partner.repeat(n_samples)
        losses = F.cross_entropy(logits.flatten(0, 1), partner, reduction="none")
        log_p = -losses.view(n_samples, len(views.own))
        return views.reduce(math.log(n_samples) - log_p.logsumexp(0), dtype, reduction)


class MCInfoNCELoss(StochasticLoss):
    """:func:`mc_infonce_loss` as a module.

    Args:
        n_samples, distribution, reduction, gather: as in :func:`mc_infonce_loss`, which also says
            what ``forward`` takes, returns and raises.
        temperature: a positive number.
        learnable: whether the temperature is learnt: its logarithm is then a parameter,
            ``log_temperature``.

    Example::

        >>> criterion = MCInfoNCELoss(learnable=True)
        >>> z, kappa = torch.randn(2, 8, 16), torch.full((2, 8), 20.0)
        >>> criterion(*z, *kappa).backward()
        >>> criterion.log_temperature.grad.shape
        torch.Size([])
    """

    function = staticmethod(mc_infonce_loss)

    def __init__(
        self,
        *,
        n_samples: int = 16,
        temperature: float = 1 / 16,
        distribution: str = "von_mises_fisher",
        reduction: str = "mean",
        gather: bool = False,
        learnable: bool = False,
    ) -> None:
        super().__init__(
            temperature,
            learnable,
            n_samples=n_samples,
            distribution=distribution,
            reduction=reduction,
            gather=gather,
        )
