"""Heads of VI-SimSiam: the kappa predictor u alone, and projector, predictor and kappa together."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._common import autocast_disabled

__all__ = ["KappaHead", "VISimSiamHead", "VISimSiamOutput"]

PARAMETRIZATIONS = ("softplus", "softplus_d")


class KappaHead(nn.Module):
    r"""Predicts the concentration kappa > 0 of a sample from its features.

    Two linear layers with BatchNorm and ReLU after the first, and softplus at the end (Nakamura,
    Okada and Taniguchi 2023, Appendix B):

    .. code-block:: text

        s     = w . relu(batch_norm(W y)) + b
        kappa = softplus(s)               parametrization "softplus", the paper's
        kappa = (dim - 1) softplus(s)     parametrization "softplus_d"

    The likelihood's optimum for an observed cosine t is near kappa = (dim - 1) t / (1 - t):
    hundreds to thousands. SGD with learning rate 0.1, as in the paper, climbs there with the plain
    softplus. Adam moves s by about its learning rate per step and does not arrive: use
    ``"softplus_d"``, which starts on scale, with Adam or AdamW.

    An optimiser that is given its modules by name has to be given this head too, or it never
    trains.

    Args:
        in_features: length of a feature vector y (512 for the ResNet-18 of the paper).
        hidden_features: width of the hidden layer.
        parametrization: ``"softplus"`` or ``"softplus_d"``.
        dim: length of the latent vectors mu and z, for ``"softplus_d"`` only.

    Shape:
        - y: ``(..., in_features)``. In training BatchNorm needs two samples or more.
        - kappa: ``(...)``.

    Data types:
        The last layer runs in float32 or better, also under autocast and in a module cast to half
        precision: bfloat16 has steps of 4 near kappa = 850, which would tie most samples of a
        batch. The output is float32, or float64 for a float64 module.

    Raises:
        ValueError: an unknown parametrization, ``"softplus_d"`` without ``dim``, sizes that are
            not positive, or features of another length.
        TypeError: y is not a floating-point tensor.

    Example::

        >>> head = KappaHead(in_features=16, hidden_features=32)
        >>> kappa = head(torch.randn(8, 16))
        >>> kappa.shape, kappa.dtype, bool((kappa > 0).all())
        (torch.Size([8]), torch.float32, True)
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int = 512,
        parametrization: str = "softplus",
        dim: int | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("in_features", in_features), ("hidden_features", hidden_features)):
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if parametrization not in PARAMETRIZATIONS:
            raise ValueError(
                f"parametrization must be one of {PARAMETRIZATIONS}, got {parametrization!r}"
            )
        if parametrization == "softplus_d" and (dim is None or dim < 2):
            raise ValueError(
                "parametrization 'softplus_d' needs dim, the length of the latent vectors, "
                f"2 or more, got {dim}"
            )
        if parametrization == "softplus" and dim is not None:
            raise ValueError(
                f"dim is used by parametrization 'softplus_d' only, got dim={dim} with 'softplus'"
            )
        self.in_features = in_features
        self.hidden_features = hidden_features
        self.parametrization = parametrization
        self.dim = dim
        self.hidden = nn.Sequential(
            nn.Linear(in_features, hidden_features, bias=False),
            nn.BatchNorm1d(hidden_features),
            nn.ReLU(inplace=True),
        )
        self.out = nn.Linear(hidden_features, 1)

    def forward(self, y: Tensor) -> Tensor:
        if not y.is_floating_point():
            raise TypeError(f"y must be a floating-point tensor, got {y.dtype}")
        if y.ndim == 0 or y.shape[-1] != self.in_features:
            raise ValueError(f"y must have shape (..., {self.in_features}), got {tuple(y.shape)}")
        weight, bias = self.out.weight, self.out.bias
        dtype = torch.promote_types(weight.dtype, torch.float32)
        with autocast_disabled(y.device):
            hidden = self.hidden(y.reshape(-1, self.in_features).to(weight.dtype))
            s = F.linear(hidden.to(dtype), weight.to(dtype), bias.to(dtype))
            # softplus underflows to 0 for s < -100, and the losses want a positive kappa.
            kappa = F.softplus(s).clamp(min=torch.finfo(dtype).tiny).reshape(y.shape[:-1])
        return kappa if self.dim is None else (self.dim - 1) * kappa

    def extra_repr(self) -> str:
        return f"parametrization={self.parametrization!r}, dim={self.dim}"


class VISimSiamOutput(NamedTuple):
    """What :class:`VISimSiamHead` returns, in the order that a multi-crop wrapper hands on.

    Example::

        >>> out = VISimSiamHead(16, dim=8)(torch.randn(12, 16))
        >>> preds, targets, kappas = out.mu.chunk(6), out.z.chunk(6)[:2], out.kappa.chunk(6)
        >>> [len(views) for views in (preds, targets, kappas)]
        [6, 2, 6]
    """

    z: Tensor
    """Projection, (N, dim): the target of the other views. Not normalised."""
    mu: Tensor
    """Prediction, (N, dim). Not normalised."""
    kappa: Tensor
    """Concentration of the prediction, (N,)."""


class VISimSiamHead(nn.Module):
    r"""Projector, predictor and kappa predictor: all of VI-SimSiam behind a backbone.

    .. code-block:: text

        z = f(y),   mu = h(z),   kappa = u(y)

        f: Linear - BatchNorm - ReLU, twice, Linear - BatchNorm without affine       as SimSiam's
        h: Linear(dim, dim / 4) - BatchNorm - ReLU - Linear                          as SimSiam's
        u: KappaHead                                                                 Appendix B

    It takes the place of a projection head in a wrapper that calls ``head(features)`` once for all
    crops, as DINO's MultiCropWrapper does, with 2 large and 6 small ones::

        out = MultiCropWrapper(backbone, VISimSiamHead(512))(crops)
        loss = criterion(out.mu.chunk(8), out.z.chunk(8)[:2], out.kappa.chunk(8))

    BatchNorm then takes its statistics over all crops together.

    Args:
        in_features: length of a feature vector y (512 for a ResNet-18).
        dim: length of the latent vectors z and mu.
        hidden_features: width of the projector's hidden layers; default: dim.
        projector: a module of your own from y to z, instead of f.
        predictor: a module of your own from z to mu, instead of h: ``DirectPred(dim)``, for one.
        kappa_head: a module of your own from y to kappa, instead of the paper's. With Adam take
            ``KappaHead(in_features, parametrization="softplus_d", dim=dim)``.

    Shape:
        - y: ``(N, in_features)``. In training BatchNorm needs two samples or more.
        - output: :class:`VISimSiamOutput`.

    Data types:
        z and mu as the module's and autocast's; kappa always in float32 or better.

    Raises:
        ValueError: sizes that are not positive, a dim below 4 with the predictor h, or features of
            another shape.
        TypeError: y is not a floating-point tensor.

    Example::

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
        self.kappa_head = KappaHead(in_features) if kappa_head is None else kappa_head

    def forward(self, y: Tensor) -> VISimSiamOutput:
        if not y.is_floating_point():
            raise TypeError(f"y must be a floating-point tensor, got {y.dtype}")
        if y.ndim != 2 or y.shape[-1] != self.in_features:
            raise ValueError(f"y must have shape (N, {self.in_features}), got {tuple(y.shape)}")
        z = self.projector(y)
        return VISimSiamOutput(z, self.predictor(z), self.kappa_head(y))


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Linear(inputs, outputs, bias=False),
        nn.BatchNorm1d(outputs),
        nn.ReLU(inplace=True),
    ]
