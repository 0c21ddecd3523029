"""The expected likelihood kernel (ELK): a contrastive loss whose similarity is the overlap of two
distributions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import ops
from .._tensors import wide
from ..families import LikelihoodKernel
from ._autocast import autocast_disabled
from ._embeddings import Embeddings, StochasticLoss, check_options, embeddings_of
from ._pairs import half_angle, log_prob_ratio

__all__ = ["ExpectedLikelihoodKernelLoss", "expected_likelihood_kernel_loss"]

# Mean directions (n, d), concentrations (n,), and log densities at the modes, over the uniform (n,)
Laws = tuple[Tensor, ...]


def expected_likelihood_kernel_loss(
    z1: Tensor,
    z2: Tensor,
    kappa1: Tensor,
    kappa2: Tensor,
    *,
    n_samples: int = 16,
    temperature: float | Tensor = 1.0,
    distribution: str = "von_mises_fisher",
    reduction: str = "mean",
    gather: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Contrastive loss whose similarity is the expected likelihood of one view's latent under the
    distribution of another view.

    .. code-block:: text

        loss_a = - log [ k_ab^(1/temperature) / sum_(c != a) k_ac^(1/temperature) ]
        k_ac   = integral of p(z; mu_a, kappa_a) p(z; mu_c, kappa_c) dz,   mu_c = z_c / |z_c|

    View b is the other view of a's image, and c runs over both views of the batch. For von
    Mises-Fisher the kernel is known:

    .. code-block:: text

        log k_ac = log C(kappa_a) + log C(kappa_c) - log C(|kappa_a mu_a + kappa_c mu_c|)

    For other families it is estimated from S samples of both distributions, each weighted for the
    mixture of the two (the balance heuristic of multiple importance sampling):

    .. code-block:: text

        k_ac = (1/S) sum over the 2S samples z of  1 / (1/p_a(z) + 1/p_c(z))

    The estimate of k is unbiased, and so is its gradient; a summand is at most the smaller density.

    Where all kappa of von Mises-Fisher are one number that goes to infinity, log k_ac over kappa
    goes to abs(mu_a + mu_c) - 2. With a temperature of kappa tau the loss is then InfoNCE of the
    2N - 1 other views, as :func:`nt_xent_loss` is, at the temperature tau, and with the similarity
    abs(mu_a + mu_c) = 2 cos(angle/2) in the place of the cosine.

    The cosines of all pairs are one matrix product, and for samples two for each sample. They are
    computed in float64 on devices that have it. No memory is taken for N^2 d numbers.

    Args:
        z1, z2: mean directions of the two views before normalisation, ``(N, d)``.
        kappa1, kappa2: their concentrations, inside the domain, ``(N,)`` or ``(N, 1)``.
        n_samples: S, samples of each view. They are reparameterised. Where the kernel is known,
            none are drawn.
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
        ValueError, TypeError: as :func:`mc_infonce_loss`.

    Example::

        >>> z, kappa = torch.eye(3), torch.full((3,), 10.0)
        >>> print(f"{expected_likelihood_kernel_loss(z, z, kappa, kappa):.4f}")
        0.0160

    Source:
        Jebara, Kondor and Howard, "Probability Product Kernels", JMLR 2004, with rho = 1; as a loss
        on the sphere: Kirchhof, Roth, Akata and Kasneci, "A Non-isotropic Probabilistic Take on
        Proxy-based Deep Metric Learning", ECCV 2022.
    """
    check_options(temperature, n_samples, reduction)
    with autocast_disabled(z1.device):
        views, dtype = embeddings_of((z1, z2), (kappa1, kappa2), distribution, gather)
        known = views.family.likelihood_kernel
        if known is None:
            log_kernel = _by_samples(views, n_samples, generator)
        else:
            log_kernel = _closed_form(views, known)
        itself = views.own.unsqueeze(-1)
        logits = (log_kernel / temperature).scatter(1, itself, -torch.inf)
        losses = F.cross_entropy(logits, views.partner, reduction="none")
        return views.reduce(losses, dtype, reduction)


def _closed_form(views: Embeddings, log_kernel: LikelihoodKernel) -> Tensor:
    """log k, plus log_area, of this process's views and all, (2N, 2M)."""
    loc, kappa = views.loc, wide(views.kappa)
    sin2, cos2 = half_angle(views.mine(loc) @ loc.T, kappa.dtype)

    def at_mode_over_uniform(kappa: Tensor) -> Tensor:
        return ops.log_prob_at_mode_over_uniform(kappa, views.d, views.family)

    return log_kernel(views.mine(kappa).unsqueeze(-1), kappa, sin2, cos2, at_mode_over_uniform)


def _by_samples(views: Embeddings, n_samples: int, generator: torch.Generator | None) -> Tensor:
    """An estimate of log k, plus log_area, (2N, 2M)."""
    x = wide(views.samples(n_samples, generator))
    everything = (
        views.loc,
        views.kappa,
        ops.log_prob_at_mode_over_uniform(views.kappa, views.d, views.family),
    )
    mine = tuple(views.mine(part) for part in everything)

    def log_weights(x: Tensor, own: Laws, others: Laws) -> Tensor:
        """log of 1/(1/p_a + 1/p_c) at samples x (S, n, d) of the n laws p_a, for k laws p_c:
        (S, n, k). The densities are relative to the uniform one."""
        loc, kappa, at_mode = own
        t = (x * loc).sum(-1)
        log_p_a = at_mode + log_prob_ratio(t, kappa, views.d, views.family)
        loc, kappa, at_mode = others
        log_p_c = at_mode + log_prob_ratio(x @ loc.mT, kappa, views.d, views.family)
        return -torch.logaddexp(-log_p_a.unsqueeze(-1), -log_p_c)

    of_mine = log_weights(views.mine(x), mine, everything)
    of_others = of_mine if views.all_own else log_weights(x, everything, mine)
    return torch.cat([of_mine, of_others.mT]).logsumexp(0) - math.log(n_samples)


class ExpectedLikelihoodKernelLoss(StochasticLoss):
    """:func:`expected_likelihood_kernel_loss` as a module.

    Args:
        n_samples, distribution, reduction, gather: as in
            :func:`expected_likelihood_kernel_loss`, which also says what ``forward`` takes, returns
            and raises.
        temperature: a positive number.
        learnable: whether the temperature is learnt: its logarithm is then a parameter,
            ``log_temperature``.

    Example::

        >>> criterion = ExpectedLikelihoodKernelLoss(distribution="power_spherical", n_samples=8)
        >>> z, kappa = torch.randn(2, 8, 16), torch.full((2, 8), 20.0)
        >>> criterion(*z, *kappa).shape
        torch.Size([])
    """

    function = staticmethod(expected_likelihood_kernel_loss)

    def __init__(
        self,
        *,
        n_samples: int = 16,
        temperature: float = 1.0,
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
