"""SimCLR, and VI-SimCLR: alignment with an explicit uniformity, estimated from the batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import ops
from ..families import Family
from ._common import autocast_disabled, family_index
from ._processes import gather as gather_rows
from ._processes import rank
from ._views import Views, check_finite, check_pair, pairs, reduce

__all__ = ["nt_xent_loss", "simclr_loss", "vi_simclr_loss"]


def simclr_loss(
    pred: Views,
    target: Views,
    *,
    temperature: float = 0.1,
    reduction: str = "mean",
    gather: bool = False,
) -> Tensor:
    r"""Contrastive loss of one direction: which image of the batch does this target belong to?

    .. code-block:: text

        loss_i = - log [ exp(mu_i . z_i / temperature) / sum_k exp(mu_k . z_i / temperature) ]
        mu = pred / |pred|,   z = target / |target|

    with k over the batch, the image itself included. In the frame of
    :mod:`powerspherical_ext.losses.objective` q is a point mass at z, p a von Mises-Fisher around
    mu of concentration kappa = 1/temperature, and the data marginal p_D the mean over the batch:

    .. code-block:: text

        J_align + J_uniform = log p(z_i|x_i) - log (1/N) sum_k p(z_i|x_k) = log N - loss_i

    This is eq. 2 of Nakamura et al. and not :func:`nt_xent_loss`, SimCLR's own, which looks for an
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

    Example::

        >>> x = torch.eye(3)
        >>> print(f"{simclr_loss(x, x, temperature=0.1):.5f} {simclr_loss(x, x.flip(0)):.5f}")
        0.00009 6.66676

    Source:
        Chen, Kornblith, Norouzi and Hinton, "A Simple Framework for Contrastive Learning", ICML
        2020; this form and its derivation: Nakamura, Okada and Taniguchi 2023, eq. 2, Claim 4.5.
    """
    _check_temperature(temperature)
    views = pairs(pred, target)
    dtype = ops.common_dtype(*(x for pair in views for x in pair))
    with autocast_disabled(views[0][0].device):
        losses = []
        for p, z in views:
            mu = F.normalize(p.to(dtype), dim=-1)
            all_mu = gather_rows(mu) if gather else mu
            logits = F.normalize(z.to(dtype), dim=-1) @ all_mu.T / temperature
            losses.append(F.cross_entropy(logits, _own(mu, gather), reduction="none"))
        each = losses[0] if isinstance(pred, Tensor) else torch.stack(losses)
        return reduce(each, reduction)


def vi_simclr_loss(
    pred: Views,
    target: Views,
    kappa: Views,
    *,
    distribution: str = "power_spherical",
    reduction: str = "mean",
    gather: bool = False,
) -> Tensor:
    r"""Contrastive loss with a concentration for each sample: VI-SimSiam's likelihood relative to
    the batch instead of to the uniform distribution.

    .. code-block:: text

        loss_i = - log [ p(z_i; mu_i, kappa_i) / sum_k p(z_i; mu_k, kappa_k) ]
        p Power Spherical or von Mises-Fisher, its normalising constant included

    that is log N - (J_align + J_uniform) with the batch estimate of J_uniform (eq. 12 and 14). For
    a von Mises-Fisher of one kappa for all samples it is :func:`simclr_loss` at temperature
    1/kappa. Unlike :func:`vi_simsiam_loss` it is bounded: it is never negative, and features that
    collapse give log N.

    Time and memory grow with N^2 (and the density is taken from a matrix product, N^2 d).

    Args:
        pred, target, reduction, gather: as in :func:`simclr_loss`.
        kappa: concentration of each prediction, > 0, ``(N,)`` or ``(N, 1)``; or V such tensors.
        distribution: ``"power_spherical"`` or ``"von_mises_fisher"``.

    Returns:
        A scalar; with ``reduction="none"`` the loss of each sample, ``(N,)``, in the list form
        ``(V T - T, N)``.

    Data types:
        The widest of the arguments' types, and float32 at least; autocast is off inside.

    Raises:
        ValueError: as :func:`simclr_loss`; an unknown distribution; or, on the CPU, a kappa that is
            negative, infinite or NaN.
        TypeError: a tensor that is not floating-point, or a mixture of tensors and lists.

    Example::

        >>> x, kappa = torch.eye(3), torch.full((3,), 20.0)
        >>> print(f"{vi_simclr_loss(x, x, kappa):.7f} {vi_simclr_loss(x, x, kappa / 20):.4f}")
        0.0000019 0.6931

    Source:
        Nakamura, Okada and Taniguchi 2023, eq. 11, 12 and 14, with the posterior of eq. 31.
    """
    family = family_index(distribution)
    views = pairs(pred, target)
    kappas = _kappas(pred, target, kappa)
    dtype = ops.common_dtype(*(x for pair in views for x in pair), *kappas)
    with autocast_disabled(views[0][0].device):
        losses = []
        for (p, z), k in zip(views, kappas, strict=True):
            mu, k = F.normalize(p.to(dtype), dim=-1), k.to(dtype)
            all_mu, all_kappa = (gather_rows(mu), gather_rows(k)) if gather else (mu, k)
            t = F.normalize(z.to(dtype), dim=-1) @ all_mu.T  # [i, k] = mu_k . z_i
            d = p.shape[-1]
            log_p = ops.log_prob_at_mode(all_kappa, d, family)
            log_p = log_p + _log_prob_ratio(t, all_kappa, d, family)
            losses.append(F.cross_entropy(log_p, _own(mu, gather), reduction="none"))
        each = losses[0] if isinstance(pred, Tensor) else torch.stack(losses)
        return reduce(each, reduction)


def nt_xent_loss(
    z1: Tensor,
    z2: Tensor,
    *,
    temperature: float = 0.5,
    reduction: str = "mean",
    gather: bool = False,
) -> Tensor:
    r"""SimCLR's own loss: each of the 2N views looks for its other half among the 2N - 1 others.

    .. code-block:: text

        loss_a = - log [ exp(z_a . z_b / temperature) / sum_(c != a) exp(z_a . z_c / temperature) ]

    b the other view of a's image, and c over both views of the batch. In the frame of
    :mod:`powerspherical_ext.losses.objective` this is :func:`simclr_loss` without a predictor, in
    both directions, and with p_D estimated from 2N - 1 views instead of N:

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

    Example::

        >>> z = torch.eye(4)
        >>> print(f"{nt_xent_loss(z, z):.4f} {nt_xent_loss(z, z.flip(0)):.4f}")
        0.5944 2.5944

    Source:
        Chen et al. 2020, eq. 1.
    """
    _check_temperature(temperature)
    check_pair("z1", z1, "z2", z2)
    dtype = ops.common_dtype(z1, z2)
    with autocast_disabled(z1.device):
        views = [F.normalize(z.to(dtype), dim=-1) for z in (z1, z2)]
        others = [gather_rows(z) if gather else z for z in views]
        own = _own(views[0], gather)
        losses = []
        for view in (0, 1):
            logits = views[view] @ torch.cat([others[1 - view], others[view]]).T / temperature
            itself = own.unsqueeze(-1) + len(others[0])
            logits = logits.scatter(1, itself, -torch.inf)
            losses.append(F.cross_entropy(logits, own, reduction="none"))
        return reduce(torch.stack(losses), reduction)


def _own(rows: Tensor, gathered: bool) -> Tensor:
    """Where the rows of this process stand among all."""
    n = len(rows)
    return torch.arange(n, device=rows.device) + (rank() * n if gathered else 0)


def _log_prob_ratio(t: Tensor, kappa: Tensor, d: int, family: Family) -> Tensor:
    """log p(x) - log p(mu), from the cosine."""
    # Rounding can carry t of a matrix product beyond the poles; the density can be 0 at -1.
    sin2, cos2 = (1 - t) / 2, ((1 + t) / 2).clamp_min(torch.finfo(t.dtype).tiny)
    return family.reference.log_prob_ratio(kappa, d, sin2, cos2)


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be positive and finite, got {temperature}")


def _kappas(pred: Views, target: Views, kappa: Views) -> list[Tensor]:
    """The concentration for each pair of views that is compared, ``(N,)``."""
    is_pair = isinstance(pred, Tensor)
    if is_pair != isinstance(kappa, Tensor):
        raise TypeError(
            "kappa must be a tensor beside tensors and a list beside lists, got "
            f"{type(kappa).__name__} beside {type(pred).__name__}"
        )
    preds = [pred] if isinstance(pred, Tensor) else list(pred)
    given = [kappa] if isinstance(kappa, Tensor) else list(kappa)
    if len(given) != len(preds):
        raise ValueError(
            f"kappa must hold one tensor for each view of pred, {len(preds)}, got {len(given)}"
        )
    n = len(preds[0])
    checked = []
    for k in given:
        if not isinstance(k, Tensor) or not k.is_floating_point():
            kind = k.dtype if isinstance(k, Tensor) else type(k).__name__
            raise TypeError(f"kappa must be a floating-point tensor, got {kind}")
        if k.shape not in ((n,), (n, 1)):
            raise ValueError(
                f"kappa must have shape {(n,)} or {(n, 1)}, one for each sample of pred, "
                f"got {tuple(k.shape)}"
            )
        if k.device != preds[0].device:
            raise ValueError(
                f"kappa must be on the device of pred, {preds[0].device}, got {k.device}"
            )
        check_finite("kappa", k, positive=True)
        checked.append(k.reshape(n))
    if is_pair:
        return checked
    return [checked[i] for i in range(len(preds)) for j in range(len(target)) if i != j]
