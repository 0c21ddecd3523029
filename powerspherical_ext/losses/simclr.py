"""SimCLR, and VI-SimCLR: alignment with an explicit uniformity, estimated from the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import ops
from .._tensors import savable, wide
from ..families import family_named
from ._autocast import autocast_disabled
from ._checks import check_finite, check_matrices, values_are_cheap
from ._distributed import gather as gather_rows
from ._domain import check_inside
from ._pairs import check_temperature, directions, log_prob_ratio, own_indices
from ._reduction import reduce
from ._views import Tensors, views_of

__all__ = ["nt_xent_loss", "simclr_loss", "vi_simclr_loss"]


def simclr_loss(
    pred: Tensors,
    target: Tensors,
    *,
    temperature: float = 0.1,
    reduction: str = "mean",
    gather: bool = False,
) -> Tensor:
    r"""Contrastive loss of one direction: it asks to which image of the batch a target belongs.

    .. code-block:: text

        loss_i = - log [ exp(mu_i . z_i / temperature) / sum_k exp(mu_k . z_i / temperature) ]
        mu = pred / |pred|,   z = target / |target|

    The index k runs over the batch, the image itself included. In the frame of
    :mod:`powerspherical_ext.losses.objective` q is a point mass at z, p is a von Mises-Fisher
    around mu of concentration kappa = 1/temperature, and the data marginal p_D is the mean over the
    batch:

    .. code-block:: text

        J_align + J_uniform = log p(z_i|x_i) - log (1/N) sum_k p(z_i|x_k) = log N - loss_i

    This is eq. 2 of Nakamura et al. SimCLR's own loss is :func:`nt_xent_loss`, which looks for an
    image among both views. Both arguments get a gradient.

    Args:
        pred: predictions, ``(N, d)``; or V such tensors.
        target: projections of the other view, ``(N, d)``; or T <= V such tensors, of the same crops
            as the first T predictions. Pairs i == j are left out.
        temperature: 1/kappa > 0.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        gather: compare with the predictions of all processes (each must hold as many samples).
            The average of the processes' gradients is then that of one process with all samples.

    Returns:
        A scalar; with ``reduction="none"`` the loss of each sample, ``(N,)``, in the list form
        ``(V T - T, N)``.

    Data types:
        The wider of the arguments' types, and float32 at least; autocast is off inside.

    Raises:
        ValueError: shapes, numbers of views or devices that do not fit, a single view, a
            temperature that is not positive, an unknown reduction, or, on the CPU, NaN or infinite
            features.
        TypeError: a tensor that is not floating-point, or a mixture of tensors and lists.

    Example:

        >>> x = torch.eye(3)
        >>> print(f"{simclr_loss(x, x, temperature=0.1):.5f} {simclr_loss(x, x.flip(0)):.5f}")
        0.00009 6.66676

    Source:
        Chen, Kornblith, Norouzi and Hinton, "A Simple Framework for Contrastive Learning", ICML
        2020; this form and its derivation: Nakamura, Okada and Taniguchi 2023, eq. 2, Claim 4.5.
    """
    check_temperature(temperature)
    views = views_of(pred, target)
    dtype = ops.common_dtype(*views.preds, *views.targets)
    with autocast_disabled(views.preds[0].device):
        mus, zs = ([x.to(dtype) for x in xs] for xs in (views.preds, views.targets))
        mus, zs = directions(mus), directions(zs)
        all_mus = [gather_rows(mu) for mu in mus] if gather else mus
        own = own_indices(mus[0], gather)
        losses = [
            F.cross_entropy(zs[j] @ all_mus[i].T / temperature, own, reduction="none")
            for i, j in views.pairs()
        ]
        return reduce(views.stacked(losses), reduction)


def vi_simclr_loss(
    pred: Tensors,
    target: Tensors,
    kappa: Tensors,
    *,
    distribution: str = "power_spherical",
    reduction: str = "mean",
    gather: bool = False,
) -> Tensor:
    r"""Contrastive loss with a concentration for each sample: VI-SimSiam's likelihood relative to
    the batch instead of to the uniform distribution.

    .. code-block:: text

        loss_i = - log [ p(z_i; mu_i, kappa_i) / sum_k p(z_i; mu_k, kappa_k) ]

    p is the density of the family ``distribution``, its normalising constant included. The loss is
    log N - (J_align + J_uniform) with the batch's estimate of J_uniform (eq. 12 and 14). For a von
    Mises-Fisher of one kappa for all samples it is :func:`simclr_loss` at temperature 1/kappa.
    Unlike :func:`vi_simsiam_loss` it is bounded from below: it is never negative, and features that
    have collapsed give log N.

    The densities come from the product of the matrices of mu and z, in time N^2 d and memory N^2.

    Args:
        pred, target, reduction, gather: as in :func:`simclr_loss`.
        kappa: concentration of each prediction, inside its domain, ``(N,)`` or ``(N, 1)``; or V
            such tensors.
        distribution: name of the family, as in :func:`vi_simsiam_loss`.

    Returns:
        A scalar; with ``reduction="none"`` the loss of each sample, ``(N,)``, in the list form
        ``(V T - T, N)``.

    Data types:
        The widest of the arguments' types, and float32 at least; autocast is off inside.

    Raises:
        ValueError: as :func:`simclr_loss`; an unknown distribution; or, on the CPU, a kappa that is
            not positive, not inside the distribution's domain, infinite or NaN.
        TypeError: a tensor that is not floating-point, or a mixture of tensors and lists.

    Example:

        >>> x, kappa = torch.eye(3), torch.full((3,), 20.0)
        >>> print(f"{vi_simclr_loss(x, x, kappa):.7f} {vi_simclr_loss(x, x, kappa / 20):.4f}")
        0.0000019 0.6931

    Source:
        Nakamura, Okada and Taniguchi 2023, eq. 11, 12 and 14, with the posterior of eq. 31.
    """
    family = family_named(distribution)
    views = views_of(pred, target, kappa)
    kappas: Sequence[Tensor] = views.kappas or ()
    check_finite([("kappa", kappas)])
    for k in kappas:
        if values_are_cheap(k):
            check_inside(k, family)
    dtype = ops.common_dtype(*views.preds, *views.targets, *kappas)
    with autocast_disabled(views.preds[0].device):
        preds, kappas = (list(savable(*(x.to(dtype) for x in xs))) for xs in (views.preds, kappas))
        own, d = own_indices(preds[0], gather), preds[0].shape[-1]
        if gather:
            preds, kappas = ([gather_rows(x) for x in xs] for xs in (preds, kappas))
        # A concentrated density varies over angles that are lost in the rounding of a float32
        # cosine, and of the direction of a vector.
        mus, zs = directions(map(wide, preds)), directions(map(wide, views.targets))
        at_modes = [ops.log_prob_at_mode_over_uniform(k, d, family) for k in kappas]
        losses = []
        for i, j in views.pairs():
            ratio = log_prob_ratio(zs[j] @ mus[i].T, kappas[i], d, family)
            losses.append(F.cross_entropy(at_modes[i] + ratio, own, reduction="none"))
        return reduce(views.stacked(losses), reduction)


def nt_xent_loss(
    z1: Tensor,
    z2: Tensor,
    *,
    temperature: float = 0.5,
    reduction: str = "mean",
    gather: bool = False,
) -> Tensor:
    r"""SimCLR's own loss: each of the 2N views looks for its counterpart among the 2N - 1 others.

    .. code-block:: text

        loss_a = - log [ exp(z_a . z_b / temperature) / sum_(c != a) exp(z_a . z_c / temperature) ]

    View b is the other view of a's image, and c runs over both views of the batch. In the frame of
    :mod:`powerspherical_ext.losses.objective` this is :func:`simclr_loss` without a predictor, in
    both directions, with p_D estimated from 2N - 1 views instead of N:

    .. code-block:: text

        J_align + J_uniform = log(2N - 1) - loss_a

    Args:
        z1, z2: projections of the two views, ``(N, d)``.
        temperature: 1/kappa > 0.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        gather: compare with the views of all processes (each must hold as many samples).

    Returns:
        A scalar; with ``reduction="none"`` the loss of each view, ``(2, N)``.

    Data types:
        The wider of the arguments' types, and float32 at least; autocast is off inside.

    Raises:
        ValueError: shapes or devices that do not fit, a temperature that is not positive, an
            unknown reduction, or, on the CPU, NaN or infinite features.
        TypeError: a tensor that is not floating-point.

    Example:

        >>> z = torch.eye(4)
        >>> print(f"{nt_xent_loss(z, z):.4f} {nt_xent_loss(z, z.flip(0)):.4f}")
        0.5944 2.5944

    Source:
        Chen et al. 2020, eq. 1.
    """
    check_temperature(temperature)
    check_matrices((("z1", [z1]), ("z2", [z2])))
    dtype = ops.common_dtype(z1, z2)
    with autocast_disabled(z1.device):
        views = directions((z1.to(dtype), z2.to(dtype)))
        others = [gather_rows(z) if gather else z for z in views]
        own = own_indices(views[0], gather)
        losses = []
        for view in (0, 1):
            logits = views[view] @ torch.cat([others[1 - view], others[view]]).T / temperature
            itself = own.unsqueeze(-1) + len(others[0])
            logits = logits.scatter(1, itself, -torch.inf)
            losses.append(F.cross_entropy(logits, own, reduction="none"))
        return reduce(torch.stack(losses), reduction)
