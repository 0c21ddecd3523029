"""The kappa predictor u of VI-SimSiam."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...distributions.transform_to import into_domain
from ...families import family_named
from .._autocast import autocast_disabled
from .._checks import check_features

__all__ = ["KappaHead"]

PARAMETRIZATIONS = ("softplus", "softplus_d")


class KappaHead(nn.Module):
    r"""Predicts the concentration kappa of a sample from its features.

    The head has two linear layers, with BatchNorm and ReLU after the first, and ends in a map to
    the domain of kappa (Nakamura, Okada and Taniguchi 2023, Appendix B):

    .. code-block:: text

        s     = w . relu(batch_norm(W y)) + b
        kappa = softplus(s)               parametrization "softplus", the paper's
        kappa = (dim - 1) softplus(s)     parametrization "softplus_d"
        kappa = c sigmoid(s)              a distribution whose kappa lies in [0, c)

    Under a distribution without a bound of kappa the likelihood's optimum for an observed cosine t
    is near kappa = (dim - 1) t / (1 - t), which is hundreds to thousands. SGD with learning rate
    0.1, as in the paper, climbs there with the plain softplus. Adam moves s by about its learning
    rate per step and does not arrive: with Adam or AdamW use ``"softplus_d"``, which starts on that
    scale. The sigmoid has the scale of its domain, so that the parametrization makes no difference
    to it.

    The result never reaches an end of the domain, whatever s rounds to.

    An optimiser that is given its modules by name must be given this head too, or it never trains.

    Args:
        in_features: length of a feature vector y (512 for the ResNet-18 of the paper).
        hidden_features: width of the hidden layer.
        parametrization: ``"softplus"`` or ``"softplus_d"``.
        dim: length of the latent vectors mu and z, for ``"softplus_d"`` only.
        distribution: name of the family that kappa belongs to, as in :func:`vi_simsiam_loss`.

    Shape:
        - y: ``(..., in_features)``. In training BatchNorm needs two samples or more.
        - kappa: ``(...)``.

    Data types:
        The last layer runs in float32 or better, also under autocast and in a module cast to half
        precision: bfloat16 has steps of 4 near kappa = 850, which would tie most samples of a
        batch. The output is float32, or float64 for a float64 module.

    Raises:
        ValueError: an unknown parametrization or distribution, ``"softplus_d"`` without ``dim``,
            sizes that are not positive, or features of another length.
        TypeError: y is not a floating-point tensor.

    Example:

        >>> head = KappaHead(in_features=16, hidden_features=32)
        >>> kappa = head(torch.randn(8, 16))
        >>> kappa.shape, kappa.dtype, bool((kappa > 0).all())
        (torch.Size([8]), torch.float32, True)

    Source:
        Nakamura, Okada and Taniguchi 2023, Appendix B.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int = 512,
        parametrization: str = "softplus",
        dim: int | None = None,
        *,
        distribution: str = "power_spherical",
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
        self.distribution = family_named(distribution).name
        self.scale = 1 if dim is None else dim - 1
        self.hidden = nn.Sequential(
            _Linear(in_features, hidden_features, bias=False),
            nn.BatchNorm1d(hidden_features),
            nn.ReLU(inplace=True),
        )
        self.out = _WideLinear(hidden_features, 1)

    def forward(self, y: Tensor) -> Tensor:
        """The concentrations of a batch of features.

        Args:
            y: features, ``(..., in_features)``. In training BatchNorm needs two samples or more.

        Returns:
            kappa, ``(...)``, inside the domain of the distribution; float32 or better.

        Raises:
            ValueError: features of another length; TypeError: not a floating-point tensor.
        """
        s = self.out(self.hidden(_rows(y, self.in_features)))
        return _concentration(s, y, self.distribution, self.scale)

    def extra_repr(self) -> str:
        return (
            f"parametrization={self.parametrization!r}, dim={self.dim}, "
            f"distribution={self.distribution!r}"
        )


# torch.fx records a call of these functions, and does not look inside.


@torch.fx.wrap
def _rows(y: Tensor, in_features: int) -> Tensor:
    """The features, after a check, as (N, in_features)."""
    check_features("y", y, in_features, any_batch=True)
    return y.reshape(-1, in_features)


@torch.fx.wrap
def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, wide: bool) -> Tensor:
    """A linear map in the type of its weights, also under autocast; ``wide``: at least float32."""
    dtype = torch.promote_types(weight.dtype, torch.float32) if wide else weight.dtype
    with autocast_disabled(x.device):
        return F.linear(x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))


@torch.fx.wrap
def _concentration(s: Tensor, y: Tensor, distribution: str, scale: int) -> Tensor:
    """kappa (...) of s (N, 1), for the features y (..., in_features). It is no view of a tensor,
    since an in-place operation on a view drops the hooks that FSDP has put on it."""
    return into_domain(s.reshape(y.shape[:-1]), family_named(distribution).upper_bound, scale)


class _Linear(nn.Linear):
    """A linear layer that computes in the type of its weights, also under autocast."""

    wide = False

    def forward(self, x: Tensor) -> Tensor:
        return _linear(x, self.weight, self.bias, self.wide)


class _WideLinear(_Linear):
    """A linear layer that computes in float32 or better."""

    wide = True
