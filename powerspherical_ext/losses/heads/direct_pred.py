"""DirectPred: a linear predictor that is computed from the projections instead of trained."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._autocast import autocast_disabled
from .._checks import check_features, check_finite
from .._distributed import all_mean

__all__ = ["DirectPred"]


class DirectPred(nn.Module):
    r"""The predictor h of SimSiam, from the eigenvectors of the projections' correlation.

    .. code-block:: text

        S <- m S + (1 - m) mean over the batch of f f^T,    f = z / |z|        (d, d)
        S  = U diag(s) U^T
        W  = U diag( max(sqrt(s / s_max) + eps, floor) ) U^T
        h(z) = W z

    This is h = U Lambda^(1/2) U^T of Nakamura et al., eq. 23 and 24, up to a factor, which no
    cosine sees, and up to eps and floor, which keep directions that have died out within reach. In
    the frame of :mod:`powerspherical_ext.losses.objective` this predictor raises J_uniform (Claim
    4.4): with it the cosine weighs each principal direction of z by its standard deviation (eq.
    25).

    The module has no parameters. Gradients flow through W z to z, and none flows to W. In training
    mode each call updates S over all processes (twice in a step that predicts two views one after
    the other), and every ``every`` calls update W by an eigendecomposition. That takes time d^3,
    which is seconds on a CPU core at d = 2048: raise ``every`` there.

    Args:
        dim: length d of z.
        momentum: m, the part of S that stays.
        eps: added to the square roots.
        floor: least weight of a direction.
        every: number of training calls from one update of W to the next, >= 1.

    Shape:
        - z: ``(N, d)``, not normalised; in training N >= 1.
        - output: ``(N, d)``.

    Data types:
        S and W are computed in float32, or in float64 for a float64 module, and stored in the type
        of the module; autocast is off inside. The output has the type of z.

    Raises:
        ValueError: a dim below 2, a momentum outside [0, 1), a negative eps, a floor that is not
            positive, every below 1, a z of another shape, or, on the CPU, NaN or infinite features.
        TypeError: z is not a floating-point tensor.

    Example:

        >>> h = DirectPred(dim=2, momentum=0.0, eps=0.0)
        >>> z = torch.tensor([[2.0, 0.0], [3.0, 0.0], [-1.0, 0.0], [0.0, 5.0]])
        >>> h(z)[0]                                       # the direction of three of the four
        tensor([2., 0.])
        >>> h.correlation.diagonal(), h.weight.diagonal()
        (tensor([0.7500, 0.2500]), tensor([1.0000, 0.5774]))

    Source:
        Tian, Chen and Ganguli, "Understanding Self-Supervised Learning Dynamics without Contrastive
        Pairs", ICML 2021, section 4, whose settings for an update in every step are the defaults;
        as inference: Nakamura, Okada and Taniguchi 2023, eq. 23 to 25.
    """

    correlation: Tensor  # S, (d, d)
    weight: Tensor  # W, (d, d)

    def __init__(
        self,
        dim: int,
        *,
        momentum: float = 0.3,
        eps: float = 0.01,
        floor: float = 1e-4,
        every: int = 1,
    ) -> None:
        super().__init__()
        if dim < 2:
            raise ValueError(f"dim must be at least 2, got {dim}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        if not eps >= 0:
            raise ValueError(f"eps must be >= 0, got {eps}")
        if not floor > 0:
            raise ValueError(f"floor must be positive, got {floor}")
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.dim, self.momentum, self.eps, self.floor, self.every = dim, momentum, eps, floor, every
        self.register_buffer("correlation", torch.zeros(dim, dim))
        self.register_buffer("weight", torch.eye(dim))
        self._calls = 0  # in training

    def forward(self, z: Tensor) -> Tensor:
        """The predictions W z, after an update of W in training mode.

        Args:
            z: projections, ``(N, d)``, not normalised; in training N >= 1.

        Returns:
            ``(N, d)``, in the type of z.

        Raises:
            ValueError, TypeError: as the class says, for z.
        """
        z = _checked(z, self.dim)
        if not self.training:
            return _predicted(z, self.weight)
        if self.every > 1 and isinstance(z, torch.fx.Proxy):
            raise ValueError(
                "every must be 1 in a module that torch.fx traces in training mode, got "
                f"{self.every}: a trace records one call, and does not count calls"
            )
        gain = (self.eps, self.floor) if self._calls % self.every == 0 else None
        weight = _updated(z, self.correlation, self.weight, self.momentum, gain)
        self._calls += 1
        return _predicted(z, weight)

    def extra_repr(self) -> str:
        return (
            f"dim={self.dim}, momentum={self.momentum}, eps={self.eps}, floor={self.floor}, "
            f"every={self.every}"
        )


# torch.fx records a call of these functions, and does not look inside.


@torch.fx.wrap
def _checked(z: Tensor, dim: int) -> Tensor:
    check_features("z", z, dim)
    check_finite([("z", [z])])
    return z


@torch.fx.wrap
@torch.no_grad()
def _updated(
    z: Tensor,
    correlation: Tensor,
    weight: Tensor,
    momentum: float,
    gain: tuple[float, float] | None,
) -> Tensor:
    """W, after an update in place of S and, where ``gain`` gives eps and floor, of W."""
    if len(z) == 0:
        raise ValueError("z must hold one sample or more in training, got none")
    dtype = torch.promote_types(correlation.dtype, torch.float32)
    with autocast_disabled(z.device):
        f = F.normalize(z.to(dtype), dim=-1)
        batch = all_mean(f.T @ f / len(f))
        moved = momentum * correlation.to(dtype) + (1 - momentum) * batch
        correlation.copy_(moved)
        if gain is not None:
            eps, floor = gain
            s, u = torch.linalg.eigh(moved)  # ascending
            s = s.clamp_min(0)
            relative = s / s[-1].clamp_min(torch.finfo(dtype).tiny)
            weight.copy_((u * (relative.sqrt() + eps).clamp_min(floor)) @ u.T)
    return weight


@torch.fx.wrap
def _predicted(z: Tensor, weight: Tensor) -> Tensor:
    """W z for each row."""
    dtype = torch.promote_types(z.dtype, torch.float32)
    with autocast_disabled(z.device):
        # A copy, since a call for another view may come before this call's backward pass.
        return (z.to(dtype) @ weight.to(dtype, copy=True)).to(z.dtype)  # W is symmetric
