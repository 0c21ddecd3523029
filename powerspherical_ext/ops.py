"""The row-wise operations, and all that is known here of torch.library, autograd and transforms.

``family`` is an index into ``reference.FAMILIES``. Each operation takes one of three ways:

* a functorch transform or forward-mode AD is active, or there is no kernel for the device: the
  plain-torch function of ``reference``, which supports every transform;
* gradients are wanted: an autograd.Function over the two raw ops;
* else the raw op.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import _library, reference

__all__ = [
    "common_dtype",
    "entropy",
    "kl",
    "kl_uniform",
    "log_prob",
    "log_prob_at_mode",
    "mean_resultant_length",
    "new_rng_state",
    "rsample",
    "transform_active",
    "vi_simsiam_loss",
]

_KERNEL_DEVICES = ("cpu",) * _library.CPU_KERNELS + ("cuda",) * _library.CUDA_KERNELS
_VALUE, _MU, _KAPPA, _SUMMED = 1, 2, 4, 8  # bits of `wanted`: see Wanted in csrc/tensor.h

_INT64 = torch.iinfo(torch.int64)

# The scalar functions of (kappa, d). The raw op takes the index: ScalarFunction in
# csrc/scalar_function.h.
SCALAR_FUNCTIONS = (
    "log_prob_at_mode",
    "log_prob_at_mode_dkappa",
    "log_prob_at_mode_dkappa2",
    "mean_resultant_length",
    "mean_resultant_length_dkappa",
    "kl_uniform",
    "kl_uniform_dkappa",
)

# KL and its derivatives: KlFunction in csrc/kl.h.
_KL, _KL_DKAPPA_P, _KL_DKAPPA_Q, _KL_DSIN2 = range(4)


def log_prob(value: Tensor, loc: Tensor, concentration: Tensor, family: int) -> Tensor:
    """Log-density at ``value`` (..., d) for ``loc`` (..., d) and ``concentration`` (...).

    Computed and returned in the common dtype of the three, and at least in float32.
    """
    if _needs_reference(value):
        return _reference_log_prob(value, loc, concentration, family)
    value, loc, concentration = _for_kernel(value, loc, concentration)
    if torch.is_grad_enabled() and (
        value.requires_grad or loc.requires_grad or concentration.requires_grad
    ):
        result: Tensor = _LogProb.apply(value, loc, concentration, family)
        return result
    return _raw.log_prob.default(value, loc, concentration, family)  # type: ignore[no-any-return]


def rsample(loc: Tensor, concentration: Tensor, rng_state: Tensor, family: int) -> Tensor:
    """One sample per row of ``loc`` (..., d) broadcast against ``concentration`` (...), in their
    common dtype and at least in float32.

    A pure function of its arguments: ``rng_state`` holds seed and offset (see `new_rng_state`).
    """
    if _needs_reference(loc):
        loc, concentration = _promote(loc, concentration)
        return reference.rsample(loc, concentration, rng_state, family)
    loc, concentration = _for_kernel(loc, concentration)
    if torch.is_grad_enabled() and (loc.requires_grad or concentration.requires_grad):
        result: Tensor = _RSample.apply(loc, concentration, rng_state, family)
        return result
    return _raw.rsample.default(loc, concentration, rng_state, family)  # type: ignore[no-any-return]


def log_prob_at_mode(concentration: Tensor, d: int, family: int) -> Tensor:
    """log p(mu), shape (...): the log-density at the mode."""
    return scalar_function("log_prob_at_mode", concentration, d, family)


def mean_resultant_length(concentration: Tensor, d: int, family: int) -> Tensor:
    """E[t], shape (...)."""
    return scalar_function("mean_resultant_length", concentration, d, family)


def kl_uniform(concentration: Tensor, d: int, family: int) -> Tensor:
    """KL(p || uniform), shape (...)."""
    return scalar_function("kl_uniform", concentration, d, family)


def entropy(concentration: Tensor, d: int, family: int) -> Tensor:
    """log surface area - KL(p || uniform), shape (...)."""
    return reference.log_area(d) - kl_uniform(concentration, d, family)


def scalar_function(function: str, concentration: Tensor, d: int, family: int) -> Tensor:
    """A scalar function of `SCALAR_FUNCTIONS`, elementwise on ``concentration`` (...)."""
    (concentration,) = _promote(concentration)
    if _needs_reference(concentration):
        return _reference_scalar_function(function, concentration, d, family)
    if torch.is_grad_enabled() and concentration.requires_grad:
        result: Tensor = _ScalarFunction.apply(concentration, d, family, function)
        return result
    return _raw.scalar_function.default(concentration, d, family, SCALAR_FUNCTIONS.index(function))  # type: ignore[no-any-return]


def kl(
    kappa_p: Tensor, kappa_q: Tensor, loc_p: Tensor, loc_q: Tensor, family_p: int, family_q: int
) -> Tensor:
    """KL(p || q) of two distributions with the parameters (...) and (..., d), shape (...)."""
    kappa_p, kappa_q, loc_p, loc_q = _promote(kappa_p, kappa_q, loc_p, loc_q)
    d = loc_p.shape[-1]
    sin2, cos2 = reference.half_angle(loc_p, loc_q)
    divergence = reference.KL.get((family_p, family_q))
    if divergence is None:
        raise NotImplementedError("this KL divergence is not known")
    if _needs_reference(sin2):
        return divergence(kappa_p, kappa_q, d, sin2, cos2)
    if torch.is_grad_enabled() and (
        kappa_p.requires_grad or kappa_q.requires_grad or sin2.requires_grad
    ):
        result: Tensor = _Kl.apply(kappa_p, kappa_q, sin2, cos2, d, family_p, family_q)
        return result
    return _raw.kl.default(kappa_p, kappa_q, sin2, cos2, d, family_p, family_q, _KL)  # type: ignore[no-any-return]


def vi_simsiam_loss(
    pred: Tensor,
    target: Tensor,
    kappa: Tensor,
    family: int,
    beta: float = 0.0,
    weight: Tensor | None = None,
) -> Tensor:
    """-log p(x/|x|; mu/|mu|, kappa) - log_area for mu = ``pred`` and x = ``target`` (..., d), and
    ``kappa`` (...): shape (...). The vectors are read as they are, in half precision, too.

    With ``weight``, a constant that broadcasts against (...): the sum of weight * loss, a scalar.
    That tells the gradients but for a factor, which is 1 when the loss is not scaled, and the pass
    over the data that computes the loss computes them as well.
    """
    dtype = common_dtype(pred, target, kappa)
    vectors = torch.promote_types(pred.dtype, target.dtype)
    if dtype is torch.float64:
        vectors = dtype
    pred, target, kappa = pred.to(vectors), target.to(vectors), kappa.to(dtype)
    if _needs_reference(pred):
        return _reference_vi_simsiam_loss(pred, target, kappa, family, beta, weight)
    if torch.is_grad_enabled() and (
        pred.requires_grad or target.requires_grad or kappa.requires_grad
    ):
        result: Tensor = _VISimSiamLoss.apply(pred, target, kappa, family, beta, weight)
        return result
    loss = _raw.vi_simsiam_loss.default(kappa, pred, target, kappa, family, beta, 0)[0]
    return _weighted_sum(loss, weight)


def new_rng_state(device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """Seed and offset, int64 of shape (2,), drawn from torch's generator or the one given."""
    # Without the keyword where it says nothing: it would double the time of this call.
    options: dict[str, Any] = {} if generator is None else {"generator": generator}
    source = device if generator is None else generator.device
    state: Tensor = torch.randint(
        _INT64.min, _INT64.max, (2,), dtype=torch.int64, device=source, **options
    )
    return state if source == device else state.to(device)


def common_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype to compute in: the tensors' promoted one, and at least float32."""
    return reduce(torch.promote_types, (x.dtype for x in tensors), torch.float32)


def _promote(*tensors: Tensor) -> tuple[Tensor, ...]:
    if _has_one_dtype(tensors):
        return tensors
    dtype = common_dtype(*tensors)
    return tuple(x.to(dtype) for x in tensors)


def _for_kernel(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors as a kernel takes them; the last is the concentration.

    Kernels read vectors of any dtype, and compute in that of the concentration; but on CUDA those
    that compute in float64 read nothing else.
    """
    if _has_one_dtype(tensors):
        return tensors
    *vectors, concentration = tensors
    dtype = common_dtype(*tensors)
    if dtype is torch.float64 and concentration.device.type == "cuda":
        return _promote(*tensors)
    return *vectors, concentration.to(dtype)


def _has_one_dtype(tensors: tuple[Tensor, ...]) -> bool:
    """Whether all are float32, or all float64."""
    first = tensors[0].dtype
    if first is not torch.float32 and first is not torch.float64:
        return False
    for x in tensors:  # noqa: SIM110  (all(...) takes longer than the kernel of a small batch)
        if x.dtype is not first:
            return False
    return True


def transform_active() -> bool:
    """Whether a functorch transform or forward-mode AD is running. Both names are private to torch:
    tests/ops/test_transforms.py checks that they still answer."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def _needs_reference(tensor: Tensor) -> bool:
    return tensor.device.type not in _KERNEL_DEVICES or transform_active()


def _summed(grad: Tensor) -> int:
    """The bit that asks for the gradients of expanded vectors summed, which CPU kernels can do."""
    return _SUMMED if grad.device.type == "cpu" else 0


def _sum_to(grad: Tensor, like: Tensor) -> Tensor:
    return grad if grad.shape == like.shape else grad.sum_to_size(like.shape)


def _differentiable_vjp(
    function: Callable[..., Tensor], tensors: tuple[Tensor, ...], grad: Tensor
) -> list[Tensor | None]:
    """The vector-Jacobian product as torch operations, for create_graph=True."""
    with torch.enable_grad():
        output = function(*tensors)
    wanted = [i for i, x in enumerate(tensors) if x.requires_grad]
    grads = torch.autograd.grad(output, [tensors[i] for i in wanted], grad, create_graph=True)
    result: list[Tensor | None] = [None] * len(tensors)
    for i, value in zip(wanted, grads, strict=True):
        result[i] = value
    return result


def _reference_log_prob(value: Tensor, loc: Tensor, concentration: Tensor, family: int) -> Tensor:
    value, loc, concentration = _promote(value, loc, concentration)
    return reference.log_prob(value, loc, concentration, family)


def _reference_scalar_function(function: str, concentration: Tensor, d: int, family: int) -> Tensor:
    result: Tensor = getattr(reference.FAMILIES[family], function)(concentration, d)
    return result


class _ScalarFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, concentration: Tensor, d: int, family: int, function: str) -> Tensor:
        ctx.save_for_backward(concentration)
        ctx.arguments = d, family, function
        index = SCALAR_FUNCTIONS.index(function)
        return _raw.scalar_function.default(concentration, d, family, index)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (kappa,), (d, family, function) = ctx.saved_tensors, ctx.arguments
        if torch.is_grad_enabled() or function not in _DERIVATIVES:
            (slope,) = _differentiable_vjp(
                lambda k: _reference_scalar_function(function, k, d, family), (kappa,), grad
            )
        else:
            slope = grad * _DERIVATIVES[function](kappa, d, family)
        return slope, None, None, None


_DERIVATIVES: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "log_prob_at_mode": partial(scalar_function, "log_prob_at_mode_dkappa"),
    "log_prob_at_mode_dkappa": partial(scalar_function, "log_prob_at_mode_dkappa2"),
    "mean_resultant_length": partial(scalar_function, "mean_resultant_length_dkappa"),
    "kl_uniform": partial(scalar_function, "kl_uniform_dkappa"),
}


class _Kl(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kappa_p: Tensor,
        kappa_q: Tensor,
        sin2: Tensor,
        cos2: Tensor,
        d: int,
        family_p: int,
        family_q: int,
    ) -> Tensor:
        ctx.save_for_backward(kappa_p, kappa_q, sin2, cos2)
        ctx.arguments = d, family_p, family_q
        return _raw.kl.default(kappa_p, kappa_q, sin2, cos2, d, family_p, family_q, _KL)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        tensors, (d, *families) = ctx.saved_tensors, ctx.arguments
        if torch.is_grad_enabled():
            divergence = reference.KL[tuple(families)]
            grads = _differentiable_vjp(
                lambda p, q, sin2, cos2: divergence(p, q, d, sin2, cos2), tensors, grad
            )
            return *grads, None, None, None
        # Along sin2 + cos2 = 1 the derivative in sin2 is the whole one, so that cos2 has none.
        slopes = (
            _sum_to(grad * _raw.kl.default(*tensors, d, *families, function), x) if needed else None
            for function, x, needed in zip(
                (_KL_DKAPPA_P, _KL_DKAPPA_Q, _KL_DSIN2), tensors, ctx.needs_input_grad, strict=False
            )
        )
        return *slopes, None, None, None, None


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, loc: Tensor, concentration: Tensor, family: int) -> Tensor:
        ctx.save_for_backward(value, loc, concentration)
        ctx.family = family
        return _raw.log_prob.default(value, loc, concentration, family)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        tensors, family = ctx.saved_tensors, ctx.family
        if torch.is_grad_enabled():
            grads = _differentiable_vjp(
                lambda x, mu, kappa: _reference_log_prob(x, mu, kappa, family), tensors, grad
            )
            return *grads, None
        in_value, in_mu, in_kappa, _ = ctx.needs_input_grad
        wanted = _VALUE * in_value + _MU * in_mu + _KAPPA * in_kappa + _summed(grad)
        raw = _raw.log_prob_backward.default(grad, *tensors, family, wanted)
        return *(
            _sum_to(g, x) if needed else None
            for g, x, needed in zip(raw, tensors, ctx.needs_input_grad, strict=False)
        ), None


class _RSample(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, loc: Tensor, concentration: Tensor, rng_state: Tensor, family: int
    ) -> Tensor:
        sample: Tensor = _raw.rsample.default(loc, concentration, rng_state, family)
        ctx.save_for_backward(sample, loc, concentration)
        ctx.family = family
        return sample

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        sample, loc, concentration = ctx.saved_tensors
        if torch.is_grad_enabled():  # the reference raises when this is differentiated again
            loc = loc.to(sample.dtype)
            raw = reference.rsample_backward(grad, sample, loc, concentration, ctx.family)
        else:
            in_mu, in_kappa, *_ = ctx.needs_input_grad
            wanted = _MU * in_mu + _KAPPA * in_kappa + _summed(grad)
            raw = _raw.rsample_backward.default(
                grad, sample, loc, concentration, ctx.family, wanted
            )
        grads = (
            _sum_to(g, x) if needed else None
            for g, x, needed in zip(
                raw, (loc, concentration), ctx.needs_input_grad[:2], strict=True
            )
        )
        return *grads, None, None


def _weighted_sum(loss: Tensor, weight: Tensor | None) -> Tensor:
    return loss if weight is None else (weight * loss).sum()


def _reference_vi_simsiam_loss(
    pred: Tensor, target: Tensor, kappa: Tensor, family: int, beta: float, weight: Tensor | None
) -> Tensor:
    loss = reference.vi_simsiam_loss(pred, target, kappa, family, beta)
    return _weighted_sum(loss, weight)


class _VISimSiamLoss(torch.autograd.Function):
    """Computes the gradients of a weighted sum in the forward pass, up to the factor that arrives
    in the backward pass: they are then multiplied in place, by an op that does nothing if it is 1
    and needs no answer from a GPU. They are given away once; should the graph be used again, they
    are computed anew.

    Not in float16, in which they could underflow without the factor of a GradScaler, nor where a
    compiler decides what is kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        pred: Tensor,
        target: Tensor,
        kappa: Tensor,
        family: int,
        beta: float,
        weight: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(pred, target, kappa, weight)
        bits = zip(ctx.needs_input_grad, (_MU, _VALUE, _KAPPA), strict=False)
        ctx.arguments = family, beta, sum(bit for needed, bit in bits if needed)
        ctx.grads = None
        if weight is None or pred.dtype is torch.float16 or torch.compiler.is_compiling():
            loss = _raw.vi_simsiam_loss.default(kappa, pred, target, kappa, family, beta, 0)[0]
        else:
            loss, *ctx.grads = _raw.vi_simsiam_loss.default(
                weight, pred, target, kappa, *ctx.arguments
            )
        return _weighted_sum(loss, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        *tensors, weight = ctx.saved_tensors
        family, beta, _ = ctx.arguments
        if torch.is_grad_enabled():
            grads = _differentiable_vjp(
                lambda pred, target, kappa: _reference_vi_simsiam_loss(
                    pred, target, kappa, family, beta, weight
                ),
                tuple(tensors),
                grad,
            )
            return *grads, None, None, None
        raw, ctx.grads = ctx.grads, None
        # Many factors in one tensor: is_grads_batched=True. The name is private to torch; tested.
        if raw is None or torch._C._functorch.is_legacy_batchedtensor(grad):
            upstream = grad if weight is None else grad * weight
            raw = _raw.vi_simsiam_loss.default(upstream, *tensors, *ctx.arguments)[1:]
        else:
            for g in raw:
                g.mul_(grad)
        grad_pred, grad_target, grad_kappa = raw
        return (
            *(
                _sum_to(g, x) if needed else None
                for g, x, needed in zip(
                    (grad_pred, grad_target, grad_kappa),
                    tensors,
                    ctx.needs_input_grad,
                    strict=False,
                )
            ),
            None,
            None,
            None,
        )


_raw: Any = torch.ops.powerspherical_ext

if _library.CPU_KERNELS:

    def _batch(*shapes: torch.Size) -> torch.Size:
        shape: torch.Size = torch.broadcast_shapes(*shapes)
        return shape

    def _fake_vectors(like: Tensor, batch: torch.Size, needs_grad: int, bit: int) -> Tensor:
        if not needs_grad & bit:
            return like.new_empty(0)
        return like.new_empty(like.shape if needs_grad & _SUMMED else (*batch, like.shape[-1]))

    @torch.library.register_fake("powerspherical_ext::scalar_function")
    def _(kappa: Tensor, d: int, family: int, function: int) -> Tensor:
        return torch.empty_like(kappa, memory_format=torch.contiguous_format)

    @torch.library.register_fake("powerspherical_ext::vi_simsiam_loss")
    def _(
        grad: Tensor,
        pred: Tensor,
        target: Tensor,
        kappa: Tensor,
        family: int,
        beta: float,
        needs_grad: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        batch = _batch(grad.shape, pred.shape[:-1], target.shape[:-1], kappa.shape)
        vectors = (*batch, pred.shape[-1])
        return (
            kappa.new_empty(batch),
            pred.new_empty(vectors if needs_grad & _MU else (0,)),
            pred.new_empty(vectors if needs_grad & _VALUE else (0,)),
            kappa.new_empty(batch if needs_grad & _KAPPA else (0,)),
        )

    @torch.library.register_fake("powerspherical_ext::kl")
    def _(
        kappa_p: Tensor,
        kappa_q: Tensor,
        sin2: Tensor,
        cos2: Tensor,
        d: int,
        family_p: int,
        family_q: int,
        function: int,
    ) -> Tensor:
        return kappa_p.new_empty(_batch(kappa_p.shape, kappa_q.shape, sin2.shape, cos2.shape))

    @torch.library.register_fake("powerspherical_ext::log_prob")
    def _(value: Tensor, mu: Tensor, kappa: Tensor, family: int) -> Tensor:
        return kappa.new_empty(_batch(value.shape[:-1], mu.shape[:-1], kappa.shape))

    @torch.library.register_fake("powerspherical_ext::log_prob_backward")
    def _(
        grad: Tensor, value: Tensor, mu: Tensor, kappa: Tensor, family: int, needs_grad: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch = _batch(grad.shape, value.shape[:-1], mu.shape[:-1], kappa.shape)
        return (
            _fake_vectors(value, batch, needs_grad, _VALUE),
            _fake_vectors(mu, batch, needs_grad, _MU),
            kappa.new_empty(batch if needs_grad & _KAPPA else (0,)),
        )

    @torch.library.register_fake("powerspherical_ext::rsample")
    def _(mu: Tensor, kappa: Tensor, rng_state: Tensor, family: int) -> Tensor:
        return kappa.new_empty((*_batch(mu.shape[:-1], kappa.shape), mu.shape[-1]))

    @torch.library.register_fake("powerspherical_ext::rsample_backward")
    def _(
        grad: Tensor, sample: Tensor, mu: Tensor, kappa: Tensor, family: int, needs_grad: int
    ) -> tuple[Tensor, Tensor]:
        batch = _batch(grad.shape[:-1], sample.shape[:-1], mu.shape[:-1], kappa.shape)
        return (
            _fake_vectors(mu, batch, needs_grad, _MU),
            kappa.new_empty(batch if needs_grad & _KAPPA else (0,)),
        )
