"""Barlow Twins: alignment and uniformity of the coordinates in place of the samples."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import ops
from ._autocast import autocast_disabled
from ._checks import check_matrices
from ._distributed import gather as gather_rows

__all__ = ["barlow_twins_loss", "cross_correlation"]


def barlow_twins_loss(
    z1: Tensor, z2: Tensor, *, redundancy_weight: float = 5e-3, gather: bool = False
) -> Tensor:
    r"""Drive the correlation matrix of two views' coordinates to the identity.

    .. code-block:: text

        C    = cross_correlation(z1, z2)                                      (d, d)
        loss = sum_i (1 - C_ii)^2  +  redundancy_weight sum_(i != j) C_ij^2
                   J_align                       J_uniform

    In the frame of :mod:`powerspherical_ext.losses.objective` the diagonal is the alignment of the
    two views. The other entries, which are large if two coordinates carry the same information, are
    their uniformity. The sums are analogous, and not equal in value. With standardised coordinates

    .. code-block:: text

        sum_i C_ii = mean over the batch of z1 . z2

    is J_align of a von Mises-Fisher with kappa = 1, up to its normaliser. The loss has the same
    optimum in it, C_ii = 1.

    Args:
        z1, z2: projections of the two views, ``(N, d)``, N >= 2.
        redundancy_weight: lambda, the weight of the second sum.
        gather: correlate over the samples of all processes (each must hold as many).

    Returns:
        A scalar.

    Data types:
        The wider of the arguments' types, and float32 at least; autocast is off inside.

    Raises:
        ValueError: shapes or devices that do not fit, a single sample, a negative weight, or, on
            the CPU, NaN or infinite features.
        TypeError: a tensor that is not floating-point.

    Example:

        >>> z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> print(f"{barlow_twins_loss(z, z):.4f} {barlow_twins_loss(z, z.flip(1)):.4f}")
        0.0000 2.0100

    Source:
        Zbontar, Jing, Misra, LeCun and Deny, "Barlow Twins", ICML 2021, eq. 1 and 2; as inference:
        Nakamura, Okada and Taniguchi 2023, section 4.4.
    """
    if not redundancy_weight >= 0:
        raise ValueError(f"redundancy_weight must be >= 0, got {redundancy_weight}")
    correlation = cross_correlation(z1, z2, gather=gather)
    diagonal = correlation.diagonal()
    alignment = (1 - diagonal).square().sum()
    redundancy = (correlation - torch.diag(diagonal)).square().sum()
    return alignment + redundancy_weight * redundancy


def cross_correlation(z1: Tensor, z2: Tensor, *, gather: bool = False) -> Tensor:
    r"""The correlation over the batch of each coordinate of z1 with each coordinate of z2,
    ``(d, d)``.

    .. code-block:: text

        C_ij = mean_n a_ni b_nj,   a = (z1 - mean(z1)) / sqrt(var(z1) + 1e-5)
                                   b = (z2 - mean(z2)) / sqrt(var(z2) + 1e-5)

    The variance is that of BatchNorm: it is divided by N, and 1e-5 is added.

    Args:
        z1, z2, gather: as in :func:`barlow_twins_loss`.

    Raises:
        ValueError, TypeError: as :func:`barlow_twins_loss`.

    Example:

        >>> z = torch.tensor([[1.0, 2.0], [2.0, 0.0], [3.0, 1.0]])
        >>> cross_correlation(z, z).round(decimals=2)
        tensor([[ 1.0000, -0.5000],
                [-0.5000,  1.0000]])

    Source:
        Zbontar et al. 2021, eq. 2.
    """
    check_matrices((("z1", [z1]), ("z2", [z2])))
    dtype = ops.common_dtype(z1, z2)
    with autocast_disabled(z1.device):
        a, b = z1.to(dtype), z2.to(dtype)
        if gather:
            a, b = gather_rows(a), gather_rows(b)
        if len(a) < 2:
            raise ValueError(f"z1 must hold two samples or more, got {len(a)}")
        return _standardised(a).T @ _standardised(b) / len(a)


def _standardised(z: Tensor, eps: float = 1e-5) -> Tensor:
    centred = z - z.mean(dim=0)
    return centred * (centred.square().mean(dim=0) + eps).rsqrt()
