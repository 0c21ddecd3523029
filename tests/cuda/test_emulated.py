"""The kernels of csrc/cuda, run on the CPU by tests/cuda/emulator, against those of csrc/cpu.

What is tested is everything but the GPU's own arithmetic: rows and strides, the split of a row over
threads, 16-byte and single-element accesses and their alignment, shuffles, barriers, shared memory.
"""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import concentration_at
from compiling import once
from outside import assert_nan_outside, concentrations, each_law, is_outside, row_ops, watchdog
from torch import Tensor
from torch.nn.functional import normalize

from powerspherical_ext.families import FAMILIES, Family, family_named
from powerspherical_ext.ops import ScalarFunction

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
EMULATOR = HERE / "emulator"
TORCH = Path(torch.__file__).parent / "lib"
# With the sanitizers a misaligned 16-byte access ends the process.
# Names are hidden, so that two of these libraries in one process share no variable. The warning of
# sequence points is wrong: elements of a braced list are evaluated in their order.
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"]
FLAGS += [
    "-Wno-unknown-pragmas",
    "-Wno-sequence-point",
    "-fsanitize=alignment,bounds",
    "-fsanitize-undefined-trap-on-error",
]
FLAGS += [f"-I{EMULATOR}", f"-I{CSRC}"]
FLAGS += ["-include", str(EMULATOR / "cuda_runtime.h")]

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("c++"), reason="needs Linux and a C++ compiler"
)

cpu: Any = torch.ops.powerspherical_ext
cuda: Any = torch.ops.powerspherical_ext_emulated

RNG_STATE = torch.tensor([2**62 + 1, -3])
# Rows and d: teams of 1 to 256 threads; rows that their registers hold, that they do not, and that
# are split; most with more rows than the three blocks that the emulator runs can take at once.
SHAPES = [(800, 2), (400, 3), (200, 4), (200, 7), (100, 16), (50, 36), (26, 64), (26, 65)]
SHAPES += [(14, 129), (14, 256), (5, 512), (5, 1000), (5, 1028), (4, 1031), (4, 2048), (4, 2050)]
SHAPES += [(4, 4104), (2, 8200), (2, 16501)]

ULPS = 16  # of the largest element: what may differ

each_shape = pytest.mark.parametrize(("n", "d"), SHAPES)
each_float = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
each_index = pytest.mark.parametrize("family", range(len(FAMILIES)))


def build(factory: pytest.TempPathFactory, namespace: str, *flags: str) -> Path:
    """Loads the kernels as the ops of torch.ops.<namespace>, and returns their library."""
    flags = (*FLAGS, *flags, f'-DEMULATED_NAMESPACE="{namespace}"')
    sources = [CSRC / "library.cpp", EMULATOR / "emulator.cpp", *sorted(CSRC.glob("cuda/*.cu"))]

    def compile_and_link(result: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            objects = [Path(folder, f"{source.stem}.o") for source in sources]
            compilers = [
                subprocess.Popen(["c++", *flags, "-x", "c++", "-c", source, "-o", output])
                for source, output in zip(sources, objects, strict=True)
            ]
            statuses = [compiler.wait() for compiler in compilers]
            assert not any(statuses)
            link = ["c++", "-shared", "-o", result, *objects, f"-L{TORCH}", "-ltorch_cpu"]
            subprocess.run(link, check=True)

    result = once(factory, f"{namespace}.so", compile_and_link)
    torch.ops.load_library(str(result))
    return result


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory, "powerspherical_ext_emulated", "-ffp-contract=off")


@pytest.fixture(autouse=True)
def new_tensors_hold_nan() -> Iterator[None]:
    """So that an element that no thread writes differs from what it should be."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def points(*shape: int, dtype: torch.dtype) -> Tensor:
    return normalize(torch.randn(*shape, dtype=torch.float64), dim=-1).to(dtype)


def misaligned(x: Tensor) -> Tensor:
    """The same values one element behind a 16-byte boundary."""
    return torch.cat([x.new_zeros(1), x.flatten()])[1:].view_as(x)


def assert_same(actual: Any, expected: Any) -> None:
    """To rounding, on the scale of the largest finite element; others must be the same."""
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        finite = b[b.isfinite()].abs()
        size = max(1.0, float(finite.max())) if finite.numel() else 1.0
        tolerance = ULPS * torch.finfo(a.dtype).eps * size
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def assert_log_prob_agrees(
    value: Tensor, mu: Tensor, kappa: Tensor, *bits: int, family: int = 0
) -> None:
    arguments = (value, mu, kappa, family)
    expected = cpu.log_prob(*arguments)
    assert_same([cuda.log_prob(*arguments)], [expected])
    grad = torch.randn(expected.shape, dtype=expected.dtype)
    for needs_grad in bits or [7]:
        assert_same(
            cuda.log_prob_backward(grad, *arguments, needs_grad),
            cpu.log_prob_backward(grad, *arguments, needs_grad),
        )


def assert_rsample_agrees(mu: Tensor, kappa: Tensor, *bits: int, family: int = 0) -> None:
    sample = cpu.rsample(mu, kappa, RNG_STATE, family)
    assert_same([cuda.rsample(mu, kappa, RNG_STATE, family)], [sample])
    grad = torch.randn(sample.shape, dtype=sample.dtype)
    one_value_a_row = grad[..., :1].expand(sample.shape)
    for needs_grad in bits or [6]:
        for g in (grad, one_value_a_row):
            arguments = (g, sample, mu, kappa, family, needs_grad)
            assert_same(cuda.rsample_backward(*arguments), cpu.rsample_backward(*arguments))


@pytest.mark.slow
@each_float
@each_shape
@pytest.mark.parametrize("place", [lambda x: x, misaligned], ids=["aligned", "misaligned"])
def test_log_prob_and_rsample(n: int, d: int, dtype: torch.dtype, place: Any) -> None:
    torch.manual_seed(n)
    mu, value = place(points(n, d, dtype=dtype)), points(n, d, dtype=dtype)
    kappa = torch.rand(n, dtype=dtype) * 3 * d
    assert_log_prob_agrees(value, mu, kappa)
    assert_rsample_agrees(mu, kappa)


@each_float
@pytest.mark.parametrize(("n", "d"), [(200, 2), (200, 3), (100, 4), (50, 65), (5, 1000)])
@pytest.mark.parametrize("family", range(1, len(FAMILIES)))
def test_other_families(family: int, n: int, d: int, dtype: torch.dtype) -> None:
    """The rows are the same code; these shapes take every branch of the families' samplers."""
    torch.manual_seed(n)
    mu, value = points(n, d, dtype=dtype), points(n, d, dtype=dtype)
    kappa = concentration_at(FAMILIES[family], torch.rand(n, dtype=dtype) * 3 * d)
    assert_log_prob_agrees(value, mu, kappa, family=family)
    assert_rsample_agrees(mu, kappa, family=family)


@pytest.mark.slow
@each_shape
@pytest.mark.parametrize("place", [lambda x: x, misaligned], ids=["aligned", "misaligned"])
def test_half_precision(n: int, d: int, place: Any) -> None:
    """Vectors in less precision than the concentration; their gradients come back in theirs."""
    torch.manual_seed(n)
    half, bfloat16 = points(n, d, dtype=torch.float16), points(n, d, dtype=torch.bfloat16)
    value, kappa = points(n, d, dtype=torch.float32), torch.rand(n) * 3 * d
    assert_log_prob_agrees(place(half), bfloat16, kappa)
    assert_log_prob_agrees(value, place(half), kappa)
    assert_rsample_agrees(place(bfloat16), kappa)
    for vectors in (half, place(bfloat16), value):
        rounded, sample = cuda.rsample_rounded(vectors, kappa, RNG_STATE, 0)
        assert torch.equal(sample, cuda.rsample(vectors, kappa, RNG_STATE, 0))
        assert torch.equal(rounded, sample.to(vectors.dtype))
    sample, grad = cpu.rsample(half, kappa, RNG_STATE, 0), torch.randn(n, d).bfloat16()
    for upstream in (place(grad), grad[:, :1].expand(n, d)):
        arguments = (upstream, sample, half, kappa, 0, 6)
        assert_same(cuda.rsample_backward(*arguments), cpu.rsample_backward(*arguments))
    with pytest.raises(RuntimeError, match="take float64 vectors alone"):
        cuda.rsample(half, kappa.double(), RNG_STATE, 0)


@pytest.mark.slow
@each_float
@pytest.mark.parametrize("d", [3, 64])
def test_broadcast_and_strided(d: int, dtype: torch.dtype) -> None:
    torch.manual_seed(d)
    mu, value = points(5, d, dtype=dtype), points(7, 5, d, dtype=dtype)
    kappa = torch.rand(7, 1, dtype=dtype) * 3 * d
    one_kappa = torch.tensor(4.0, dtype=dtype)
    backwards = value.transpose(0, 1)
    every_other = points(7, 5, 2 * d, dtype=dtype)[..., ::2]
    beginning_of_row = points(7, 5, d + 1, dtype=dtype)[..., :d]
    part_of_row = points(7, 5, 3 * d, dtype=dtype)[..., 1 : d + 1]
    for x, m, k in [
        (value, mu, kappa),
        (value, mu[0], one_kappa),
        (value[0, 0], mu, kappa),
        (mu, value, kappa[:, 0, None]),
        (backwards, mu[:, None], kappa[:, 0]),
        (every_other, mu, kappa),
        (part_of_row, mu.expand(7, 5, d), kappa),
        (beginning_of_row, mu, kappa),
    ]:
        assert_log_prob_agrees(x, m, k)
        assert_rsample_agrees(m, k)
        assert_rsample_agrees(x, k)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d"), [(8195, 257), (300_001, 16)])
def test_teams_that_take_several_rows(n: int, d: int) -> None:
    """Two, and the last team one. Each row has the bits that it has where a team takes one."""
    torch.manual_seed(n)
    mu, value = points(n, d, dtype=torch.float32), points(n, d, dtype=torch.float32)
    kappa, grad = torch.rand(n) * 3 * d, torch.randn(n)
    calls = {
        "log_prob": lambda x, m, k, g: [cuda.log_prob(x, m, k, 0)],
        "log_prob_backward": lambda x, m, k, g: cuda.log_prob_backward(g, x, m, k, 0, 7),
        "rsample_backward": lambda x, m, k, g: cuda.rsample_backward(m, x, m, k, 0, 6),
        "loss": lambda x, m, k, g: cuda.vi_simsiam_loss(g, m, x, k, 0, 0.0, 7),
    }
    few = slice(n - 700, n)
    for name, call in calls.items():
        many = [x[few] for x in call(value, mu, kappa, grad)]
        expected = call(*(x[few] for x in (value, mu, kappa, grad)))
        for a, b in zip(many, expected, strict=True):
            assert torch.equal(a, b), name
    assert_log_prob_agrees(value, mu, kappa)
    loss = cuda.vi_simsiam_loss(grad, mu, value, kappa, 0, 0.0, 0, 1 / n)[0]
    expected = cpu.vi_simsiam_loss(grad, mu, value, kappa, 0, 0.0, 0, 1 / n)[0]
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_split_rows_have_the_bits_of_whole_ones() -> None:
    """512 rows are no longer few: a block takes all parts of a row."""
    torch.manual_seed(0)
    mu, value = points(1, 8260, dtype=torch.float32), points(1, 8260, dtype=torch.float32)
    kappa = torch.tensor([3e3])
    found = []
    for n in (1, 512):
        x, m, k = (v.expand(n, *v.shape[1:]) for v in (value, mu, kappa))
        found.append((cuda.log_prob(x, m, k, 0)[0], cuda.rsample(m, k, RNG_STATE, 0)[0]))
    for split, whole in zip(*found, strict=True):
        assert torch.equal(split, whole)


def test_only_the_wanted_gradients() -> None:
    mu, value = points(9, 24, dtype=torch.float32).unflatten(-1, (2, 12)).transpose(0, 1)
    kappa = torch.rand(9)
    assert_log_prob_agrees(value, mu, kappa, 0, 1, 2, 4, 3, 5, 6)
    assert_rsample_agrees(mu, kappa, 0, 2, 4)
    mu, value = points(2, 8260, dtype=torch.float32), points(2, 8260, dtype=torch.float32)
    assert_log_prob_agrees(value, mu, kappa[:2], 0, 1, 2, 4, 3, 5, 6)
    assert_rsample_agrees(mu, kappa[:2], 0, 2, 4)


@each_float
def test_no_rows(dtype: torch.dtype) -> None:
    mu, kappa = points(4, 0, 3, dtype=dtype), torch.zeros(4, 0, dtype=dtype)
    assert_log_prob_agrees(mu, mu[:1], kappa)
    assert_rsample_agrees(mu, kappa)
    assert cuda.scalar_function(kappa, 3, 0, 0).shape == (4, 0)


@each_float
@pytest.mark.parametrize("function", range(len(ScalarFunction)))
@each_index
def test_scalar_function(family: int, function: int, dtype: torch.dtype) -> None:
    kappa = torch.logspace(-2, 4, 1000, dtype=dtype).view(50, 20)
    kappa = concentration_at(FAMILIES[family], kappa).t()
    arguments = (kappa, 64, family, function)
    assert_same([cuda.scalar_function(*arguments)], [cpu.scalar_function(*arguments)])


@each_float
@pytest.mark.parametrize("function", range(4))
@pytest.mark.parametrize(
    ("family", "family_q"), [(p.index, family_named(q).index) for p in FAMILIES for q in p.kl]
)
def test_kl(family: int, family_q: int, function: int, dtype: torch.dtype) -> None:
    """Over broadcast arguments of a strided batch."""
    p = torch.logspace(-2, 3, 40, dtype=dtype).view(8, 5)
    p = concentration_at(FAMILIES[family], p).t()
    q = concentration_at(FAMILIES[family_q], torch.logspace(3, -2, 8, dtype=dtype))
    y = torch.linspace(0, 1, 5, dtype=dtype).unsqueeze(-1)
    arguments = (p, q, y, 1 - y, 64, family, family_q, function)
    assert_same([cuda.kl(*arguments)], [cpu.kl(*arguments)])


def assert_loss_agrees(
    pred: Tensor, target: Tensor, kappa: Tensor, *bits: int, family: int = 0, beta: float = 0.0
) -> None:
    """To rounding of the vectors' own type; it sums float rows in float, and the CPU in double.

    Rounding decides whether a row at the antipode has an infinite loss. So ours may be finite where
    the expected loss is infinite, if it is at least that at a distance of ULPS roundings; and then
    the gradients of the row are those of a random direction, and are not compared.
    """
    grad = torch.randn(kappa.shape, dtype=kappa.dtype)
    for needs_grad in bits or [7]:
        arguments = (grad, pred, target, kappa, family, beta, needs_grad)
        ours, expected = cuda.vi_simsiam_loss(*arguments), cpu.vi_simsiam_loss(*arguments)
        same = expected[0].isfinite() | ours[0].isinf()
        least = loss_beside_the_antipode(kappa.expand(same.shape)[~same], pred, family)
        assert (ours[0][~same] >= least).all()
        assert_same(*([x[same] if x.numel() else x for x in result] for result in (ours, expected)))


def loss_beside_the_antipode(kappa: Tensor, pred: Tensor, family: int) -> Tensor:
    """The loss at the distance ULPS * eps from the antipode, in units of the radius."""
    law, d = FAMILIES[family].reference, pred.shape[-1]
    z = torch.full_like(kappa, (ULPS * torch.finfo(kappa.dtype).eps) ** 2)
    ratio = law.log_prob_ratio(kappa, d, 1 - z, z)
    return -(law.log_prob_at_mode_over_uniform(kappa, d) + ratio)


@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str
)
@each_shape
@pytest.mark.parametrize("place", [lambda x: x, misaligned], ids=["aligned", "misaligned"])
def test_vi_simsiam_loss(n: int, d: int, dtype: torch.dtype, place: Any) -> None:
    """Rows at and near both poles are among them, and rows without a direction."""
    torch.manual_seed(n)
    pred, noise = torch.randn(n, d), torch.randn(n, d)
    spread = torch.tensor([0.0, 1e-4, 0.03, 1.0])[torch.arange(n) % 4].unsqueeze(-1)
    sign = torch.tensor([1.0, -1.0])[torch.arange(n) // 4 % 2].unsqueeze(-1)
    target = place((2 * sign * pred + spread * noise).to(dtype))
    pred = pred.to(dtype)
    target[0], pred[-1] = 0, 0
    kappa = torch.rand(n).to(torch.promote_types(dtype, torch.float32)) * 10
    assert_loss_agrees(pred, target, kappa)
    for family in FAMILIES[1:]:
        k = concentration_at(family, kappa)
        assert_loss_agrees(pred, target, k, family=family.index, beta=0.5)


def test_vi_simsiam_loss_broadcast_and_strided() -> None:
    torch.manual_seed(0)
    pred, target = torch.randn(5, 12), torch.randn(7, 5, 24)[..., ::2]
    kappa = torch.rand(7, 1) * 40
    assert_loss_agrees(pred, target, kappa, 0, 1, 2, 4, 3, 5, 6)
    assert_loss_agrees(target, pred, kappa[0, 0])
    assert_loss_agrees(target.transpose(0, 1), pred[:, None], kappa[:, 0])
    assert_loss_agrees(pred[:0], pred[:0], kappa[:1, 0])


@each_float
@pytest.mark.parametrize(
    ("n", "d"), [(0, 8), (1, 8), (800, 2), (200, 7), (100, 16), (26, 64), (14, 129), (5, 2048)]
)
def test_sum_of_the_loss(n: int, d: int, dtype: torch.dtype) -> None:
    """A launch leaves its counter as it was. The gradients are those of the sum."""
    torch.manual_seed(n)
    pred, target = torch.randn(n, d, dtype=dtype), torch.randn(n, d, dtype=dtype)
    kappa, grad = torch.rand(n, dtype=dtype) * 40, torch.randn(n, dtype=dtype)
    loss = cpu.vi_simsiam_loss(None, pred, target, kappa, 0, 0.5, 0)[0]
    for weight, scale in itertools.product((None, grad, grad[:1].sum()), (1.0, 0.3)):
        upstream = scale if weight is None else scale * weight
        for start in (None, torch.tensor(2.5, dtype=dtype)):
            arguments = (weight, pred, target, kappa, 0, 0.5, 7, scale, start)
            ours, expected = cuda.vi_simsiam_loss(*arguments), cpu.vi_simsiam_loss(*arguments)
            assert_same(ours[1:], expected[1:])
            size = (upstream * (loss.abs() + kappa)).abs().sum() + 2.5  # of what is added up
            atol = ULPS * torch.finfo(dtype).eps * float(size)
            torch.testing.assert_close(ours[0], expected[0], rtol=0, atol=atol)
            again = cuda.vi_simsiam_loss(*arguments)
            assert all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))


@pytest.mark.slow
def test_counters_come_round_again() -> None:
    """A launch of other blocks has had the counter before."""
    inputs = [(torch.randn(n, 8), torch.randn(n, 8), torch.rand(n)) for n in (200, 1, 100)]
    launches = [0, *[1] * (2**14 - 1), 2, 0]
    sums = [cuda.vi_simsiam_loss(None, *inputs[i], 0, 0.0, 0, 1.0)[0] for i in launches]
    expected = [cpu.vi_simsiam_loss(None, *x, 0, 0.0, 0, 1.0)[0] for x in inputs]
    for i, total in zip((0, 1, 2, 0), (sums[0], sums[1], *sums[-2:]), strict=True):
        torch.testing.assert_close(total, expected[i], rtol=1e-5, atol=1e-5)


def test_a_launch_that_fails(library: Path) -> None:
    """The error is ours to raise. CUDA forgets it, so that torch does not find it again."""
    emulator, inputs = ctypes.CDLL(str(library)), (torch.randn(3, 4), torch.randn(3, 4))
    arguments = None, *inputs, torch.ones(3), 0, 0.0, 0, 1.0
    expected = cuda.vi_simsiam_loss(*arguments)[0]
    emulator.emulated_fail()
    with pytest.raises(RuntimeError, match="CUDA: "):
        cuda.vi_simsiam_loss(*arguments)
    assert emulator.emulated_last_error() == 0
    assert torch.equal(cuda.vi_simsiam_loss(*arguments)[0], expected)


def test_sum_of_an_infinite_loss() -> None:
    """A target at the antipode costs infinity, and NaN stays NaN."""
    pred, kappa = torch.randn(100, 4), torch.ones(100)
    target = pred.clone()
    target[7] *= -1
    assert cuda.vi_simsiam_loss(None, pred, target, kappa, 0, 0.0, 7, 0.01)[0].isposinf()
    target[8, 0] = torch.nan
    assert cuda.vi_simsiam_loss(None, pred, target, kappa, 0, 0.0, 7, 0.01)[0].isnan()


@pytest.mark.parametrize("factor", [1.0, 0.3, torch.nan])
@pytest.mark.parametrize(
    ("vectors", "scalars"),
    [(x, torch.float32) for x in (torch.float32, torch.bfloat16, torch.float16)]
    + [(x, torch.float64) for x in (torch.float64, torch.float32)],
)
def test_scale_gradients(vectors: torch.dtype, scalars: torch.dtype, factor: float) -> None:
    """To the bit. Many elements for each thread, and an array without any."""
    gradients = [torch.randn(130, 37).to(vectors), torch.empty(0, dtype=vectors)]
    gradients.append(torch.randn(130, dtype=scalars))
    expected, by = [x.clone() for x in gradients], torch.tensor(factor, dtype=scalars)
    cuda.scale_gradients_(*gradients, by)
    cpu.scale_gradients_(*expected, by)
    torch.testing.assert_close(gradients, expected, rtol=0, atol=0, equal_nan=True)


@each_float
@pytest.mark.parametrize("d", [2, 3, 5, 64])
@each_law
@pytest.mark.usefixtures(watchdog.__name__)
def test_outside_of_the_domain(law: Family, d: int, dtype: torch.dtype) -> None:
    """NaN in the rows whose concentration is outside, and the same bits as without them inside."""
    kappa = concentrations(law, dtype)
    outside = is_outside(law, kappa)
    x, mu, grad = (points(len(kappa), d, dtype=dtype) for _ in range(3))
    together = row_ops(cuda, law, x, mu, grad, kappa)
    valid = torch.where(outside, law.upper_bound / 2, kappa)
    for name, results in row_ops(cuda, law, x, mu, grad, valid).items():
        for valid_rows, all_rows in zip(results, together[name], strict=True):
            if all_rows.numel():
                assert_nan_outside(all_rows, outside)
                assert torch.equal(valid_rows[~outside], all_rows[~outside]), name
    for function in range(7):
        assert_nan_outside(cuda.scalar_function(kappa, d, law.index, function), outside)


@pytest.mark.parametrize(
    ("p", "q"), [(p, family_named(q)) for p in FAMILIES for q in p.kl], ids=lambda law: law.name
)
@pytest.mark.usefixtures(watchdog.__name__)
def test_divergences_outside_of_the_domain(p: Family, q: Family) -> None:
    kappa_p, kappa_q = (concentrations(law, torch.float64, i) for i, law in enumerate((p, q)))
    outside = is_outside(p, kappa_p) | is_outside(q, kappa_q)
    sin2 = torch.linspace(0, 1, len(kappa_p), dtype=torch.float64)
    for function in range(4):
        arguments = kappa_p, kappa_q, sin2, 1 - sin2, 5, p.index, q.index, function
        assert_nan_outside(cuda.kl(*arguments), outside)
        assert_same([cuda.kl(*arguments)[~outside]], [cpu.kl(*arguments)[~outside]])


def test_float16_raises() -> None:
    mu = torch.zeros(2, 4, dtype=torch.float16)
    with pytest.raises(RuntimeError):
        cuda.rsample(mu, mu[:, 0], RNG_STATE, 0)
