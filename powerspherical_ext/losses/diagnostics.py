"""Numbers to log during training: how far the features have collapsed, what kappa predicts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import ops
from ..families import family_named

__all__ = ["feature_std", "mean_resultant_length"]


def mean_resultant_length(
    kappa: Tensor, dim: int, *, distribution: str = "power_spherical"
) -> Tensor:
    r"""The cosine between mu and z that a distribution of this concentration expects.

    .. code-block:: text

        E[mu . z] = kappa / (kappa + dim - 1)                  "power_spherical"

    It is a certainty in [0, 1) that compares across dimensions, as kappa itself does not. Beside
    the cosine observed between views it tells, without labels, whether kappa is calibrated.

    Args:
        kappa: concentrations, any shape, >= 0.
        dim: length d of the latent vectors.
        distribution: name of the family, as in :func:`vi_simsiam_loss`.

    Returns:
        The shape of kappa, in its type and at least float32. NaN for a kappa outside of the domain.

    Raises:
        ValueError: an unknown distribution.

    Example:

        >>> mean_resultant_length(torch.tensor([0.0, 127.0]), dim=128)
        tensor([0.0000, 0.5000])

    Source:
        De Cao and Aziz 2020: for a Power Spherical (1 + mu . z) / 2 is
        Beta((d - 1)/2 + kappa, (d - 1)/2).
    """
    return ops.mean_resultant_length(kappa, dim, family_named(distribution))


def feature_std(z: Tensor) -> Tensor:
    r"""The standard deviation over the batch of each coordinate of z / \|z\|, averaged over the d
    coordinates.

    It is the usual alarm for collapse: 1/sqrt(d) for directions spread over the whole sphere, and 0
    if all samples have the same direction.

    Args:
        z: embeddings, ``(N, d)``, N >= 2; the length of a row does not matter.

    Returns:
        A detached scalar, float32 or better.

    Raises:
        ValueError: z has another shape; TypeError: z is a list of views.

    Example:

        >>> _ = torch.manual_seed(0)
        >>> spread, collapsed = torch.randn(1000, 100), torch.ones(8, 100)
        >>> print(f"{feature_std(spread):.3f} {feature_std(collapsed):.3f}")
        0.100 0.000

    Source:
        Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021, section 4.1.
    """
    if isinstance(z, (list, tuple)):
        raise TypeError(f"z must be one tensor of shape (N, d), got a {type(z).__name__}")
    if z.ndim != 2 or len(z) < 2:
        raise ValueError(f"z must have shape (N, d) with N of 2 or more, got {tuple(z.shape)}")
    dtype = torch.promote_types(z.dtype, torch.float32)
    return F.normalize(z.detach().to(dtype), dim=-1).std(dim=0).mean()
