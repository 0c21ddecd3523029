"""Stochastic embeddings of two views, and the pairs that contrastive losses form of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from .. import ops
from .._tensors import savable, wide
from ..families import Family, family_named
from ._checks import check_finite, check_kind, check_shape, values_are_cheap
from ._distributed import gather as gather_rows
from ._domain import check_inside
from ._pairs import check_temperature, directions, own_indices
from ._reduction import check_reduction, reduce
from ._views import one_per_sample

__all__ = ["Embeddings", "StochasticLoss", "check_options", "embeddings_of"]

NAMES = ("z1", "z2"), ("kappa1", "kappa2")


class Embeddings(NamedTuple):
    """A distribution for each view of the N samples of this process, and of the M >= N samples of
    all processes that it compares them with. The first views come before the second ones."""

    loc: Tensor  # (2M, d), unit vectors in float64, on devices that have it
    kappa: Tensor  # (2M,)
    own: Tensor  # (2N,): the rows of this process
    partner: Tensor  # (2N,): the rows of their other views
    all_own: bool
    family: Family

    @property
    def d(self) -> int:
        return self.loc.shape[-1]

    def samples(self, n_samples: int, generator: torch.Generator | None) -> Tensor:
        """Reparameterised samples, (S, 2M, d)."""
        rng_state = ops.new_rng_state(self.loc.device, generator)
        kappa = self.kappa.expand(n_samples, *self.kappa.shape)
        return ops.rsample(self.loc.to(kappa.dtype), kappa, rng_state, self.family)

    def mine(self, x: Tensor) -> Tensor:
        """The rows of this process, of x (..., 2M, d) or (2M,)."""
        if self.all_own:
            return x
        return x[self.own] if x.dim() == 1 else x[..., self.own, :]

    def cosines(self, x: Tensor, scale: float | Tensor) -> Tensor:
        """scale x_a . x_c for this process's a and all c, (S, 2N, 2M), for x (S, 2M, d); -infinity
        where c is a."""
        itself = x.new_zeros(len(self.own), x.shape[-2])
        itself = itself.scatter(1, self.own.unsqueeze(-1), -torch.inf)
        return torch.baddbmm(itself, scale * self.mine(x), x.mT)

    def at_partner(self, x: Tensor) -> Tensor:
        """x_ab of each row a and its other view b, (..., 2N), for x (..., 2N, 2M)."""
        index = self.partner.unsqueeze(-1).expand(*x.shape[:-1], 1)
        return x.gather(-1, index).squeeze(-1)

    def reduce(self, losses: Tensor, dtype: torch.dtype, reduction: str) -> Tensor:
        """The losses (2N,) of the views as (2, N), or what is asked for of them."""
        return reduce(losses.to(dtype).view(2, len(self.own) // 2), reduction)


def embeddings_of(
    zs: tuple[Tensor, Tensor],
    kappas: tuple[Tensor, Tensor],
    distribution: str,
    gather: bool,
) -> tuple[Embeddings, torch.dtype]:
    """The arguments of a loss, after a check, and the type that it returns."""
    family = family_named(distribution)
    vectors, numbers = (
        [(name, [x]) for name, x in zip(names, given, strict=True)]
        for names, given in zip(NAMES, (zs, kappas), strict=True)
    )
    check_kind([*vectors, *numbers])
    check_shape(vectors)
    check_finite([*vectors, *numbers])
    names = zip(NAMES[1], NAMES[0], strict=True)
    each = [one_per_sample(k, zs[0], *name) for k, name in zip(kappas, names, strict=True)]
    for k in each:
        if values_are_cheap(k):
            check_inside(k, family)
    dtype = ops.common_dtype(*zs, *each)
    rows, each = (list(savable(*(x.to(dtype) for x in xs))) for xs in (zs, each))
    own = own_indices(rows[0], gather)
    n = len(rows[0])
    if gather:
        rows, each = ([gather_rows(x) for x in xs] for xs in (rows, each))
    m = len(rows[0])
    own, partner = torch.cat([own, own + m]), torch.cat([own + m, own])
    loc = torch.cat(directions(map(wide, rows)))
    return Embeddings(loc, torch.cat(each), own, partner, n == m, family), dtype


def check_options(temperature: float | Tensor, n_samples: int, reduction: str) -> None:
    if isinstance(temperature, Tensor):
        if temperature.numel() != 1:
            raise ValueError(
                "temperature must be a number or a tensor of one element, "
                f"got shape {tuple(temperature.shape)}"
            )
    else:
        check_temperature(temperature)
    if n_samples < 1:
        raise ValueError(f"n_samples must be 1 or more, got {n_samples}")
    check_reduction(reduction)


class StochasticLoss(nn.Module):
    """A loss of stochastic embeddings: its options, and its temperature, which may be learnt."""

    function: ClassVar[Callable[..., Tensor]]  # the loss, as a static method
    log_temperature: nn.Parameter | None

    def __init__(self, temperature: float, learnable: bool, **options: Any) -> None:
        super().__init__()
        check_options(temperature, options["n_samples"], options["reduction"])
        family_named(options["distribution"])
        self._temperature = temperature
        log_temperature = nn.Parameter(torch.tensor(math.log(temperature))) if learnable else None
        self.register_parameter("log_temperature", log_temperature)
        self.options = options

    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        kappa1: Tensor,
        kappa2: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The loss of two views, by the function that the class names. It also says what is raised.

        Args:
            z1, z2: mean directions of the two views before normalisation, ``(N, d)``.
            kappa1, kappa2: their concentrations, inside the domain, ``(N,)`` or ``(N, 1)``.
            generator: of the random numbers; torch's own by default.

        Returns:
            A scalar; with ``reduction="none"`` the loss of each view, ``(2, N)``.
        """
        return self.function(z1, z2, kappa1, kappa2, generator=generator, **self._arguments())

    def _arguments(self) -> dict[str, Any]:
        """What the function takes beside the views: the options, and what may be learnt."""
        return {"temperature": self.temperature, **self.options}

    @property
    def temperature(self) -> float | Tensor:
        """A number, or where it is learnt the exponential of the parameter ``log_temperature``."""
        if self.log_temperature is None:
            return self._temperature
        return self.log_temperature.exp()

    def extra_repr(self) -> str:
        temperature = torch.as_tensor(self.temperature).detach().item()
        given = {"temperature": temperature, **self.options}
        return ", ".join(f"{name}={value!r}" for name, value in given.items())
