"""The uniform distribution on the sphere."""

from __future__ import annotations

import operator
from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from .. import ops, reference
from ..constraints import sphere
from ..families import FAMILIES
from ._arguments import as_size, check_unit, check_value, copy_validation, validates

__all__ = ["HypersphericalUniform"]


class HypersphericalUniform(Distribution):
    r"""Uniform distribution on :math:`S^{d-1}`, the unit sphere of :math:`R^d`.

    .. math:: p(x) = \Gamma(d/2) / (2 \pi^{d/2})

    Args:
        dim: d, the length of the vectors, at least 2. Beware: in the s-vae packages the argument is
            the dimension d - 1 of the sphere as a manifold, so that code from there passes one less
            than is wanted here.
        device: where samples are made.
        dtype: of samples; half precision gives float32 densities.
        validate_args: check values given to `log_prob` (torch's default: yes).
        batch_shape: shape of a batch of independent copies.

    Raises:
        TypeError: ``dim`` is not an integer, or ``dtype`` not a floating-point one.
        ValueError: d < 2.

    Example:
        >>> import torch
        >>> from powerspherical_ext import HypersphericalUniform
        >>> HypersphericalUniform(3).sample((5,)).shape
        torch.Size([5, 3])
        >>> HypersphericalUniform(3).entropy()
        tensor(2.5310)

    Source:
        Mardia and Jupp, "Directional Statistics", 2000, section 9.3.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = sphere
    has_rsample = True

    def __init__(
        self,
        dim: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        validate_args: bool | None = None,
        *,
        batch_shape: Any = (),
    ) -> None:
        if type(dim) is not int:
            dim = _as_int(dim)
        if dim < 2:
            raise ValueError(
                f"HypersphericalUniform: dim must be at least 2, got {dim}: it is the length of "
                "the vectors, and not, as in s-vae code, the dimension of the sphere, which is 1 "
                "less"
            )
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if not dtype.is_floating_point:
            raise TypeError(
                f"HypersphericalUniform: dtype must be a floating-point dtype, got {dtype}"
            )
        self.dim = dim
        pole = torch.zeros(dim, device=device, dtype=dtype)
        pole[0] = 1
        self._pole = pole  # any direction serves: at concentration 0 every family is uniform
        super().__init__(Size(batch_shape), Size((dim,)), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> HypersphericalUniform:
        """The same distribution with a larger batch shape, to which the old one broadcasts.

        Raises:
            RuntimeError: the old batch shape does not broadcast to the new one.

        Example:
            >>> HypersphericalUniform(3).expand((2,)).sample().shape
            torch.Size([2, 3])
        """
        new: HypersphericalUniform = self._get_checked_instance(HypersphericalUniform, _instance)
        new.dim, new._pole = self.dim, self._pole
        batch_shape = self._pole[0].expand(self.batch_shape).expand(batch_shape).shape
        super(HypersphericalUniform, new).__init__(
            batch_shape, self.event_shape, validate_args=False
        )
        copy_validation(self, new)
        return new

    def rsample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Samples of shape ``sample_shape + batch_shape + (d,)``, in the dtype of the distribution.

        Args:
            sample_shape: how many samples to draw for each element of the batch; a number or a
                shape.
            generator: source of the random numbers, as in `RotationallySymmetric.rsample`.
        """
        loc = self._pole.expand(self._extended_shape(as_size(sample_shape)))
        rng_state = ops.new_rng_state(loc.device, generator)
        concentration = loc.new_zeros(())
        return ops.rsample(loc, concentration, rng_state, FAMILIES[0], loc.dtype)

    def sample(self, sample_shape: Any = (), *, generator: torch.Generator | None = None) -> Tensor:
        """The same as `rsample`: there is no parameter to differentiate in."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator=generator)

    def log_prob(self, value: Tensor) -> Tensor:
        """-log surface area, with the shape of ``value`` (..., d) broadcast against the batch.

        The result has the common dtype of ``value`` and the distribution, and at least float32.

        Raises:
            TypeError: ``value`` is not a floating-point tensor.
            ValueError: its shape or device does not fit, or, with ``validate_args``, a vector is
                not of unit length.

        Example:
            >>> HypersphericalUniform(3).log_prob(torch.tensor([[0.0, 0.6, 0.8]]))
            tensor([-2.5310])
        """
        check_value(self, value, self._pole.device)
        if validates(self, value):
            check_unit(f"{type(self).__name__}.log_prob", "value", value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        dtype = ops.common_dtype(value, self._pole)
        return value.new_full(shape, -reference.log_area(self.dim), dtype=dtype)

    @property
    def device(self) -> torch.device:
        """Where samples are made."""
        return self._pole.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of samples."""
        return self._pole.dtype

    @property
    def mean(self) -> Tensor:
        """The origin, shape (..., d)."""
        return torch.zeros_like(self._pole).expand(self._extended_shape())

    @property
    def mode(self) -> Tensor:
        """A direction of highest density, shape (..., d). Every one is; e1 stands for all."""
        return self._pole.expand(self._extended_shape())

    @property
    def variance(self) -> Tensor:
        """Diagonal of the covariance matrix, 1/d, shape (..., d)."""
        return torch.full_like(self._pole, 1 / self.dim).expand(self._extended_shape())

    @property
    def covariance_matrix(self) -> Tensor:
        """I / d, shape (..., d, d)."""
        identity = torch.eye(self.dim, dtype=self._pole.dtype, device=self._pole.device)
        return (identity / self.dim).expand(*self._extended_shape(), self.dim)

    def entropy(self) -> Tensor:
        """log surface area, in nats, shape (...)."""
        value = self._pole.new_tensor(
            reference.log_area(self.dim), dtype=ops.common_dtype(self._pole)
        )
        return value.expand(self.batch_shape)

    def __repr__(self) -> str:
        batch = f", batch_shape={tuple(self.batch_shape)}" if self.batch_shape else ""
        return f"{type(self).__name__}(dim={self.dim}{batch})"


def _as_int(dim: Any) -> int:
    """An integer of NumPy or torch as one of Python."""
    try:
        if isinstance(dim, bool):
            raise TypeError
        return operator.index(dim)
    except TypeError:
        raise TypeError(f"HypersphericalUniform: dim must be an integer, got {dim!r}") from None
