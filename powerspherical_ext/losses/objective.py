r"""The objective that all losses here are cases of: J_SSL = J_align + J_uniform + J_KL.

Training maximises it. The views x_1 .. x_M of an image share one latent z. A view has two
posteriors over it: q(z|x_i) as a target, and p(z|x_j) as a prediction.

.. code-block:: text

    J_align   =   E_q(z|x_i) [ log p(z|x_j) ]         two views of an image agree       j_align
    J_uniform = - E_q(z|x_i) [ log p_D(z|j) ]         and differ from other images      j_uniform
    J_KL      = - KL( q(z|x_i) || prior )             q does not become a point         j_kl

    p_D(z|j) = mean over the images x' of the batch of p(z|x'_j)

Each term is that of one sample, averaged over the pairs of different views i != j. In Nakamura,
Okada and Taniguchi 2023, eq. 10 to 17, p(z|X) is a product of experts over the views and q(z|X) a
uniform mixture; their sum over pairs is this mean times a number. A method is a choice of
posteriors:

.. code-block:: text

    method       q(z|x_i)                   p(z|x_j)              loss            uniformity from
    SimSiam      point z_i                  vMF(mu_j, const)      -J_align        the predictor
    SimCLR       point z_i                  vMF(mu_j, const)      -J_align - J_uniform
    DINO         categorical, sharpened     categorical           -J_align        the centre of q
    VI-SimSiam   point z_i                  PS(mu_j, kappa_j)     -J_align        the predictor
    VI-SimCLR    point z_i                  PS(mu_j, kappa_j)     -J_align - J_uniform
    stochastic   PS or vMF(z_i, kappa_i)    PS or vMF             -J_align - J_KL

The losses beside this module compute these cases faster, and in half precision. The functions here
take any distributions, and serve to try a case that is not in the table::

    q = [PowerSpherical(z1, k1), PowerSpherical(z2, k2)]            # targets, with their own kappa
    p = [PowerSpherical(mu1, kappa1), PowerSpherical(mu2, kappa2)]
    loss = -(j_align(q, p) + j_kl(q, HypersphericalUniform(d))).mean()

A point mass is given as a tensor of unit vectors, ``(N, d)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, OneHotCategorical, kl_divergence

from .. import ops
from ..distributions import RotationallySymmetric
from ._views import Views

__all__ = ["expected_log_prob", "j_align", "j_kl", "j_uniform", "log_renormalizer"]

Posterior = Tensor | Distribution
Posteriors = Posterior | Sequence[Posterior]
Predictions = Distribution | Sequence[Distribution]

CATEGORICAL = (Categorical, OneHotCategorical)


def j_align(q: Posteriors, p: Predictions, *, n_samples: int = 0) -> Tensor:
    r"""E_q [log p(z)] of every sample: the fit of one view's prediction to another view.

    .. code-block:: text

        J_align = mean over i != j of  E_q_i(z) [ log p_j(z) ]

    Eq. 17 also has the renormaliser of the product of experts, which the methods drop. Add
    :func:`log_renormalizer`, or fuse the experts first:
    ``j_align(z, VonMisesFisher.product(p1, p2))``.

    Args:
        q: the targets: unit vectors ``(N, d)`` (point masses) or a distribution of batch shape
            ``(N,)``; or T of them, views of the same crops as the first T predictions.
        p: the prediction, a distribution of batch shape ``(N,)``; or V >= T of them.
        n_samples: 0 for the closed form, or the number of reparameterised samples of a distribution
            q that estimate it.

    Returns:
        ``(N,)``, in nats.

    Raises:
        ValueError: numbers of views, batches or spheres that do not fit, a single view, vectors
            that are not of unit length, NaN among them (unless p was made with
            ``validate_args=False``), a negative n_samples.
        TypeError: neither a tensor nor a distribution; a mixture of one view and lists.
        NotImplementedError: no closed form for this pair of distributions is known.

    Example:

        >>> from powerspherical_ext import PowerSpherical
        >>> z = torch.eye(3)
        >>> j_align([z, z], [PowerSpherical(z, torch.ones(3)), PowerSpherical(z, torch.ones(3))])
        tensor([-1.8379, -1.8379, -1.8379])

    Source:
        Nakamura, Okada and Taniguchi 2023, eq. 11 and 17.
    """
    terms = [expected_log_prob(q_i, p_j, n_samples=n_samples) for q_i, p_j in _pairs(q, p)]
    return torch.stack(terms).mean(dim=0)


def j_uniform(q: Posteriors, p: Predictions, *, n_samples: int = 1) -> Tensor:
    r"""The surprise of every sample under the batch's mean prediction, -E_q [log p_D(z)].

    .. code-block:: text

        J_uniform = mean over i != j of  - E_q_i(z) [ log (1/N) sum_k p_j(z | image k) ]

    The index k runs over the batch, the sample itself included. J_uniform is largest if the mean of
    the predictions p is uniform. Memory grows with N^2 d. :func:`vi_simclr_loss` needs N^2, and can
    gather processes.

    Args:
        q, p: as in :func:`j_align`.
        n_samples: number of reparameterised samples when q is a distribution; categorical
            distributions need none.

    Returns:
        ``(N,)``, in nats.

    Raises:
        ValueError, TypeError: as :func:`j_align`; n_samples must be 1 or more.

    Example:

        >>> from powerspherical_ext import VonMisesFisher
        >>> z = torch.eye(3)
        >>> j_uniform(z, VonMisesFisher(z, torch.full((3,), 1.0)))
        tensor([2.2396, 2.2396, 2.2396])

    Source:
        Nakamura, Okada and Taniguchi 2023, eq. 12 and 14.
    """
    if n_samples < 1:
        raise ValueError(f"n_samples must be 1 or more, got {n_samples}")
    terms = [_surprise(q_i, p_j, n_samples) for q_i, p_j in _pairs(q, p)]
    return torch.stack(terms).mean(dim=0)


def j_kl(q: Posteriors, prior: Distribution | None = None) -> Tensor:
    r"""-KL(q || prior) of every sample: the term that keeps q from becoming a point.

    .. code-block:: text

        J_KL = mean over i of  - KL( q_i(z) || prior(z) )

    This is a lower bound for the mixture over the views (eq. 16), since KL is convex. For a point
    mass KL is infinite and has no gradient; it is left out, and the result is 0.

    Args:
        q: as in :func:`j_align`.
        prior: ``HypersphericalUniform(d)``, or any distribution with a known divergence. A
            categorical q needs none: its prior is uniform.

    Returns:
        ``(N,)``, in nats.

    Raises:
        ValueError: a prior is missing; otherwise as :func:`j_align`.
        TypeError: neither a tensor nor a distribution.
        NotImplementedError: the divergence is not known.

    Example:

        >>> from powerspherical_ext import HypersphericalUniform, PowerSpherical
        >>> q = PowerSpherical(torch.eye(3), torch.tensor([0.0, 1.0, 10.0]))
        >>> j_kl(q, HypersphericalUniform(3))
        tensor([ 0.0000, -0.1931, -1.4888])

    Source:
        Nakamura, Okada and Taniguchi 2023, eq. 13.
    """
    terms = []
    for q_i in [q] if isinstance(q, (Tensor, Distribution)) else q:
        _batch_shape(q_i, "q")
        if isinstance(q_i, Tensor):
            terms.append(q_i.new_zeros(q_i.shape[:-1]))
        elif isinstance(q_i, CATEGORICAL) and prior is None:
            terms.append(q_i.entropy() - math.log(q_i.logits.shape[-1]))
        elif prior is None:
            raise ValueError(f"prior must be given for q of type {type(q_i).__name__}")
        else:
            terms.append(-kl_divergence(q_i, prior))
    if not terms:
        raise ValueError("q must hold one view or more, got 0")
    return torch.stack(terms).mean(dim=0)


def expected_log_prob(q: Posterior, p: Distribution, *, n_samples: int = 0) -> Tensor:
    r"""E_q [log p(z)] of one pair of posteriors.

    .. code-block:: text

        log p(z)                                 q a point mass at z
        sum_k q_k log p_k                        both categorical
        - H(q) - KL(q || p)                      other distributions, n_samples = 0
        mean of log p(z_s), z_s ~ q              n_samples > 0, with the gradient of rsample

    Args:
        q: unit vectors ``(N, d)``, or a distribution of batch shape ``(N,)``.
        p: a distribution of batch shape ``(N,)``.
        n_samples: number of samples, or 0 for the closed form.

    Returns:
        ``(N,)``, in nats, in the common dtype of q and p.

    Raises:
        ValueError: batches or spheres that do not fit, vectors that are not of unit length, or a
            negative n_samples.
        TypeError: q is neither a tensor nor a distribution, or p no distribution.
        NotImplementedError: no closed form for this pair of distributions is known.

    Example:

        >>> from powerspherical_ext import VonMisesFisher
        >>> q = VonMisesFisher(torch.eye(3), torch.tensor(20.0))
        >>> expected_log_prob(q, VonMisesFisher(torch.eye(3), torch.tensor(2.0)))
        tensor([-1.2262, -1.2262, -1.2262])

    Source:
        Nakamura, Okada and Taniguchi 2023, eq. 11.
    """
    if n_samples < 0:
        raise ValueError(f"n_samples must be 0 or more, got {n_samples}")
    _check_pair(q, p)
    result: Tensor
    if isinstance(q, Tensor):
        result = p.log_prob(q)
    elif n_samples:
        result = p.log_prob(q.rsample((n_samples,))).mean(dim=0)
    elif isinstance(q, CATEGORICAL) and isinstance(p, CATEGORICAL):
        result = (q.probs * p.logits).sum(-1)
    elif isinstance(q, RotationallySymmetric) and isinstance(p, RotationallySymmetric):
        wide_q, wide_p = q._in_float64(), p._in_float64()  # the two terms nearly cancel
        result = -wide_q.entropy() - kl_divergence(wide_q, wide_p)
        result = result.to(ops.common_dtype(q.loc, p.loc))
    else:
        result = -q.entropy() - kl_divergence(q, p)
    return result


def log_renormalizer(*experts: RotationallySymmetric) -> Tensor:
    r"""The renormaliser log eta of a product of experts.

    Eq. 17 of the paper has it, and all methods drop it.

    .. code-block:: text

        p(z|X) = eta prod_j p_j(z),     log eta = log C(kappa) - sum_j log C(kappa_j)
        kappa  = | sum_j kappa_j mu_j |

    This is the case of von Mises-Fisher experts, whose product ``VonMisesFisher.product(*experts)``
    is von Mises-Fisher. Its log density is sum_j log p_j(z) + log eta. The term is no constant: it
    depends on the mean directions, since experts that disagree have a flatter product, and on the
    concentrations. Most families, Power Spherical among them, are not closed under products.

    Args:
        experts: one or more of one family, on one sphere; their batches broadcast. The family has a
            method ``product``.

    Returns:
        The batch shape, in nats.

    Raises:
        ValueError: no expert, or experts on different spheres.
        TypeError: experts of different families, or of one that is not closed under products.

    Example:

        >>> from powerspherical_ext import VonMisesFisher
        >>> p = VonMisesFisher(torch.tensor([0.0, 0.0, 1.0]), 10.0)
        >>> log_renormalizer(p, p)
        tensor(0.2284)

    Source:
        Nakamura, Okada and Taniguchi 2023, eq. 15 and 17.
    """
    if not experts:
        raise ValueError("log_renormalizer needs at least one expert, got none")
    each: tuple[Any, ...] = experts
    family = type(each[0])
    for p in each:
        if not isinstance(p, family) or not hasattr(family, "product"):
            raise TypeError(
                "experts must be of one family that is closed under products, and so has a method "
                f"product, got {type(p).__name__}"
            )
    wide = [p._in_float64() for p in each]  # the terms nearly cancel
    fused = family.product(*wide)
    constants = [p.log_normalizer().expand(fused.batch_shape) for p in wide]
    result: Tensor = fused.log_normalizer() - torch.stack(constants).sum(dim=0)
    return result.to(ops.common_dtype(*(p.loc for p in each)))


def _surprise(q: Posterior, p: Distribution, n_samples: int) -> Tensor:
    """- E_q [log (1/N) sum_k p_k(z)], ``(N,)``."""
    _check_pair(q, p)
    log_n = math.log(max(p.batch_shape[0], 1))  # without samples the result is empty
    if isinstance(q, CATEGORICAL) and isinstance(p, CATEGORICAL):
        log_mean = torch.logsumexp(p.logits, dim=0) - log_n  # (K,)
        cross_entropy: Tensor = -(q.probs * log_mean).sum(-1)
        return cross_entropy
    z = q.unsqueeze(0) if isinstance(q, Tensor) else q.rsample((n_samples,))  # (S, N, d)
    log_p = p.log_prob(z.unsqueeze(-2))  # (S, N, N): [s, i, k] = log p_k(z_si)
    return (log_n - torch.logsumexp(log_p, dim=-1)).mean(dim=0)


def _pairs(q: Posteriors, p: Predictions) -> list[tuple[Posterior, Distribution]]:
    """(q_i, p_j): the two given, or those of two lists with i != j, ordered by i, then by j."""
    views: Views[Distribution, Posterior]
    if isinstance(q, (Tensor, Distribution)) and isinstance(p, Distribution):
        views = Views((p,), (q,), is_pair=True)
    elif isinstance(q, (list, tuple)) and isinstance(p, (list, tuple)):
        views = Views(p, q, names=("p", "q"))
    else:
        raise TypeError(
            "q must be a tensor or a distribution and p a distribution, or both lists of them, got "
            f"{type(q).__name__} and {type(p).__name__}"
        )
    # By target: this order decides which random numbers a pair gets.
    ordered = sorted((i, j) for j, i in views.pairs())
    return [(views.targets[i], views.preds[j]) for i, j in ordered]


def _check_pair(q: object, p: object) -> None:
    if not isinstance(p, Distribution):
        raise TypeError(f"p must be a distribution, got {type(p).__name__}")
    q_batch, p_batch = _batch_shape(q, "q"), _batch_shape(p, "p")
    if q_batch != p_batch:
        raise ValueError(f"q must have the batch shape {p_batch} of p, got {q_batch}")


def _batch_shape(posterior: object, name: str) -> tuple[int, ...]:
    if not isinstance(posterior, (Tensor, Distribution)):
        raise TypeError(
            f"{name} must be a tensor or a distribution, got {type(posterior).__name__}"
        )
    batch = posterior.shape[:-1] if isinstance(posterior, Tensor) else posterior.batch_shape
    if len(batch) != 1:
        raise ValueError(f"{name} must have one batch dimension, (N,), got {tuple(batch)}")
    return tuple(batch)
