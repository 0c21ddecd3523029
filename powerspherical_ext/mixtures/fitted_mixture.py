"""What fitting a mixture returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import MixtureSameFamily

from .._tensors import wide
from ..distributions._arguments import check_float
from .expectation import Components, log_joints, posterior

__all__ = ["FittedMixture"]


@dataclass(frozen=True, eq=False)
class FittedMixture:
    """A mixture of maximum likelihood, as `fit_mixture` found it for samples of shape (N, d)."""

    mixture: MixtureSameFamily
    """torch's mixture of the K components. Its ``mixture_distribution.probs`` (K) are the weights
    of the components, its ``component_distribution`` their distributions, of batch shape (K)."""

    labels: Tensor
    """The component that is most probable for each sample, int64, shape (N)."""

    log_likelihood: float
    """sum_i w_i log p(x_i) under the mixture."""

    log_likelihoods: Tensor
    """What the iterations maximised, float64, for the start and after each iteration. It is the
    log-likelihood for soft assignments. For hard ones it is sum_i w_i max_k log(pi_k p_k(x_i))."""

    converged: bool
    """Whether the last iteration gained no more than the tolerance."""

    n_parameters: int
    """Degrees of freedom: K - 1 weights, K (d - 1) for the mean directions, and K concentrations,
    or 1 where it is shared."""

    bic: float
    """Bayesian information criterion (Schwarz 1978), n_parameters log(sum_i w_i) minus twice the
    log-likelihood. The lower one of two mixtures for the same samples is preferred. Weights count
    as repetitions of a sample."""

    def responsibilities(self, x: Tensor) -> Tensor:
        """The probabilities of the components given samples (N, d), shape (N, K)."""
        owner = "FittedMixture.responsibilities"
        check_float(owner, "x", x)
        components: Any = self.mixture.component_distribution
        d = components.event_shape[0]
        if x.dim() != 2 or x.shape[-1] != d:
            raise ValueError(f"{owner}: x must have shape (N, {d}), got {tuple(x.shape)}")
        if x.device != components.loc.device:
            raise ValueError(
                f"{owner}: x must be on the device of the mixture, {components.loc.device}, "
                f"got {x.device}"
            )
        weights = wide(self.mixture.mixture_distribution.probs)
        parameters = Components(weights.log(), wide(components.loc), wide(components.concentration))
        result: Tensor = components.loc.new_empty(len(x), len(weights))
        with torch.no_grad():
            for rows, joint in log_joints(x, parameters, components._family):
                result[rows] = posterior(joint)[1].mT
        return result
