"""Random calls of every raw op: each is an error, or gives what contiguous copies give.

Tensors lie in storage that is filled with NaN, so that a read outside of a tensor changes a result.
`make sanitize` runs more of these calls, on a library that checks every access.
"""

from __future__ import annotations

import math
import os
from functools import partial

import pytest
import torch
from cases import concentration_at, ignores_warnings_of_torch, needs_kernels
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from op_calls import ARGUMENTS, call_raw, operands

from powerspherical_ext.families import FAMILIES

pytestmark = [
    needs_kernels,
    ignores_warnings_of_torch,
    pytest.mark.filterwarnings("ignore:.*(deprecated|prototype|beta state)"),
]

EXAMPLES = int(os.environ.get("POWERSPHERICAL_FUZZ_EXAMPLES", "60"))  # for each op
ERRORS = (RuntimeError, ValueError, TypeError, NotImplementedError)
FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
OTHERS = [torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn]
SPECIAL = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, 1e-310, 3e38, 65504.0]
OUTSIDE = [-1e-3, -50.0, -1e8, -9e307, 2.0**50, 1e18, 9e307]  # of a domain of concentrations, too
INTEGERS = [-(2**63), -(2**31), -1, len(FAMILIES), 99, 2**31, 2**63 - 1]

often = st.sampled_from([True] * 9 + [False])
seldom = often.map(lambda x: not x)


# Tensors


def directions(x):
    return torch.nn.functional.normalize(x, dim=-1)


def fractions(x):
    return x / (1 + x)


def values(draw, shape, domain):
    """Directions, or scalars in a domain. Some elements are special, or outside of the domain."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    if domain is not directions:
        x = domain(9 * x.abs())
    elif draw(often):
        x = domain(x)
    if x.numel() and draw(seldom):
        x.view(-1)[draw(st.integers(0, x.numel() - 1))] = draw(st.sampled_from(SPECIAL + OUTSIDE))
    return x


def placed(draw, x):
    """The same values in another layout: permuted, stepped, from the middle of a storage."""
    order = draw(st.permutations(range(x.dim())))
    steps = [draw(st.sampled_from([1, 1, 2, 3])) for _ in order]
    begin = draw(st.integers(0, 3))
    sizes = [x.shape[i] * step for i, step in zip(order, steps, strict=True)]
    room = x.new_full((begin + math.prod(sizes) + 3,), 1 if x.dtype == torch.bool else math.nan)
    view = room[begin : begin + math.prod(sizes)].view(sizes)
    view = view[tuple(slice(None, None, step) for step in steps)]
    view = view.permute([order.index(i) for i in range(x.dim())])
    return view.copy_(x)


def negated(x):
    """The same values as a view that torch negates when it is read."""
    negative = torch.complex(torch.zeros_like(x), -x).conj().imag
    assert not x.numel() or negative.is_neg()
    return negative


def special(draw, x):
    """The same values as a tensor of another kind."""
    kinds = ["meta", "sparse", "csr", "mkldnn", "quantised", "nested", "conjugate", "zero"]
    kind = draw(st.sampled_from([*kinds, *OTHERS]))
    note(f"{kind}")
    if isinstance(kind, torch.dtype):
        return x.to(kind)
    if kind == "meta":
        return x.to("meta")
    if kind == "conjugate":
        return torch.complex(x.float(), x.float()).conj()
    if kind == "zero":
        return torch._efficientzerotensor(x.shape, dtype=x.dtype)
    x = x.float().reshape(x.shape if x.dim() == 2 or kind == "sparse" else (1, -1))
    if kind == "sparse":
        return x.to_sparse()
    if kind == "csr":
        return x.to_sparse_csr()
    if kind == "mkldnn":
        return x.to_mkldnn()
    if kind == "quantised":
        return torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)
    return torch.nested.nested_tensor([x, x[:1]])


def operand(draw, batch, d, dtype, domain):
    """A tensor for a batch of this shape, which it may broadcast to."""
    shape = [1 if draw(seldom) else n for n in batch[draw(st.sampled_from([0, 0, 0, 1])) :]]
    if domain is directions:
        shape.append(draw(st.sampled_from([0, 1, d + 1])) if draw(seldom) else d)
    if draw(seldom):  # elements overlap
        x = values(draw, (3 * sum(shape) + 4,), domain).to(dtype)
        strides = [draw(st.integers(0, 3)) for _ in shape]
        return x.as_strided(shape, strides, draw(st.integers(0, 3)))
    expanded = [n > 1 and draw(seldom) for n in shape]
    sizes = [1 if e else n for n, e in zip(shape, expanded, strict=True)]
    x = values(draw, sizes, domain).to(dtype)
    if draw(seldom):
        x = negated(x.float()).to(dtype) if dtype is torch.float32 else x
    elif draw(st.booleans()):
        x = placed(draw, x)
    return x.expand(shape)


# Calls


@st.composite
def calls(draw, name):
    """Tensors and other arguments of an op; they are plain unless `odd` says what is wrong."""
    family = draw(st.integers(0, len(FAMILIES) - 1))
    d = draw(st.sampled_from([2, 3, 4, 5, 8, 15, 16, 17, 33, 70, 300]))
    few = draw(often)
    batch = draw(st.lists(st.integers(0, 3) if few else st.just(2), max_size=3 if few else 10))
    if few and draw(seldom):
        batch.append(draw(st.sampled_from([65, 300])))  # more rows than a tile; parts of a sum
    dtype = draw(st.sampled_from(FLOATS[:2] if draw(often) else FLOATS))
    tensors = []
    for i, kind in enumerate(operands(name)):
        own = draw(st.sampled_from(FLOATS)) if kind == "v" and draw(seldom) else dtype
        domain = (
            fractions if name == "kl" and i > 1 else partial(concentration_at, FAMILIES[family])
        )
        tensors.append(operand(draw, batch, d, own, directions if kind == "v" else domain))
    others = {
        "d": d,
        "family": family,
        "function": draw(st.integers(0, 3)),
        "needs_grad": draw(st.integers(0, 15)),
        "beta": draw(st.sampled_from([0.0, 0.5, 1.0, math.nan, math.inf])),
        "state": torch.tensor(draw(st.sampled_from([[3, 4], [-1, 2**62]]))),
    }
    if draw(seldom):
        others["state"] = draw(st.sampled_from([others["state"].view(2, 1)[:, 0], torch.ones(4)]))
    if draw(seldom):
        wrong = draw(st.sampled_from(["family", "function", "needs_grad", "d"]))
        if not (wrong == "d" and name in ("kl", "scalar_function")):  # where it sets no size
            others[wrong] = draw(st.sampled_from(INTEGERS))
        else:
            others[wrong] = draw(st.sampled_from([-1, 0, 1]))
    if draw(seldom):
        i = draw(st.integers(0, len(tensors) - 1))
        tensors[i] = special(draw, tensors[i])
    elif draw(seldom) and max(x.numel() for x in tensors) < 1 << 17:
        others["needs_grad"] &= 7  # a sum of 2^45 terms is legal, and takes days
        rows = [draw(st.sampled_from([[1 << 45, 1], [1, 1 << 45]])) for _ in tensors]
        tensors = [x.expand([*n, *x.shape]) for n, x in zip(rows, tensors, strict=True)]
    return tensors, others


def outcome(call):
    """The results, or the error."""
    try:
        return call()
    except ERRORS as error:
        note(f"{type(error).__name__}: {error}")
        return error


def is_plain(x):
    return x.layout is torch.strided and x.is_cpu and not x.is_quantized and not x.is_nested


def copies(name, tensors):
    """Contiguous tensors of the batch's shape, outside of autograd, with the same values."""
    kinds = operands(name)
    widths = [1 if kind == "v" else 0 for kind in kinds]
    batch = torch.broadcast_shapes(
        *(x.shape[: x.dim() - w] for x, w in zip(tensors, widths, strict=True))
    )
    return [
        x.detach().resolve_neg().expand([*batch, *x.shape[x.dim() - w :]]).clone().contiguous()
        for x, w in zip(tensors, widths, strict=True)
    ]


# The operands to which the vector results of an op belong.
GRADIENTS_OF = {"log_prob_backward": (1, 2), "rsample_backward": (2,), "vi_simsiam_loss": ()}


@pytest.mark.parametrize("name", ARGUMENTS)
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_calls(name, data):
    tensors, others = data.draw(calls(name))
    note(f"{[(x.shape, x.dtype, x.stride()) for x in tensors if is_plain(x)]}")
    results = outcome(lambda: call_raw(name, tensors, **others))
    if not all(map(is_plain, tensors)):
        if not isinstance(results, Exception):  # meta tensors alone have results without values
            assert {x.device.type for x in results} == {x.device.type for x in tensors}
        return
    if any(x.numel() > 1 << 40 for x in tensors):
        assert isinstance(results, Exception) or not any(x.numel() for x in results)
        return
    whole = {**others, "needs_grad": others["needs_grad"] & ~8}
    expected = outcome(lambda: call_raw(name, copies(name, tensors), **whole))
    if isinstance(results, Exception):
        assert isinstance(expected, Exception) or "cannot be summed" in str(results)
        return
    assert not isinstance(expected, Exception)
    of = GRADIENTS_OF.get(name, ()) if others["needs_grad"] & 8 else ()
    for i, (x, full) in enumerate(zip(results, expected, strict=True)):
        if i >= len(of) or x.shape == full.shape:
            assert x.dtype == full.dtype
            torch.testing.assert_close(x, full, rtol=0, atol=0, equal_nan=True)
        else:
            assert_sum(x, full, tensors[of[i]].shape)


def assert_sum(x, full, shape):
    """x is the sum of `full` to a shape, to rounding of its terms."""
    assert x.shape == shape
    exact = full.double().sum_to_size(shape)
    eps = torch.finfo(x.dtype).eps
    size = full.double().abs().sum_to_size(shape)
    finite = exact.isfinite() & x.isfinite()
    assert ((x.double() - exact).abs() <= 300 * eps * size)[finite].all()


@pytest.mark.parametrize("name", ARGUMENTS)
@settings(max_examples=EXAMPLES // 2, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_calls_under_autograd(name, data):
    """The results stay what they are, and a backward pass gives each leaf a gradient of its shape,
    or is an error. The gradients of gradients are those of the reference."""
    tensors, others = data.draw(calls(name))
    if not all(is_plain(x) and x.dtype in FLOATS for x in tensors):
        return
    plain = outcome(lambda: call_raw(name, tensors, **others))
    leaves = [x.detach().requires_grad_(data.draw(st.booleans())) for x in tensors]
    results = outcome(lambda: call_raw(name, leaves, **others))
    if isinstance(plain, Exception) or isinstance(results, Exception):
        return
    for x, y in zip(results, plain, strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
    if name in ("log_prob", "rsample", "rsample_rounded", "scalar_function") or (
        name == "kl" and not others["function"]
    ):
        torch.testing.assert_close(results, plain, rtol=0, atol=0, equal_nan=True)
    ends = [x.sum() for x in results if x.requires_grad]
    if ends and not isinstance(outcome(lambda: torch.autograd.backward(ends)), Exception):
        for leaf in leaves:
            assert leaf.grad is None or leaf.grad.shape == leaf.shape
