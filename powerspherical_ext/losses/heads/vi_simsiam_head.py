"""Projector, predictor and kappa predictor of VI-SimSiam in one head."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .._checks import check_features
from .kappa_head import KappaHead

__all__ = ["VISimSiamHead", "VISimSiamOutput"]


class VISimSiamOutput(NamedTuple):
    """The result of :class:`VISimSiamHead`.

    Example:

        >>> import torch
        >>> out = VISimSiamHead(16, dim=8)(torch.randn(12, 16))
        >>> preds, targets, kappas = out.mu.chunk(6), out.z.chunk(6)[:2], out.kappa.chunk(6)
        >>> [len(views) for views in (preds, targets, kappas)]
        [6, 2, 6]

    Source:
        Nakamura, Okada and Taniguchi 2023, Algorithm 1.
    """

    z: Tensor
    """Projection, (N, dim), not normalised. It is the target of the other views."""
    mu: Tensor
    """Prediction, (N, dim), not normalised."""
    kappa: Tensor
    """Concentration of the prediction, (N,)."""


class VISimSiamHead(nn.Module):
    r"""Projector, predictor and kappa predictor: all that VI-SimSiam adds to a backbone.

    .. code-block:: text

        z = f(y),   mu = h(z),   kappa = u(y)

        f: Linear - BatchNorm - ReLU, twice, Linear - BatchNorm without affine       as SimSiam's
        h: Linear(dim, dim / 4) - BatchNorm - ReLU - Linear                          as SimSiam's
        u: KappaHead                                                                 Appendix B

    The head takes the place of a projection head in a wrapper that calls ``head(features)`` once
    for all crops. DINO's MultiCropWrapper does that, here with 2 large and 6 small crops::

        out = MultiCropWrapper(backbone, VISimSiamHead(512))(crops)
        loss = criterion(out.mu.chunk(8), out.z.chunk(8)[:2], out.kappa.chunk(8))

    BatchNorm then takes its statistics over all crops together.

    Args:
        in_features: length of a feature vector y (512 for a ResNet-18).
        dim: length of the latent vectors z and mu.
        hidden_features: width of the projector's hidden layers; default: dim.
        projector: a module of your own from y to z, instead of f.
        predictor: a module of your own from z to mu, instead of h; for example ``DirectPred(dim)``.
        kappa_head: a module of your own from y to kappa, instead of u. With Adam use
            ``KappaHead(in_features, parametrization="softplus_d", dim=dim)``.
        distribution: name of the family that u predicts the kappa of, as in
            :func:`vi_simsiam_loss`. A kappa_head of your own is used as it is.

    Shape:
        - y: ``(N, in_features)``. In training BatchNorm needs two samples or more.
        - output: :class:`VISimSiamOutput`.

    Data types:
        z and mu have the type that the module and autocast give them. kappa is float32 or better.

    Raises:
        ValueError: sizes that are not positive, a dim below 4 with the predictor h, or features of
            another shape.
        TypeError: y is not a floating-point tensor.

    Example:

        >>> import torch
        >>> head = VISimSiamHead(in_features=16, dim=8)
        >>> z, mu, kappa = head(torch.randn(6, 16))
        >>> z.shape, mu.shape, kappa.shape
        (torch.Size([6, 8]), torch.Size([6, 8]), torch.Size([6]))

    Source:
        Nakamura, Okada and Taniguchi 2023, Algorithm 1 and Appendix B; f and h: Chen and He 2021,
        section 3.
    """

    def __init__(
        self,
        in_features: int,
        dim: int = 2048,
        hidden_features: int | None = None,
        *,
        projector: nn.Module | None = None,
        predictor: nn.Module | None = None,
        kappa_head: nn.Module | None = None,
        distribution: str = "power_spherical",
    ) -> None:
        super().__init__()
        hidden = dim if hidden_features is None else hidden_features
        sizes = (("in_features", in_features), ("hidden_features", hidden))
        for name, size in sizes:
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if dim < (4 if predictor is None else 2):
            raise ValueError(f"dim must be at least {4 if predictor is None else 2}, got {dim}")
        self.in_features = in_features
        if projector is None:
            projector = nn.Sequential(
                *_block(in_features, hidden),
                *_block(hidden, hidden),
                nn.Linear(hidden, dim, bias=False),
                nn.BatchNorm1d(dim, affine=False),
            )
        if predictor is None:
            predictor = nn.Sequential(*_block(dim, dim // 4), nn.Linear(dim // 4, dim))
        self.projector = projector
        self.predictor = predictor
        if kappa_head is None:
            kappa_head = KappaHead(in_features, distribution=distribution)
        self.kappa_head = kappa_head

    def forward(self, y: Tensor) -> VISimSiamOutput:
        """Projections, predictions and concentrations of a batch of features.

        Args:
            y: features, ``(N, in_features)``. In training BatchNorm needs two samples or more.

        Returns:
            A :class:`VISimSiamOutput`: z and mu ``(N, dim)``, kappa ``(N,)``.

        Raises:
            ValueError: features of another shape; TypeError: not a floating-point tensor.
        """
        y = _checked(y, self.in_features)
        z = self.projector(y)
        return VISimSiamOutput(z, self.predictor(z), self.kappa_head(y))


@torch.fx.wrap
def _checked(y: Tensor, in_features: int) -> Tensor:
    check_features("y", y, in_features)
    return y


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Linear(inputs, outputs, bias=False),
        nn.BatchNorm1d(outputs),
        nn.ReLU(inplace=True),
    ]
