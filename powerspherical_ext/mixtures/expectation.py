"""The densities of N samples under K components, by a product of matrices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .. import ops
from ..families import Family
from ..fit.products import unit_rows

__all__ = ["Components", "expectation", "log_joints", "posterior"]

_LEAST = 1e-30  # of a share: numbers that are no normal float32 would take ten times as long


class Components(NamedTuple):
    """The parameters of a mixture, in float64."""

    log_weights: Tensor  # [K]
    mu: Tensor  # [K, d]
    kappa: Tensor  # [K]


def log_joints(x: Tensor, components: Components, family: Family) -> Iterator[tuple[slice, Tensor]]:
    """log(pi_k p(x_i; mu_k, kappa_k)), shape (K, n), for blocks of n of the samples (N, d).

    t is the product of unit vectors in float64, known to a rounding of 1. So cos2 below that is not
    known, and is taken to be a rounding, so that the density is positive at the antipode, too.
    """
    log_weights, mu, kappa = components
    d = x.shape[-1]
    constant = (log_weights + ops.log_prob_at_mode(kappa, d, family)).unsqueeze(-1)
    kappa, half = kappa.unsqueeze(-1), mu.new_full((1, 1), 0.5)
    last = 1 - torch.finfo(mu.dtype).eps
    for _, rows, (block,) in unit_rows(x.unsqueeze(0), 4 * len(mu)):
        sin2 = torch.addmm(half, mu, block.mT, alpha=-0.5).clamp_(0, last)  # (1 - t)/2
        yield rows, family.reference.log_prob_ratio(kappa, d, sin2, 1 - sin2) + constant


def posterior(joint: Tensor) -> tuple[Tensor, Tensor]:
    """log sum_k e^joint_k (n), and the shares of its terms (K, n).

    The largest share e^joint/sum e^joint, which is not small, has the sum in it. With another
    logarithm of the sum, exponentials would be taken twice.
    """
    share = joint.softmax(0)
    return joint.amax(0) - share.amax(0).log(), share


def expectation(
    x: Tensor,
    weights: Tensor | None,
    components: Components,
    family: Family,
    hard: bool,
    responsibilities: Tensor,
) -> Tensor:
    """The E step: overwrites the weighted responsibilities (K, N), and returns the log-likelihood.

    Soft assignments are w_i pi_k p_k(x_i)/sum_j pi_j p_j(x_i), and have the likelihood of the
    mixture. Hard ones are w_i for the largest pi_k p_k(x_i) and 0 for the others, and have the
    likelihood of samples whose components are known to be these (Celeux and Govaert 1992).
    """
    total = components.mu.new_zeros(())
    for rows, joint in log_joints(x, components, family):
        if hard:
            log_likelihood, label = joint.max(0)
            share = torch.zeros_like(joint).scatter_(0, label.unsqueeze(0), 1.0)
        else:
            log_likelihood, share = posterior(joint)
            share = torch.nn.functional.threshold(share, _LEAST, 0.0, inplace=True)
        if weights is not None:
            w = weights[rows].to(joint.dtype)
            log_likelihood, share = log_likelihood * w, share.mul_(w)
        responsibilities[:, rows] = share
        total += log_likelihood.sum()
    return total
