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
    """A mixture of maximum likelihood, as `fit_mixture` found it for samples of shape (N, d).

    Attributes:
        mixture: torch's mixture of the K components, for densities and samples. The weights of the
            components are ``mixture.mixture_distribution.probs``, shape (K). Their distributions
            are ``mixture.component_distribution``, of batch shape (K).
        labels: the most probable component of each sample, int64, shape (N).
        log_likelihood: sum_i w_i log p(x_i) under the mixture.
        log_likelihoods: what EM maximises, at the start and after each iteration, float64. For soft
            assignments it is the log-likelihood. For hard ones it is the one of samples whose
            components are known, sum_i w_i max_k log(pi_k p_k(x_i)).
        converged: whether the last iteration gained no more than the tolerance.
        n_parameters: degrees of freedom, K - 1 for the weights, K (d - 1) for the mean directions,
            and K for the concentrations, or 1 if they are shared.
        bic: Bayesian information criterion (Schwarz 1978), n_parameters log(sum_i w_i) less twice
            the log-likelihood. Of two mixtures for the same samples, the one with the lower value
            is preferred. A weight counts as a number of repetitions of its sample.

    Example:
        >>> import torch
        >>> from powerspherical_ext import PowerSpherical, fit_mixture
        >>> x = torch.tensor([[1.0, 0.0], [0.8, 0.6], [-1.0, 0.0], [-0.6, 0.8], [-0.8, 0.6]])
        >>> found = fit_mixture(x, 2, PowerSpherical, init=x[[0, 2]])
        >>> found.labels
        tensor([0, 0, 1, 1, 1])
        >>> found.mixture.mixture_distribution.probs
        tensor([0.4000, 0.6000])
        >>> found.mixture.log_prob(x).shape
        torch.Size([5])
    """

    mixture: MixtureSameFamily
    labels: Tensor
    log_likelihood: float
    log_likelihoods: Tensor
    converged: bool
    n_parameters: int
    bic: float

    def __repr__(self) -> str:
        components: Any = self.mixture.component_distribution
        return (
            f"{type(self).__name__}({len(components.loc)} x {type(components).__name__}, "
            f"d={components.event_shape[0]}, n={len(self.labels)}, "
            f"log_likelihood={self.log_likelihood:.6g}, bic={self.bic:.6g}, "
            f"converged={self.converged})"
        )

    def responsibilities(self, x: Tensor) -> Tensor:
        """The probabilities of the components given samples (N, d), shape (N, K).

        The samples are taken at unit length, and the result has the dtype of the mixture. TypeError
        or ValueError if ``x`` is no floating-point tensor, or of another shape or device.
        """
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
