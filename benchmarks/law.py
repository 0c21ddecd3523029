"""The exact distribution of a family: its density, distribution function and points, in float64.

The log density relative to the mode, log_prob_ratio, is that of `powerspherical_ext.reference`, and
all else follows from it by quadrature. With y = (1 - mu.x)/2, z = 1 - y and b = (d - 1)/2 the
density of s = log(y/z) is proportional to

    exp(b log(y z) + log_prob_ratio),

which is smooth and has one peak. The trapezoidal rule runs between the points where it has fallen
by exp(-45).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from work import FAMILIES

Array = NDArray[np.float64]
POINTS, DEPTH = 8001, 45
COARSE = np.linspace(-140, 140, 28001)


class Law:
    """The distribution of a family, by the name of its class, about any mean direction."""

    def __init__(self, family: str, d: int, kappa: float) -> None:
        self.family, self.d, self.kappa, self.b = FAMILIES[family], d, kappa, (d - 1) / 2
        inside = COARSE[self._log_weight(COARSE) > self._log_weight(COARSE).max() - DEPTH]
        step = COARSE[1] - COARSE[0]
        self._s = np.linspace(inside[0] - step, inside[-1] + step, POINTS)
        log_weight = self._log_weight(self._s)
        weight = np.exp(log_weight - log_weight.max())
        parts = 0.5 * np.diff(self._s) * (weight[1:] + weight[:-1])
        self._cdf = np.concatenate([[0], parts.cumsum()])
        # dx = |S^{d-2}| (1 - t^2)^{b-1} dt, with t = 1 - 2 y, 1 - t^2 = 4 y z and dy = y z ds
        log_total = log_weight.max() + math.log(self._cdf[-1])
        log_area = math.log(2) + self.b * math.log(math.pi) - math.lgamma(self.b)
        self.log_normalizer = -(log_area + (2 * self.b - 1) * math.log(2) + log_total)
        self._cdf /= self._cdf[-1]

    def ratio(self, y: Array, z: Array) -> Array:
        """log p(x) - log p(mu)."""
        kappa, sin2, cos2 = (torch.as_tensor(v, dtype=torch.float64) for v in (self.kappa, y, z))
        ratio: Array = self.family.reference.log_prob_ratio(kappa, self.d, sin2, cos2).numpy()
        return ratio

    def _log_weight(self, s: Array) -> Array:
        log_y, log_z = -np.logaddexp(0, -s), -np.logaddexp(0, s)
        weight: Array = self.b * (log_y + log_z) + self.ratio(np.exp(log_y), np.exp(log_z))
        return weight

    def log_prob(self, y: Array) -> Array:
        return self.log_normalizer + self.ratio(y, 1 - y)

    def cdf(self, y: Array) -> Array:
        with np.errstate(divide="ignore"):
            return np.interp(np.log(y) - np.log1p(-y), self._s, self._cdf)

    def points(self, n: int, mu: Tensor, rng: np.random.Generator) -> Tensor:
        """n independent draws about mu, computed in float64 and rounded to the dtype of mu."""
        s = torch.from_numpy(np.interp(rng.random(n), self._cdf, self._s))[:, None]
        y, z = torch.sigmoid(s), torch.sigmoid(-s)
        m = mu.double() / mu.double().norm()
        v = torch.from_numpy(rng.standard_normal((n, self.d)))
        v = v - (v @ m)[:, None] * m
        return ((z - y) * m + 2 * (y * z).sqrt() * v / v.norm(dim=-1, keepdim=True)).to(mu)


def y_of(x: Tensor, mu: Tensor) -> Array:
    """(1 - t)/2 of the directions of x (n, d) and mu (d), as |x - mu|^2/(|x - mu|^2 + |x + mu|^2).

    float64; exact in y to rounding even where t is 1 to all digits.
    """
    x, mu = (v.double() / v.double().norm(dim=-1, keepdim=True) for v in (x, mu))
    minus, plus = ((x - s * mu).square().sum(-1) for s in (1, -1))
    y: Array = (minus / (minus + plus)).numpy()
    return y
