"""A test of a rotationally symmetric distribution by the cosine to its mean direction."""

from __future__ import annotations

import torch
from torch import Tensor

from .._p_values import simulated_p_value
from ..distributions._arguments import check_float, check_unit, check_value, validates
from ..distributions.rotationally_symmetric import RotationallySymmetric
from .result import HypothesisTest, check_simulations

__all__ = ["goodness_of_fit_test"]


def goodness_of_fit_test(
    x: Tensor,
    distribution: RotationallySymmetric | type[RotationallySymmetric],
    *,
    n_simulations: int = 999,
    generator: torch.Generator | None = None,
) -> HypothesisTest:
    r"""Does this distribution, or a member of this family, describe the samples x?

    If the distribution is right, the values u of its cosine's distribution function at
    t = loc . x are uniform in [0, 1]. The statistic is that of Anderson and Darling, which weighs
    both tails:

    .. code-block:: text

        A^2 = -n - sum_i (2 i - 1)/n (log u_(i) + log(1 - u_(n + 1 - i))),   i = 1 .. n

    The test looks at t alone. It does not see directions around ``loc`` that are not symmetric.

    Args:
        x: unit vectors (..., n, d).
        distribution: a distribution of batch shape (...), whose parameters were not estimated from
            x; or a family, such as ``VonMisesFisher``, which is then fitted to x. For a
            distribution the statistic is compared with that of n uniform numbers. For a family it
            is compared with that of samples from the fit, each fitted anew (parametric bootstrap),
            because a fit follows its sample.
        n_simulations: number of these comparisons; with 999 the smallest p-value is 0.001. For a
            family each costs a fit and n values of the distribution function, which take 10 to 40
            microseconds each on a CPU.
        generator: draws them; default: torch's own.

    Returns:
        A^2 and its p-value, of shape (...) in float64.

    Raises:
        TypeError: distribution is neither of these, or x no tensor of a floating-point dtype.
        ValueError: n_simulations is below 1, or what ``fit`` and ``log_prob`` raise for x.

    Example:
        >>> from powerspherical_ext import PowerSpherical, VonMisesFisher
        >>> _ = torch.manual_seed(0)
        >>> p = VonMisesFisher(torch.tensor([0.0, 0.0, 1.0]), torch.tensor(3.0))
        >>> x = p.sample((500,))
        >>> goodness_of_fit_test(x, VonMisesFisher, n_simulations=19).p_value > 0.05
        tensor(True)
        >>> far = VonMisesFisher(p.loc, torch.tensor(4.0))
        >>> goodness_of_fit_test(x, far, n_simulations=99).p_value
        tensor(0.0100, dtype=torch.float64)

    Source:
        Anderson and Darling, "A test of goodness of fit", 1954; Stute, Gonzalez Manteiga and
        Presedo Quindimil, "Bootstrap based goodness-of-fit-tests", 1993.
    """
    check_simulations(n_simulations)
    check_float("goodness_of_fit_test", "x", x)
    if x.ndim < 2:
        raise ValueError(
            f"goodness_of_fit_test: x must have shape (..., n, d), got {tuple(x.shape)}"
        )
    if isinstance(distribution, RotationallySymmetric):
        check_value(distribution, x.movedim(-2, 0), distribution.loc.device)
        if validates(distribution, x):
            check_unit("goodness_of_fit_test", "x", x)
        x = x.detach()
        observed = _anderson_darling(x, distribution)
        shape = (n_simulations, x.shape[-2])
        u = torch.rand(shape, generator=generator, device=x.device, dtype=torch.float64)
        return HypothesisTest(observed, simulated_p_value(observed, _of_uniform(u)))
    if not (isinstance(distribution, type) and issubclass(distribution, RotationallySymmetric)):
        raise TypeError(
            "distribution must be a distribution such as VonMisesFisher(loc, concentration), or "
            f"its class, got {distribution!r}"
        )
    x = x.detach()
    fitted = distribution.fit(x)
    observed, n = _anderson_darling(x, fitted), x.shape[-2]
    null = []
    for _ in range(n_simulations):
        drawn = fitted.sample((n,), generator=generator).movedim(0, -2)
        null.append(_anderson_darling(drawn, distribution.fit(drawn, validate_args=False)))
    return HypothesisTest(observed, simulated_p_value(observed, torch.stack(null)))


def _anderson_darling(x: Tensor, q: RotationallySymmetric) -> Tensor:
    q = q._in_float64()
    t = (x.double() * q.loc.unsqueeze(-2)).sum(-1).clamp(-1, 1).movedim(-1, 0)
    return _of_uniform(q.marginal_t.cdf(t).movedim(0, -1))


def _of_uniform(u: Tensor) -> Tensor:
    """A^2 of numbers u (..., n)."""
    n = u.shape[-1]
    u = u.sort().values
    weights = torch.arange(1, 2 * n, 2, dtype=u.dtype, device=u.device)
    return -n - ((u.log() + torch.log1p(-u.flip(-1))) * weights).sum(-1) / n
