"""The expected likelihood kernel of two von Mises-Fisher distributions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def log_kernel(
    kappa_a: Tensor,
    kappa_b: Tensor,
    sin2: Tensor,
    cos2: Tensor,
    at_mode_over_uniform: Callable[[Tensor], Tensor],
) -> Tensor:
    """log of the integral of p_a p_b, plus log_area, so that it is 0 where one of them is uniform.

    The product of the densities is C(kappa_a) C(kappa_b)/C(c) times the density of a third member,
    with c = |kappa_a mu_a + kappa_b mu_b|. With L = log_prob_at_mode_over_uniform = log C + kappa
    + log_area the logarithm is

        L(kappa_a) + L(kappa_b) - L(c) - (kappa_a + kappa_b - c),

    whose last term is 4 kappa_a kappa_b sin2/(kappa_a + kappa_b + c). sin2 and cos2 are those of
    the half angle between the mean directions. Where c is 0, the gradient is that of a c of 1e-154.
    """
    difference, product = kappa_a - kappa_b, kappa_a * kappa_b
    smallest = torch.finfo(cos2.dtype).tiny
    c = (difference * difference + 4 * product * cos2 + smallest).sqrt()
    gap = 4 * product * sin2 / (kappa_a + kappa_b + c)
    at_modes = at_mode_over_uniform(kappa_a) + at_mode_over_uniform(kappa_b)
    return at_modes - at_mode_over_uniform(c) - gap
