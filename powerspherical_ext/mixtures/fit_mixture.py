"""Expectation-maximisation for mixtures on the sphere."""

from __future__ import annotations

import math
import warnings
from numbers import Integral, Real
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily

from .. import ops
from .._tensors import wide
from ..constraints import finite_nonnegative
from ..distributions import RotationallySymmetric, VonMisesFisher
from ..distributions._arguments import check_float, check_unit
from ..families import Family
from ..fit import Estimator, Settings
from ..fit.maximum_likelihood import scalar_functions
from ..fit.products import masses
from .expectation import Components, expectation, log_joints, posterior
from .fitted_mixture import FittedMixture
from .seeding import nearest, seeds

__all__ = ["fit_mixture"]

_FIRST_STEPS = 20  # of an estimator that iterates, from samples assigned to their nearest seed
_STEPS = 2  # of such an estimator in each M step, from where the last one ended


def fit_mixture(
    x: Tensor,
    n_components: int,
    family: type[RotationallySymmetric] = VonMisesFisher,
    *,
    weights: Tensor | None = None,
    assignments: Literal["soft", "hard"] = "soft",
    concentration: Literal["free", "shared"] = "free",
    n_init: int = 1,
    init: Tensor | None = None,
    max_iterations: int = 500,
    tolerance: float = 1e-5,
    generator: torch.Generator | None = None,
    validate_args: bool | None = None,
) -> FittedMixture:
    r"""A mixture of maximum likelihood, by expectation-maximisation.

    .. math:: \max_{\pi, \mu, \kappa} \sum_i w_i \log \sum_{k=1}^K \pi_k\, p(x_i; \mu_k, \kappa_k)

    Each iteration computes the probabilities of the components given the samples (E step), and fits
    the components with these as weights (M step); it never lowers the likelihood (Banerjee,
    Dhillon, Ghosh and Sra 2005, for von Mises-Fisher). The M step of von Mises-Fisher is the
    maximum, that of the other families up to two steps towards it. The start is k-means++ on the
    sphere (Arthur and Vassilvitskii 2007), with one concentration for all components. The maximum
    is a local one: take ``n_init`` larger than 1, and compare numbers of components by
    `FittedMixture.bic`.

    The likelihood has no upper bound, since a component may shrink to a single sample, or to equal
    ones. Its concentration then takes the upper bound that `RotationallySymmetric.fit` has. Of
    several starts, one without such a component is preferred; otherwise there is a warning.

    Args:
        x: unit vectors, shape (N, d), on any device, without gradient.
        n_components: K, from 1 to N.
        family: the class of the components: `VonMisesFisher`, `PowerSpherical`, `SphericalCauchy`.
        weights: how often each sample counts, non-negative, shape (N), taken in the dtype of ``x``.
            Default: once.
        assignments: "soft", or "hard" for classification EM (Celeux and Govaert 1992), which gives
            each sample to one component alone. With a shared concentration it is spherical k-means,
            but for the weights of the components.
        concentration: "free" for each component, or one that is "shared" by all.
        n_init: the number of starts, of which the one of highest likelihood is returned.
        init: mean directions (K, d) to start from, in place of k-means++.
        max_iterations: how many M steps there are at most, for each start.
        tolerance: converged when an iteration gains at most this much in mean log-likelihood of a
            sample, in nats.
        generator: source of the random numbers of k-means++, on the CPU or the device of ``x``
            (default: torch's own).
        validate_args: check values as well as shapes and dtypes (torch's default: yes).

    Returns:
        A `FittedMixture`, with parameters in the dtype of ``x`` and at least float32. A component
        that has lost all of its samples keeps its last parameters, with weight 0.

    Time and memory: an iteration takes two products of an (N, d) and a (K, d) matrix, in float64
    and in blocks. Beyond ``x``, and a few numbers for each sample, the memory is that of one tensor
    of shape (K, N) in its dtype for von Mises-Fisher, and of up to four for the other families,
    which take several times as long.

    Raises:
        TypeError: an argument is no tensor, or not of a floating-point dtype.
        ValueError: a shape, a number or an option does not fit, ``n_components`` exceeds the number
            of samples that have weight, or, with ``validate_args``, a sample is not a unit vector,
            or a weight is negative, NaN or infinite.
        NotImplementedError: no estimator is known for this family.

    Warns:
        RuntimeWarning: not converged after ``max_iterations``, or a component that has shrunk to
            equal samples.

    Example:
        >>> import torch
        >>> from powerspherical_ext import VonMisesFisher, fit_mixture
        >>> generator = torch.Generator().manual_seed(0)
        >>> three = VonMisesFisher(torch.eye(3), torch.tensor([50.0, 20.0, 80.0]))
        >>> x = three.sample((100,), generator=generator).flatten(0, 1)
        >>> fits = {k: fit_mixture(x, k, n_init=3, generator=generator) for k in range(1, 6)}
        >>> min(fits, key=lambda k: fits[k].bic)
        3
        >>> fits[3].mixture.component_distribution.concentration.sort().values.round()
        tensor([20., 46., 81.])
        >>> fits[3].responsibilities(x).shape
        torch.Size([300, 3])
    """
    if not (isinstance(family, type) and issubclass(family, RotationallySymmetric)):
        raise TypeError(
            "fit_mixture: family must be a distribution on the sphere, such as VonMisesFisher, "
            f"got {family!r}"
        )
    estimator = family._family.fit
    if estimator is None:
        raise NotImplementedError(
            f"fit_mixture: no maximum likelihood estimator is known for {family._family.name}"
        )
    _check_options(
        n_components, assignments, concentration, n_init, max_iterations, tolerance, init
    )
    validate = family._validate_args if validate_args is None else validate_args
    _check_samples(x, n_components, validate)
    if init is not None:
        _check_init(init, x, n_components, validate)
    x = x.detach().to(ops.common_dtype(x))
    if weights is not None:
        weights = _checked_weights(weights, x, n_components, validate)

    problem = _Problem(
        x,
        weights,
        family._family,
        estimator,
        assignments == "hard",
        concentration == "shared",
    )
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        best = None
        for _ in range(n_init):
            mu = seeds(x, problem.weights, n_components, generator) if init is None else init
            run = problem.run(wide(mu.detach()), max_iterations, tolerance)
            if best is None or run.score() > best.score():
                best = run
        assert best is not None
        labels, log_likelihood = problem.assign(best.components)
    _warn(best, max_iterations, tolerance)

    log_weights, mu, kappa = best.components
    distribution = family(mu.to(x.dtype), kappa.to(x.dtype), validate_args=validate_args)
    k, d = mu.shape
    n_parameters = k - 1 + k * (d - 1) + (1 if problem.shared else k)
    return FittedMixture(
        MixtureSameFamily(
            Categorical(log_weights.exp().to(x.dtype), validate_args=validate_args),
            distribution,
            validate_args=validate_args,
        ),
        labels,
        log_likelihood,
        torch.tensor(best.log_likelihoods, device=x.device, dtype=mu.dtype),
        best.converged,
        n_parameters,
        n_parameters * math.log(problem.mass) - 2 * log_likelihood,
    )


class _Run(NamedTuple):
    """What EM found from one start."""

    components: Components
    log_likelihoods: list[float]
    converged: bool
    at_bound: bool  # whether a component has the largest concentration

    def score(self) -> tuple[bool, float]:
        return not self.at_bound, self.log_likelihoods[-1]


class _Problem:
    """The likelihood that EM climbs."""

    def __init__(
        self,
        x: Tensor,
        weights: Tensor | None,
        family: Family,
        estimator: Estimator,
        hard: bool,
        shared: bool,
    ) -> None:
        self.x, self.weights, self.family, self.estimator = x, weights, family, estimator
        self.hard, self.shared = hard, shared
        self.mass = float(len(x) if weights is None else wide(weights).sum())
        self._scalar = scalar_functions(family, x.shape[-1])

    def run(self, mu: Tensor, max_iterations: int, tolerance: float) -> _Run:
        """EM from mean directions (K, d)."""
        shares = self.x.new_empty(len(mu), len(self.x))  # the responsibilities, times the weights
        components = self._start(mu, shares)
        history, at_bound, converged = [float(self._expect(components, shares))], False, False
        for _ in range(max_iterations):
            components, at_bound = self._maximise(components, shares)
            history.append(float(self._expect(components, shares)))
            gain = (history[-1] - history[-2]) / self.mass
            converged = gain <= tolerance
            if not gain > tolerance:
                break
        return _Run(components, history, converged, at_bound)

    def assign(self, components: Components) -> tuple[Tensor, float]:
        """The most probable components, and the log-likelihood of the mixture."""
        labels = torch.empty(len(self.x), dtype=torch.int64, device=self.x.device)
        total = components.mu.new_zeros(())
        for rows, joint in log_joints(self.x, components, self.family):
            labels[rows] = joint.argmax(0)
            log_likelihood, _ = posterior(joint)
            if self.weights is not None:
                log_likelihood = log_likelihood * self.weights[rows]
            total += log_likelihood.sum()
        return labels, float(total)

    def _start(self, mu: Tensor, shares: Tensor) -> Components:
        """Equal weights, one concentration, and the mean directions of the samples that are nearest
        to each of those given."""
        shares.zero_().scatter_(0, nearest(self.x, mu).unsqueeze(0), 1.0)
        if self.weights is not None:
            shares.mul_(self.weights)
        equal = mu.new_full((len(mu),), -math.log(len(mu)))
        start = Components(equal, mu, torch.zeros_like(equal))
        components, _ = self._step(start, shares, None, True, _FIRST_STEPS)
        return components._replace(log_weights=equal)

    def _expect(self, components: Components, shares: Tensor) -> Tensor:
        return expectation(self.x, self.weights, components, self.family, self.hard, shares)

    def _maximise(self, components: Components, shares: Tensor) -> tuple[Components, bool]:
        start = components.mu, components.kappa
        return self._step(components, shares, start, self.shared, _STEPS)

    def _step(
        self,
        old: Components,
        shares: Tensor,
        start: tuple[Tensor, Tensor] | None,
        shared: bool,
        steps: int,
    ) -> tuple[Components, bool]:
        """The M step, and whether a concentration is at its bound.

        A component without samples keeps its parameters.
        """
        (mass,) = masses(shares.unsqueeze(0))
        kept = mass != 0
        if not kept.all():
            shares = shares[kept]
            start = None if start is None else (start[0][kept], start[1][kept])
        if start is not None:
            start = start[0].unsqueeze(0), start[1].unsqueeze(0)
        settings = Settings(steps, 1e-12, self._scalar, start, shared)
        fit = self.estimator(self.x.unsqueeze(0), shares.unsqueeze(0), settings)
        mu, kappa = old.mu.clone(), old.kappa.clone()
        mu[kept], kappa[kept] = fit.mu[0], fit.kappa[0]
        if shared:
            kappa = fit.kappa[0, :1].expand_as(kappa)
        new = Components((mass / mass.sum()).log(), mu, kappa)
        return new, bool(fit.at_bound.any())


def _warn(run: _Run, max_iterations: int, tolerance: float) -> None:
    if run.at_bound:
        warnings.warn(
            "fit_mixture: a component has shrunk to equal samples, and has the largest "
            "concentration that an estimate can have. Take fewer components, more starts "
            "(n_init), or concentration='shared', or remove repeated samples",
            RuntimeWarning,
            stacklevel=3,
        )
    if not run.converged:
        history = run.log_likelihoods
        last = f"; the last iteration gained {history[-1] - history[-2]:.2g}" if history[1:] else ""
        warnings.warn(
            f"fit_mixture: in {max_iterations} iterations the gain in log-likelihood did not fall "
            f"to {tolerance:g} for each sample{last}",
            RuntimeWarning,
            stacklevel=3,
        )


def _check_options(
    n_components: int,
    assignments: str,
    concentration: str,
    n_init: int,
    max_iterations: int,
    tolerance: float,
    init: Tensor | None,
) -> None:
    for name, number, least in (
        ("n_components", n_components, 1),
        ("n_init", n_init, 1),
        ("max_iterations", max_iterations, 0),
    ):
        if not isinstance(number, Integral) or isinstance(number, bool):
            raise TypeError(f"fit_mixture: {name} must be an int, got {number!r}")
        if number < least:
            raise ValueError(f"fit_mixture: {name} must be at least {least}, got {number}")
    for name, option, options in (
        ("assignments", assignments, ("soft", "hard")),
        ("concentration", concentration, ("free", "shared")),
    ):
        if option not in options:
            raise ValueError(f"fit_mixture: {name} must be one of {options}, got {option!r}")
    if not isinstance(tolerance, Real):
        raise TypeError(f"fit_mixture: tolerance must be a number, got {tolerance!r}")
    if math.isnan(tolerance):
        raise ValueError("fit_mixture: tolerance must not be NaN")
    if init is not None and n_init > 1:
        raise ValueError(
            f"fit_mixture: with init, which is one start, n_init must be 1, got {n_init}"
        )


def _check_samples(x: Tensor, n_components: int, validate: bool) -> None:
    check_float("fit_mixture", "x", x)
    if x.dim() != 2 or x.shape[1] < 2 or len(x) == 0:
        raise ValueError(
            f"fit_mixture: x must have shape (N, d) with N >= 1 and d >= 2, got {tuple(x.shape)}"
        )
    if n_components > len(x):
        raise ValueError(
            f"fit_mixture: n_components must be at most the number of samples, {len(x)}, "
            f"got {n_components}"
        )
    if validate:
        check_unit("fit_mixture", "x", x)


def _checked_weights(weights: Tensor, x: Tensor, n_components: int, validate: bool) -> Tensor:
    """The weights in the dtype of the samples."""
    check_float("fit_mixture", "weights", weights)
    if weights.shape != x.shape[:1]:
        raise ValueError(
            f"fit_mixture: weights must have shape ({len(x)},), one for each sample, "
            f"got {tuple(weights.shape)}"
        )
    if weights.device != x.device:
        raise ValueError(
            f"fit_mixture: weights must be on the device of x, {x.device}, got {weights.device}"
        )
    weights = weights.detach().to(x.dtype)
    if validate and not finite_nonnegative.check(weights).all():
        raise ValueError(f"fit_mixture: weights must be non-negative, and finite in {x.dtype}")
    counted = int(weights.count_nonzero())
    if n_components > counted:
        raise ValueError(
            f"fit_mixture: n_components must be at most the number of samples that have weight, "
            f"{counted}, got {n_components}"
        )
    return weights


def _check_init(init: Tensor, x: Tensor, n_components: int, validate: bool) -> None:
    check_float("fit_mixture", "init", init)
    wanted = (n_components, x.shape[1])
    if init.shape != wanted:
        raise ValueError(
            f"fit_mixture: init must have shape (n_components, d), {wanted}, "
            f"got {tuple(init.shape)}"
        )
    if init.device != x.device:
        raise ValueError(
            f"fit_mixture: init must be on the device of x, {x.device}, got {init.device}"
        )
    if validate:
        check_unit("fit_mixture", "init", init)
