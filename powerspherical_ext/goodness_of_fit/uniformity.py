r"""Tests of uniformity on the sphere, by Rayleigh and by Bingham.

Both sum a kernel over the pairs of n points: K = c for Rayleigh, and K = c^2 - 1/d for Bingham,
where c is the cosine of the pair. Under uniformity E[K] = 0 whatever one of the two points is, the
kernels of two pairs are uncorrelated, and E_y[K(x, y) K(y, z)] = lambda K(x, z). The sum
U = sum_{i<j} K(x_i, x_j) therefore has for every n the moments

.. code-block:: text

    E[U] = 0,   E[U^2] = n (n - 1)/2 m2,   E[U^3] = n (n - 1)/2 m3 + n (n - 1)(n - 2) lambda m2

    Rayleigh   lambda = 1/d            m2 = 1/d                  m3 = 0
    Bingham    lambda = 2/(d (d + 2))  m2 = lambda (d - 1)/d     m3 = E[(c^2 - 1/d)^3]

with m2 = E[K^2] and m3 = E[K^3]. Only a pair that occurs three times, or the three pairs of three
points, contribute to E[U^3]. The p-value is that of the gamma distribution, shifted, that has these
three moments. It tends to the classical chi-squared distribution for large n, whose shape is d/2
for Rayleigh and (d - 1)(d + 2)/4 for Bingham.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .._p_values import simulated_p_value
from ..distributions import HypersphericalUniform
from ..distributions._arguments import check_float
from .result import HypothesisTest, check_simulations

__all__ = ["bingham_test", "rayleigh_test"]


def rayleigh_test(
    x: Tensor,
    *,
    n_simulations: int | None = None,
    generator: torch.Generator | None = None,
) -> HypothesisTest:
    r"""Rayleigh's test of uniformity against a mean direction.

    .. code-block:: text

        T = n d |mean of x|^2

    Under uniformity E[T] = d, and T is chi-squared with d degrees of freedom for large n. The test
    cannot see a distribution whose mean is 0, such as one that is symmetric under x -> -x:
    :func:`bingham_test` does.

    Args:
        x: (..., n, d), n directions of any length above 0 in each of a batch of samples, d >= 2.
        n_simulations: None for the p-value from the exact first three moments of T, which needs
            n >= 3 and is right from n = 10 on (uniform samples are rejected at 0.05 in 4.5 to 5.5 %
            of cases); or the number of uniform samples of n points to compare T with.
        generator: draws these samples; default: torch's own.

    Returns:
        T and its p-value, of shape (...) in float64. A sample with a NaN, an infinity or a zero
        vector has NaN for both.

    Raises:
        TypeError: x is no tensor of a floating-point dtype.
        ValueError: x has not the shape (..., n, d), n is too small, or n_simulations is below 1.

    Example:
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> rayleigh_test(x).p_value > 0.05, rayleigh_test(x + 0.5).p_value < 1e-3
        (tensor(True), tensor(True))

    Source:
        Rayleigh, "On the problem of random vibrations, and of random flights in one, two, or three
        dimensions", 1919; Mardia and Jupp, "Directional Statistics", 2000, section 10.4.1.
    """

    def statistic(x: Tensor) -> Tensor:
        n, d = x.shape[-2:]
        return x.sum(-2).square().sum(-1) * (d / n)

    def approximate(t: Tensor, n: int, d: int) -> Tensor:
        return _gamma_tail(t, d, 2 * d / n, n, 1 / d, 1 / d, 0.0)

    return _test("rayleigh_test", x, statistic, approximate, n_simulations, generator)


def bingham_test(
    x: Tensor,
    *,
    n_simulations: int | None = None,
    generator: torch.Generator | None = None,
) -> HypothesisTest:
    r"""Bingham's test of uniformity against a preferred axis, or a preferred plane.

    .. code-block:: text

        S = n d (d + 2)/2 (tr(M^2) - 1/d),   M = mean of x x^T

    Under uniformity E[S] = (d - 1)(d + 2)/2, and S is chi-squared with as many degrees of freedom
    for large n. The test does not see the sign of x. If n < d, the computation takes the matrix of
    the n x n cosines in place of M.

    Args:
        x, n_simulations, generator: as in :func:`rayleigh_test`.

    Returns:
        S and its p-value, as :func:`rayleigh_test`.

    Raises:
        TypeError, ValueError: as :func:`rayleigh_test`.

    Example:
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> bingham_test(x).p_value > 0.05, bingham_test(x * torch.tensor([1, 1, 3])).p_value < 1e-3
        (tensor(True), tensor(True))

    Source:
        Bingham, "An antipodally symmetric distribution on the sphere", 1974; Mardia and Jupp 2000,
        section 10.7.1.
    """

    def statistic(x: Tensor) -> Tensor:
        n, d = x.shape[-2:]
        products = x @ x.mT if n < d else x.mT @ x
        trace = products.square().sum((-2, -1)) / n**2
        return (trace - 1 / d) * (n * d * (d + 2) / 2)

    def approximate(s: Tensor, n: int, d: int) -> Tensor:
        rate = 2 / (d * (d + 2))
        m2 = rate * (d - 1) / d
        # E[c^2], E[c^4] and E[c^6] are those of the Beta(1/2, (d - 1)/2) distribution.
        e1, e2, e3 = 1 / d, 3 / (d * (d + 2)), 15 / (d * (d + 2) * (d + 4))
        m3 = e3 - 3 * e2 * e1 + 2 * e1**3
        return _gamma_tail(s, (d - 1) * (d + 2) / 2, d * (d + 2) / n, n, rate, m2, m3)

    return _test("bingham_test", x, statistic, approximate, n_simulations, generator)


def _test(
    owner: str,
    x: Tensor,
    statistic: Callable[[Tensor], Tensor],
    approximate: Callable[[Tensor, int, int], Tensor],
    n_simulations: int | None,
    generator: torch.Generator | None,
) -> HypothesisTest:
    check_float(owner, "x", x)
    if x.ndim < 2 or x.shape[-1] < 2 or x.shape[-2] < 1:
        raise ValueError(
            f"{owner}: x must have shape (..., n, d) with n >= 1 and d >= 2, got {tuple(x.shape)}"
        )
    check_simulations(n_simulations)
    n, d = x.shape[-2:]
    x = x.detach().double()
    observed = statistic(x / x.norm(dim=-1, keepdim=True))
    if n_simulations is None:
        if n < 3:
            raise ValueError(
                f"{owner}: x must hold n >= 3 points unless n_simulations is given, got {n}"
            )
        return HypothesisTest(observed, approximate(observed, n, d))
    uniform = HypersphericalUniform(d, device=x.device, dtype=x.dtype)
    draws = [statistic(uniform.sample((n,), generator=generator)) for _ in range(n_simulations)]
    return HypothesisTest(observed, simulated_p_value(observed, torch.stack(draws)))


def _gamma_tail(
    value: Tensor, mean: float, scale: float, n: int, rate: float, m2: float, m3: float
) -> Tensor:
    """P(X >= value) for the shifted gamma variable X with the moments of mean + scale U."""
    variance = n * (n - 1) / 2 * m2
    third = n * (n - 1) / 2 * m3 + n * (n - 1) * (n - 2) * rate * m2
    shape = 4 * variance**3 / third**2
    unit = shape + (value - mean) / scale * (shape / variance) ** 0.5  # a Gamma(shape, 1) variable
    tail: Tensor = torch.special.gammaincc(torch.full_like(unit, shape), unit.clamp(min=0))
    return tail
