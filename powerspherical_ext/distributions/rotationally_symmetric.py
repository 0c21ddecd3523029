"""What every distribution on the sphere that is symmetric about a mean direction shares."""

from __future__ import annotations

import copy
import inspect
import warnings
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Size, Tensor
from torch.distributions import Distribution

from .. import ops
from .._tensors import everywhere, is_dtensor, same_shape, savable, wide
from ..constraints import finite_nonnegative, sphere
from ..families import Family
from ..fit.maximum_likelihood import estimate, without_repeats
from ._arguments import (
    as_number,
    as_size,
    broadcast_shapes,
    can_validate,
    check_float,
    check_loc,
    check_unit,
    check_value,
    copy_validation,
    validates,
)
from ._concentration_from import (
    angle_of_cap,
    from_angle,
    from_entropy,
    from_kl,
    from_mean_cosine,
)
from ._elsewhere import ATTRIBUTES_ELSEWHERE, wrong_arguments
from ._variances import variances
from .cosine_marginal import CosineMarginal

__all__ = ["RotationallySymmetric"]

_Self = TypeVar("_Self", bound="RotationallySymmetric")


class RotationallySymmetric(Distribution):
    r"""A density on :math:`S^{d-1}` that depends on x only through :math:`t = \mu^\top x`.

    A subclass names its family and adds what is particular to it; shapes, validation, sampling and
    the moments that follow from those of t are here.

    Args:
        loc: mean directions :math:`\mu`, unit vectors, shape (..., d), d >= 2.
        concentration: :math:`\kappa` in the family's domain, shape (...) or a number; 0 is the
            uniform distribution.
        validate_args: check values as well as shapes and dtypes (torch's default: yes). Unchecked,
            every quantity is NaN for a concentration outside of the domain. By default, values are
            not checked where Python cannot read them: in programs that torch.compile, torch.export,
            make_fx or torch.func reads.
        scale: another name of ``concentration``, for code written for the ``power-spherical`` and
            ``s-vae-pytorch`` packages.
        normalize: divide ``loc`` by its length first, as ``torch.nn.functional.normalize`` does.

    The batch dimensions of the two broadcast; both are promoted to their common dtype. A number,
    Python's or NumPy's, takes the dtype of ``loc``, and so does a tensor of integers or booleans.
    A concentration of shape (n, 1) beside ``loc`` of shape (n, d) is refused: in most code it is
    the output of a linear layer, which lacks a ``squeeze(-1)``. All n * n pairs are those of
    ``loc.unsqueeze(-3)`` and a concentration of shape (n, 1).

    Parameters and values may be DTensors of ``torch.distributed.tensor``. Each process then
    computes its own rows, and results are sharded like the batch. A tensor that is sharded along d
    is redistributed first. Beside DTensors, only a scalar concentration may be a plain tensor or a
    number. Validation covers the rows of all processes. ``marginal_t``, ``angle_quantile``, ``fit``
    and the constructors ``with_...`` take no DTensors.

    Raises:
        TypeError: ``loc`` is not a floating-point tensor, or the concentration neither a tensor nor
            a number, or complex.
        ValueError: a shape does not fit, d < 2, or, with ``validate_args``, a mean direction is not
            a unit vector or a concentration is outside of the domain.

    Source:
        Mardia and Jupp, "Directional Statistics", 2000, section 9.3.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"loc": sphere}
    support = sphere
    has_rsample = True
    _family: ClassVar[Family]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "_family" in vars(cls):
            cls.arg_constraints = {"loc": sphere, "concentration": cls._family.concentration}

    def __new__(cls: type[_Self], *args: Any, **kwargs: Any) -> _Self:
        """An object for ``__init__``, whose own error for a wrong keyword would name this class."""
        unknown = [name for name in kwargs if name not in _ARGUMENTS]
        if unknown and cls.__init__ is RotationallySymmetric.__init__:
            raise TypeError(wrong_arguments(cls.__name__, unknown, _ARGUMENTS))
        return super().__new__(cls)

    def __init__(
        self,
        loc: Tensor,
        concentration: Tensor | float | None = None,
        validate_args: bool | None = None,
        *,
        scale: Tensor | float | None = None,
        normalize: bool = False,
    ) -> None:
        name = type(self).__name__
        check_loc(name, loc)
        kappa = scale if concentration is None else concentration
        if kappa is None or (concentration is not None and scale is not None):
            raise TypeError(f"{name}: give exactly one of concentration and scale (its other name)")
        if normalize:
            loc = F.normalize(loc, dim=-1)
        concentration = as_number(name, "concentration", kappa, loc)
        if concentration.dim() == 0:
            concentration = everywhere(concentration, loc)
        if is_dtensor(loc) != is_dtensor(concentration):
            raise TypeError(
                f"{name}: loc and concentration must both be DTensors or both be plain tensors, "
                f"got {type(loc).__name__} and {type(concentration).__name__}: make the plain one "
                "a DTensor by torch.distributed.tensor.distribute_tensor"
            )
        if concentration.device != loc.device:
            raise ValueError(
                f"{name}: concentration must be on the device of loc, {loc.device}, "
                f"got {concentration.device}"
            )
        if concentration.dim() == loc.dim() > 1 and same_shape(
            concentration.shape, (*loc.shape[:-1], 1)
        ):
            raise ValueError(
                f"{name}: concentration must have the batch shape {tuple(loc.shape[:-1])} of loc, "
                f"got {tuple(concentration.shape)}: take concentration.squeeze(-1), or "
                "loc.unsqueeze(-3) if all pairs of mean directions and concentrations are meant"
            )
        try:
            batch_shape = broadcast_shapes(loc.shape[:-1], concentration.shape)
        except RuntimeError:
            raise ValueError(
                f"{name}: concentration must broadcast against the batch shape "
                f"{tuple(loc.shape[:-1])} of loc, got shape {tuple(concentration.shape)}"
            ) from None
        if loc.requires_grad != concentration.requires_grad:  # then a moment may save the other
            loc, concentration = savable(loc, concentration)
        self.loc, self.concentration = loc, concentration  # each is validated in its own dtype
        if validate_args is None and not can_validate(loc):
            validate_args = False
        try:
            super().__init__(batch_shape, loc.shape[-1:], validate_args=validate_args)
        except ValueError:
            if self.arg_constraints["loc"] is sphere:
                check_unit(name, "loc", loc, ", and so does normalize=True")
            raise
        if loc.dtype != concentration.dtype:
            dtype = torch.promote_types(loc.dtype, concentration.dtype)
            loc, concentration = loc.to(dtype), concentration.to(dtype)
        # As given, so that the kernels read and differentiate rows that are not repeated.
        self._unbroadcasted_loc = loc
        self._set_parameters(loc, concentration)

    def _set_parameters(self, loc: Tensor, concentration: Tensor) -> None:
        shape = self._batch_shape + self._event_shape
        self.loc = loc if same_shape(loc.shape, shape) else loc.expand(shape)
        same = same_shape(concentration.shape, self._batch_shape)
        self.concentration = concentration if same else concentration.expand(self._batch_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distribution with a larger batch, whose parameters are views and not copies.

        Args:
            batch_shape: the new batch shape, to which the old one broadcasts.

        Raises:
            RuntimeError: the old batch shape does not broadcast to the new one.

        Example:
            >>> from powerspherical_ext import VonMisesFisher
            >>> VonMisesFisher(torch.tensor([0.0, 1.0]), 2.0).expand((3, 4)).batch_shape
            torch.Size([3, 4])
        """
        new = self._get_checked_instance(RotationallySymmetric, _instance)
        super(RotationallySymmetric, new).__init__(
            Size(batch_shape), self.event_shape, validate_args=False
        )
        new._unbroadcasted_loc = self._unbroadcasted_loc
        new._set_parameters(self.loc, self.concentration)
        copy_validation(self, new)
        return new

    def rsample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Samples ``sample_shape + batch_shape + (d,)``, differentiable in both parameters.

        Samples have the common dtype of ``loc`` and ``concentration``.

        The gradient is pathwise and unbiased: in ``loc`` along the infinitesimal rotation that
        carries it to its new place, in ``concentration`` at a fixed quantile of t. The mean of the
        gradients over many samples is the gradient of the expectation. The gradient of a single
        sample is not the derivative at fixed noise, and has no second derivative.

        For DTensors, the generator of the mesh's first process decides for all processes. The rows
        of all shards are independent, and copies of a replicated row are equal. A batch that is
        sharded along its first dimension, over a mesh of one dimension, has the samples that the
        first process alone would draw for all of it.

        Args:
            sample_shape: how many samples to draw for each element of the batch; a number or a
                shape.
            generator: source of the random numbers, a `torch.Generator` on any device. Default:
                torch's own generator of the device of ``loc``, which `torch.manual_seed` seeds. A
                call takes two integers from it, whatever the size of the sample, and computes all
                random numbers from these. The same two integers give the same samples again.

        Raises:
            TypeError: ``sample_shape`` is neither a shape nor a number, or ``generator`` something
                else than a `torch.Generator`.
            RuntimeError: a second derivative of a sample is asked for.

        Example:
            >>> from powerspherical_ext import PowerSpherical
            >>> loc = torch.tensor([0.6, 0.8], requires_grad=True)
            >>> generator = torch.Generator().manual_seed(0)
            >>> x = PowerSpherical(loc, 100.0).rsample((1000,), generator=generator)
            >>> x.shape
            torch.Size([1000, 2])
            >>> x.mean(0).sum().backward()
            >>> bool(loc.grad.isfinite().all())
            True

        Source:
            Figurnov, Mohamed and Mnih, "Implicit Reparameterization Gradients", NeurIPS 2018, for
            the concentration; Jankowiak and Karaletsos, "Pathwise Derivatives for Multivariate
            Distributions", AISTATS 2019, for the rotation.
        """
        loc, concentration = self._unbroadcasted_loc, self.concentration
        rng_state = ops.new_rng_state(loc.device, generator)
        sample_shape = as_size(sample_shape)
        if sample_shape:
            concentration = concentration.expand(sample_shape + self._batch_shape)
        return ops.rsample(loc, concentration, rng_state, self._family, loc.dtype)

    def sample(self, sample_shape: Any = (), *, generator: torch.Generator | None = None) -> Tensor:
        """Like `rsample`, with the same arguments, shape and dtype, but without gradients."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator=generator)

    def log_prob(self, value: Tensor) -> Tensor:
        r"""Log-density at ``value`` (..., d), with respect to the surface measure, in nats.

        The formula is that of the class. It is evaluated at the directions of ``value`` and
        ``loc``, and is insensitive to first order to the rounding of either norm. The gradients are
        tangent to the sphere. At the antipode of ``loc`` the density of Power Spherical is 0 for a
        positive concentration: there the result is -inf, its gradient in ``value`` and ``loc`` is
        0, and in ``concentration`` that of the normaliser alone. Half precision is read as it is
        and computed, and returned, in float32.

        Args:
            value: unit vectors, shape (..., d), which broadcasts against the batch shape with d.

        Returns:
            The batch shape broadcast against that of ``value`` without d, in the common dtype of
            ``value`` and the parameters, and at least float32.

        Raises:
            TypeError: ``value`` is not a floating-point tensor.
            ValueError: its shape or device does not fit, or, with ``validate_args``, a vector is
                not of unit length.

        Example:
            >>> from powerspherical_ext import PowerSpherical
            >>> p = PowerSpherical(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 10.0]))
            >>> p.log_prob(torch.tensor([0.6, 0.8]))
            tensor([-1.2501, -1.1553])
        """
        check_value(self, value, self.loc.device)
        loc, concentration, family = self._unbroadcasted_loc, self.concentration, self._family
        if self._validate_args:
            if self.support is sphere:
                tolerance = sphere.tolerance(value)
                result = ops.log_prob_on_sphere(value, loc, concentration, family, tolerance)
                if result is not None:
                    return result
            if validates(self, value):
                self._validate_sample(value)
        return ops.log_prob(value, loc, concentration, family)

    def _validate_sample(self, value: Tensor) -> None:
        if self.support is sphere:
            check_unit(f"{type(self).__name__}.log_prob", "value", value)
        else:
            super()._validate_sample(value)

    @property
    def scale(self) -> Tensor:
        """Another name of ``concentration``."""
        return self.concentration

    def __getattr__(self, name: str) -> Any:
        """An error that says what stands for a name of another package."""
        owner, hint = type(self).__name__, ATTRIBUTES_ELSEWHERE.get(name)
        raise AttributeError(
            f"{owner!r} object has no attribute {name!r}" + (f": {hint}" if hint else ""),
            name=name,
            obj=self,
        )

    @property
    def mode(self) -> Tensor:
        """The mean direction, shape (..., d); any direction is one when the concentration is 0."""
        return self.loc

    @property
    def mean(self) -> Tensor:
        r"""E[x] = :math:`A_d(\kappa)\,\mu`, shape (..., d). It is inside the sphere, not on it.

        :math:`A_d` is the `mean_resultant_length`.
        """
        return self.mean_resultant_length().unsqueeze(-1) * self.loc

    def mean_resultant_length(self) -> Tensor:
        r""":math:`A_d(\kappa) = E[\mu^\top x]`, in [0, 1), shape (...).

        .. math::
            \frac{\kappa}{\kappa + d - 1}
            \quad \text{Power Spherical,} \qquad
            \frac{I_{d/2}(\kappa)}{I_{d/2-1}(\kappa)}
            \quad \text{von Mises-Fisher.}

        Spherical Cauchy has no short formula; it is computed by quadrature.

        Example:
            >>> from powerspherical_ext import PowerSpherical
            >>> PowerSpherical(torch.tensor([0.0, 0.0, 1.0]), 2.0).mean_resultant_length()
            tensor(0.5000)
        """
        return ops.mean_resultant_length(self.concentration, self._dim, self._family)

    @property
    def variance(self) -> Tensor:
        """Diagonal of `covariance_matrix`, shape (..., d).

        Example:
            >>> from powerspherical_ext import PowerSpherical
            >>> PowerSpherical(torch.tensor([0.0, 0.0, 1.0]), 2.0).variance
            tensor([0.3000, 0.3000, 0.1500])
        """
        along, orthogonal = variances(self.concentration, self._dim, self._family)
        return _diagonal(self.loc, along, orthogonal)

    @property
    def covariance_matrix(self) -> Tensor:
        r"""The covariance matrix of x, shape (..., d, d).

        .. math:: \mathrm{Var}[t]\, m m^\top + \frac{E[1 - t^2]}{d - 1} (I - m m^\top),
            \qquad m = \mu / |\mu|

        Example:
            >>> from powerspherical_ext import PowerSpherical
            >>> PowerSpherical(torch.tensor([0.6, 0.8]), 1.0).covariance_matrix
            tensor([[ 0.4100, -0.1200],
                    [-0.1200,  0.3400]])
        """
        along, orthogonal = variances(self.concentration, self._dim, self._family)
        dtype = ops.common_dtype(self.loc)
        m = wide(self.loc)
        m = (m / m.square().sum(-1, keepdim=True).sqrt()).to(dtype)
        excess = (along - orthogonal).to(dtype)[..., None, None]
        diagonal = everywhere(torch.eye(self._dim, dtype=torch.bool, device=m.device), m)
        others = excess * (m.unsqueeze(-1) * m.unsqueeze(-2))
        return torch.where(diagonal, _diagonal(self.loc, along, orthogonal).unsqueeze(-1), others)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, shape (...): log surface area - KL(p || uniform).

        It is 0 at some concentration. Beside it a float32 entropy is right to a rounding of its
        own. A float64 entropy is right to a few roundings of the two terms, which nearly cancel.

        Example:
            >>> from powerspherical_ext import PowerSpherical
            >>> PowerSpherical(torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 10.0])).entropy()
            tensor([2.5310, 1.0422])
        """
        return ops.entropy(self.concentration, self._dim, self._family)

    @classmethod
    def fit(
        cls: type[_Self],
        samples: Tensor,
        weights: Tensor | None = None,
        dim: int = -2,
        *,
        max_iterations: int = 100,
        tolerance: float | None = None,
        validate_args: bool | None = None,
    ) -> _Self:
        r"""The distribution of maximum likelihood.

        .. math:: \hat\mu, \hat\kappa = \arg\max_{\mu, \kappa} \sum_i w_i \log p(x_i; \mu, \kappa)

        The estimate is a local maximum, found from the direction of :math:`\sum_i w_i x_i`. Where
        the density is 0 at the antipode of the mean direction, for d = 2, the likelihood has a
        local maximum between any two neighbouring antipodes of samples. The computation is in
        float64, on devices that have it; the modules of ``powerspherical_ext.fit`` describe it.

        K sets of weights on the same n samples are K fits: samples (n, d), weights (K, n), as in a
        mixture, whose weights `fit_mixture` finds. The samples are then read by matrix products,
        and are not repeated: beyond its arguments the computation takes the memory of a few tensors
        of shape (K, n).

        Args:
            samples: unit vectors, shape (..., n, d) with the samples along ``dim``.
            weights: non-negative, broadcastable against the shape of ``samples`` without its last
                dimension; any scale. Default: all equal. With ``validate_args=False``, a fit whose
                weights are all 0 has NaN for its ``loc`` and its ``concentration``. It changes no
                other fit of the batch.
            dim: which dimension of ``samples`` numbers the samples; not the last one.
            max_iterations: how many steps the estimator of the mean direction may take.
            tolerance: converged when the tangential gradient is at most this part of the sum of the
                lengths of its terms, or rounding, and the last step of the concentration at most
                this part of its scale. Default: 1e-10 for float64, else 1e-6.
            validate_args: check values as well as shapes and dtypes (torch's default: yes).

        Returns:
            A distribution whose batch shape is what is left of that of the samples, in their dtype
            and at least float32; its parameters are differentiable once in samples and weights. The
            concentration is 0 if no positive one is more likely with that mean direction. It has an
            upper bound (1e8 for families of exponential form), which it takes for samples that are
            all the same, and then has no derivative.

        Raises:
            TypeError: an argument is no tensor, or not of a floating-point dtype.
            ValueError: a shape does not fit, there are no samples, or, with ``validate_args``, a
                sample is not a unit vector, a weight negative, NaN or infinite, or all weights of a
                fit are 0.
            NotImplementedError: no estimator is known for this family.

        Warns:
            RuntimeWarning: not converged after ``max_iterations``.

        Example:
            >>> from powerspherical_ext import PowerSpherical
            >>> x = torch.tensor([[0.6, 0.8], [0.8, 0.6], [0.0, 1.0]])
            >>> PowerSpherical.fit(x).loc
            tensor([0.4982, 0.8671])

        Source:
            Mardia and Jupp 2000, chapter 10, for von Mises-Fisher; Cantarella and Schumacher,
            "Computing the Conformal Barycenter", 2022, for spherical Cauchy; for Power Spherical
            it is Newton's method, which docs/numerics.md describes.
        """
        name = f"{cls.__name__}.fit"
        estimator = cls._family.fit
        if estimator is None:
            raise NotImplementedError(
                f"{name}: no maximum likelihood estimator is known for {cls._family.name}"
            )
        check_float(name, "samples", samples)
        if samples.dim() < 2 or samples.shape[-1] < 2:
            raise ValueError(
                f"{name}: samples must have shape (..., n, d) with d >= 2, "
                f"got {tuple(samples.shape)}"
            )
        axis = dim if dim < 0 else dim - samples.dim()
        if not -samples.dim() <= axis <= -2:
            raise ValueError(
                f"{name}: dim must be a dimension of samples {tuple(samples.shape)} other than the "
                f"last, got {dim}"
            )
        if weights is None:
            weights = samples.new_ones(())
        check_float(name, "weights", weights)
        try:
            shape = broadcast_shapes(samples.shape[:-1], weights.shape)
        except RuntimeError:
            raise ValueError(
                f"{name}: weights must broadcast against the shape {tuple(samples.shape[:-1])} of "
                f"samples without its last dimension, got shape {tuple(weights.shape)}"
            ) from None
        if shape[axis + 1] == 0:
            raise ValueError(f"{name}: there must be at least one sample, got {tuple(shape)}")
        validate = cls._validates(validate_args)
        if validate and not finite_nonnegative.check(weights).all():
            raise ValueError(f"{name}: weights must be non-negative and finite")
        samples, weights = samples.movedim(axis, -2), weights.expand(shape).movedim(axis + 1, -1)
        if validate:
            check_unit(name, "samples", without_repeats(samples))
            _check_mass(name, weights)
        dtype = ops.common_dtype(samples)
        if tolerance is None:
            tolerance = 1e-10 if dtype == torch.float64 else 1e-6
        samples, weights = savable(samples, weights)
        result = estimate(cls._family, estimator, samples, weights, max_iterations, tolerance)
        failed = (result.gradient > tolerance) | (result.change > tolerance)
        if failed.any():
            warnings.warn(
                f"{name}: {int(failed.sum())} of {failed.numel()} fits did not converge to "
                f"{tolerance:g} in {max_iterations} iterations: largest relative gradient in loc "
                f"{float(result.gradient.max()):.2g}, change of concentration "
                f"{float(result.change.max()):.2g}",
                RuntimeWarning,
                stacklevel=2,
            )
        return cls(result.mu.to(dtype), result.kappa.to(dtype), validate_args=validate_args)

    @classmethod
    def with_kl_to_uniform(
        cls: type[_Self], loc: Tensor, nats: Tensor | float, *, validate_args: bool | None = None
    ) -> _Self:
        r"""The distribution whose divergence from the uniform one is given, as a rate is.

        .. math:: \mathrm{KL}(p \,\|\, \text{uniform}) = \text{nats}

        The concentration is found by Newton's method to the accuracy of the dtype. It is
        differentiable in ``nats``, by the derivative of the divergence at the solution.

        Args:
            loc: mean directions, unit vectors, shape (..., d), d >= 2.
            nats: shape (...) or a number, from 0, the uniform distribution, to the divergence at
                the largest concentration. At 0 its gradient is infinite.
            validate_args: check values as well as shapes and dtypes (torch's default: yes).
                Unchecked, a concentration that does not exist is NaN.

        Raises:
            TypeError: ``loc`` is not a floating-point tensor, or ``nats`` neither a tensor nor a
                real number.
            ValueError: a shape or device does not fit, or, with ``validate_args``, there is no such
                concentration; the message names the range.

        Example:
            >>> from powerspherical_ext import PowerSpherical
            >>> loc = torch.tensor([0.0, 0.0, 0.0, 1.0])
            >>> PowerSpherical.with_kl_to_uniform(loc, nats=4.0).concentration
            tensor(63.7873)
        """
        name = f"{cls.__name__}.with_kl_to_uniform"
        kappa = from_kl(name, cls._family, loc, nats, cls._validates(validate_args))
        return cls(loc, kappa, validate_args=validate_args)

    @classmethod
    def with_entropy(
        cls: type[_Self], loc: Tensor, nats: Tensor | float, *, validate_args: bool | None = None
    ) -> _Self:
        r"""The distribution whose differential entropy is given.

        The entropy is the logarithm of the surface area, less the divergence from the uniform
        distribution, by which the concentration is found: see `with_kl_to_uniform`, whose arguments
        and errors this method has.

        Args:
            nats: shape (...) or a number, up to the logarithm of the surface area, which is the
                entropy of the uniform distribution. It may be negative.

        Example:
            >>> from powerspherical_ext import VonMisesFisher
            >>> p = VonMisesFisher.with_entropy(torch.tensor([0.0, 0.0, 1.0]), nats=1.0)
            >>> p.concentration, p.entropy()
            (tensor(6.2829), tensor(1.))
        """
        name = f"{cls.__name__}.with_entropy"
        kappa = from_entropy(name, cls._family, loc, nats, cls._validates(validate_args))
        return cls(loc, kappa, validate_args=validate_args)

    @classmethod
    def with_mean_cosine(
        cls: type[_Self], loc: Tensor, cosine: Tensor | float, *, validate_args: bool | None = None
    ) -> _Self:
        r"""The distribution whose mean resultant length E[:math:`\mu^\top x`] is given.

        Args:
            loc, validate_args: as in `with_kl_to_uniform`, whose errors this method has.
            cosine: shape (...) or a number, from 0, the uniform distribution, to below 1. The
                concentration is differentiable in it.

        Example:
            >>> from powerspherical_ext import PowerSpherical
            >>> p = PowerSpherical.with_mean_cosine(torch.tensor([0.0, 0.0, 1.0]), cosine=0.75)
            >>> p.concentration, p.mean_resultant_length()
            (tensor(6.), tensor(0.7500))
        """
        name = f"{cls.__name__}.with_mean_cosine"
        kappa = from_mean_cosine(name, cls._family, loc, cosine, cls._validates(validate_args))
        return cls(loc, kappa, validate_args=validate_args)

    @classmethod
    def with_angle_quantile(
        cls: type[_Self],
        loc: Tensor,
        angle: Tensor | float,
        p: Tensor | float,
        *,
        validate_args: bool | None = None,
    ) -> _Self:
        r"""The distribution of which a cap of a given angle holds a given probability.

        .. math:: P(\mu^\top x \ge \cos \text{angle}) = p

        It is the inverse of `angle_quantile`, and differentiable in both numbers, by the implicit
        function theorem. Each of its steps of Newton's method integrates tails, so that it takes
        several times as long as a quantile.

        Args:
            loc, validate_args: as in `with_kl_to_uniform`, whose errors this method has.
            angle: between the mean direction and the edge of the cap, in radians, shape (...) or a
                number. It is at most that of a cap of the uniform distribution which holds p.
            p: a probability between 0 and 1, broadcastable against ``angle``.

        Example:
            >>> from powerspherical_ext import VonMisesFisher
            >>> loc = torch.tensor([0.0, 0.0, 1.0])
            >>> p = VonMisesFisher.with_angle_quantile(loc, angle=0.1, p=0.9)
            >>> p.concentration, p.angle_quantile(0.9)
            (tensor(460.9009), tensor(0.1000))
        """
        name = f"{cls.__name__}.with_angle_quantile"
        kappa = from_angle(name, cls._family, loc, angle, p, cls._validates(validate_args))
        return cls(loc, kappa, validate_args=validate_args)

    def angle_quantile(self, p: Tensor | float) -> Tensor:
        r"""The angle in radians, from the mean direction, of the cap that holds the probability p.

        This is the confidence cone: P(:math:`\mu^\top x \ge` cos angle) = p. Small angles keep
        their digits, which ``marginal_t.icdf`` loses in the cosine. It is differentiable in p and
        in the concentration.

        Args:
            p: a probability, broadcastable against the batch.

        Returns:
            Shape (...), in the common dtype of p and the concentration, and float32 at least.

        Raises:
            TypeError: p is neither a tensor nor a real number.
            ValueError: with ``validate_args``, p is not from 0 to 1. Unchecked, the result is NaN.

        Example:
            >>> from powerspherical_ext import VonMisesFisher
            >>> p = VonMisesFisher(torch.tensor([0.0, 0.0, 1.0]), torch.tensor([1e2, 1e6]))
            >>> p.angle_quantile(0.68)
            tensor([0.1511, 0.0015])
        """
        name = f"{type(self).__name__}.angle_quantile"
        validate = self._validate_args
        return angle_of_cap(name, self._family, self.concentration, p, self._dim, validate)

    @classmethod
    def _validates(cls, validate_args: bool | None) -> bool:
        return cls._validate_args if validate_args is None else validate_args

    @property
    def marginal_t(self) -> CosineMarginal:
        r"""The distribution of :math:`t = \mu^\top x`, a `CosineMarginal` of the batch shape.

        Example:
            >>> from powerspherical_ext import VonMisesFisher
            >>> t = VonMisesFisher(torch.tensor([0.0, 0.0, 1.0]), 10.0).marginal_t
            >>> t.icdf(torch.tensor(0.05)).acos().rad2deg().round()  # 95 % are nearer
            tensor(46.)
        """
        return CosineMarginal(self)

    def _in_float64(self: _Self) -> _Self:
        """The same distribution with its parameters in float64 (on devices that have it), for
        differences of its quantities that nearly cancel."""
        new = copy.copy(self)
        new._unbroadcasted_loc = wide(self._unbroadcasted_loc)
        new._set_parameters(wide(self.loc), wide(self.concentration))
        return new

    @property
    def _dim(self) -> int:
        return self._event_shape[0]


_SIGNATURE = inspect.signature(RotationallySymmetric.__init__)
_ARGUMENTS = tuple(_SIGNATURE.parameters)[1:]
RotationallySymmetric.__new__.__signature__ = _SIGNATURE  # type: ignore[attr-defined]


def _diagonal(loc: Tensor, along: Tensor, orthogonal: Tensor) -> Tensor:
    """along m_i^2 + orthogonal (1 - m_i^2) of m = loc/|loc|, (..., d), for variances (...).

    It is computed in float64, on devices that have it. For the largest m_i^2, which may be near 1,
    1 - m_i^2 is the sum of the others, since Var[t] can be a millionth of what it is multiplied by.
    """
    along, orthogonal = along.unsqueeze(-1), orthogonal.unsqueeze(-1)
    square = wide(loc).square()
    total = square.sum(-1, keepdim=True)
    index = square.argmax(-1, keepdim=True)
    largest, others = square.gather(-1, index), square.scatter(-1, index, 0.0)
    exact = (along * largest + orthogonal * others.sum(-1, keepdim=True)) / total
    diagonal = torch.addcmul(orthogonal, (along - orthogonal) / total, square)
    return diagonal.scatter(-1, index, exact).to(ops.common_dtype(loc))


def _check_mass(name: str, weights: Tensor) -> None:
    """ValueError unless each fit of the batch has weight, for weights (..., n)."""
    empty = ~(weights.sum(-1) > 0)
    if not empty.any():
        return
    if empty.dim() == 0:
        raise ValueError(f"{name}: weights must not all be 0")
    indices = [tuple(index) for index in empty.nonzero().tolist()]
    shown = ", ".join(str(i[0] if len(i) == 1 else i) for i in indices[:8])
    more = f" and {len(indices) - 8} more" if len(indices) > 8 else ""
    raise ValueError(
        f"{name}: the weights of a fit must not all be 0, but they are at index {shown}{more} of "
        f"the batch {tuple(empty.shape)}; with validate_args=False these fits are NaN"
    )
