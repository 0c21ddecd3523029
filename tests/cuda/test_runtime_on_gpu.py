"""What programs do with CUDA beside calling kernels: streams, devices, graphs, torch.compile."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from cases import CONCENTRATED, POWER_SPHERICAL, Family, unit
from torch import Tensor

from powerspherical_ext import PowerSpherical, _library, ops
from powerspherical_ext.families import FAMILIES

pytestmark = [
    pytest.mark.skipif(
        not (torch.cuda.device_count() and _library.CUDA_KERNELS),
        reason="needs a GPU, and its kernels",
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # within torch
]
each_family = pytest.mark.parametrize("family", CONCENTRATED, ids=str)
ROWS, D = 64, 48


def inputs(
    device: str = "cuda", dtype: torch.dtype = torch.float32, family: Family = POWER_SPHERICAL
) -> tuple[Tensor, ...]:
    """value, loc, concentration, rng_state"""
    kappa = family.at(torch.linspace(1, 200, ROWS, dtype=dtype))
    tensors = unit(ROWS, D, dtype=dtype), unit(ROWS, D, dtype=dtype, seed=1), kappa
    return *(x.to(device) for x in tensors), torch.tensor([2**40 + 1, 7], device=device)


def value_and_grads(family: Family, device: str, dtype: torch.dtype) -> list[Tensor]:
    """Sample, log-density, divergence and their gradients, through the public functions."""
    value, loc, kappa, state = inputs(device, dtype, family)
    leaves = [x.requires_grad_() for x in (value, loc, kappa)]
    sample = ops.rsample(loc, kappa, state, family.declared)
    log_prob = ops.log_prob(value, loc, kappa, family.declared)
    kl = ops.kl(kappa, kappa.flip(0), loc, value, family.declared, family.declared)
    entropy = ops.entropy(kappa, D, family.declared)
    weights = unit(ROWS, D, dtype=dtype, seed=2).to(device)
    total = (weights * sample).sum() + log_prob.sum() + 1e-3 * kl.sum() + entropy.sum()
    grads = torch.autograd.grad(total, leaves)
    return [x.detach().cpu() for x in (sample, log_prob, kl, entropy, *grads)]


@each_family
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_as_on_the_cpu(family: Family, dtype: torch.dtype) -> None:
    """The same seed gives the same samples, to rounding."""
    on_gpu, on_cpu = (value_and_grads(family, device, dtype) for device in ("cuda", "cpu"))
    for ours, expected in zip(on_gpu, on_cpu, strict=True):
        tolerance = 64 * torch.finfo(dtype).eps * float(expected.abs().max().clamp(min=1))
        torch.testing.assert_close(ours, expected, rtol=0, atol=tolerance)


@each_family
def test_the_same_bits_in_every_run(family: Family) -> None:
    first, second = (value_and_grads(family, "cuda", torch.float32) for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_samples_depend_on_the_row_alone() -> None:
    """Not on how many rows are sampled with it; nor on the stream."""
    _, loc, kappa, state = inputs()
    many = ops.rsample(loc.expand(3000, ROWS, D), kappa, state, FAMILIES[0])
    with torch.cuda.stream(torch.cuda.Stream()):
        few = ops.rsample(loc, kappa, state, FAMILIES[0])
        torch.cuda.current_stream().synchronize()
    assert torch.equal(many[0], few)


def test_current_stream() -> None:
    """A launch on another stream would read zeros: the side stream sleeps before it writes."""
    value, loc, kappa, _ = inputs()
    expected = ops.log_prob(value, loc, kappa, FAMILIES[0])
    late = torch.zeros_like(value)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)
        late.copy_(value)
        found = ops.log_prob(late, loc, kappa, FAMILIES[0])
        torch.cuda.current_stream().synchronize()
    assert torch.equal(found, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_second_device() -> None:
    """Its tensors decide where a kernel runs, and the current device stays what it was."""
    _, loc, kappa, state = inputs("cuda:1")
    with torch.cuda.device(0):
        sample = ops.rsample(loc, kappa, state, FAMILIES[0])
        assert torch.cuda.current_device() == 0
    assert sample.device == torch.device("cuda:1")
    assert torch.equal(sample.cpu(), ops.rsample(*inputs("cuda:0")[1:], FAMILIES[0]).cpu())
    with pytest.raises(RuntimeError, match="one device"):
        ops.rsample(loc, kappa.to("cuda:0"), state, FAMILIES[0])


def captured(step: Callable[[], None]) -> torch.cuda.CUDAGraph:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph


@each_family
@pytest.mark.parametrize("d", [D, 20_000], ids=["whole rows", "split rows"])
def test_graph_with_advancing_randomness(family: Family, d: int) -> None:
    """Each replay samples anew: the graph itself advances the offset, in place."""
    rows = 4
    loc, kappa = (
        unit(rows, d, dtype=torch.float32).cuda(),
        family.at(torch.full((rows,), 50.0)).cuda(),
    )
    leaves = [loc.requires_grad_(), kappa.requires_grad_()]
    state = torch.tensor([5, 0], device="cuda")
    sample, log_prob = torch.empty_like(loc), torch.empty_like(kappa)
    grads = [torch.empty_like(x) for x in leaves]

    def step() -> None:
        x = ops.rsample(loc, kappa, state, family.declared)
        density = ops.log_prob(x, loc, kappa, family.declared)
        for grad, new in zip(grads, torch.autograd.grad(density.sum(), leaves), strict=True):
            grad.copy_(new)
        sample.copy_(x.detach())
        log_prob.copy_(density.detach())
        state[1].add_(rows)

    graph = captured(step)
    state.copy_(torch.tensor([5, 0]))
    for replay in range(3):
        graph.replay()
        found = [x.clone() for x in (sample, log_prob, *grads)]
        here = torch.tensor([5, replay * rows], device="cuda")
        x = ops.rsample(loc, kappa, here, family.declared)
        density = ops.log_prob(x, loc, kappa, family.declared)
        expected = [x, density, *torch.autograd.grad(density.sum(), leaves)]
        assert all(torch.equal(a, b.detach()) for a, b in zip(found, expected, strict=True))
    assert state.tolist() == [5, 3 * rows]


@each_family
def test_graph_of_the_loss(family: Family) -> None:
    """Forward and backward; the factor that arrives in the backward pass stays on the GPU."""
    target, pred, kappa, _ = inputs(family=family)
    leaves = [pred.requires_grad_(), kappa.requires_grad_()]
    loss = torch.empty((), device="cuda")
    grads = [torch.empty_like(x) for x in leaves]

    def step() -> None:
        value = 3 * ops.vi_simsiam_loss(pred, target, kappa, family.declared, 0.0, 0.25)
        for grad, new in zip(grads, torch.autograd.grad(value, leaves), strict=True):
            grad.copy_(new)
        loss.copy_(value.detach())

    graph = captured(step)
    for x in (loss, *grads):
        x.zero_()
    graph.replay()
    found = [x.clone() for x in (loss, *grads)]
    step()
    assert all(torch.equal(a, b) for a, b in zip(found, (loss, *grads), strict=True))


def test_sums_on_several_streams_and_in_a_graph() -> None:
    """Launches that run at once count their blocks apart."""
    target, pred, kappa, _ = inputs()
    expected = ops.vi_simsiam_loss(pred, target, kappa, FAMILIES[0], 0.0, 0.25)
    in_graph = torch.empty_like(expected)
    graph = captured(
        lambda: in_graph.copy_(ops.vi_simsiam_loss(pred, target, kappa, FAMILIES[0], 0.0, 0.25))
    )
    streams, found = [torch.cuda.Stream() for _ in range(4)], []
    torch.cuda.synchronize()
    for _ in range(200):
        graph.replay()
        for stream in streams:
            with torch.cuda.stream(stream):
                found.append(ops.vi_simsiam_loss(pred, target, kappa, FAMILIES[0], 0.0, 0.25))
    torch.cuda.synchronize()
    assert all(torch.equal(x, expected) for x in (*found, in_graph))


def test_graph_of_a_distribution() -> None:
    """torch's own generator advances between the replays of a captured rsample()."""
    _, loc, kappa, _ = inputs()
    sample = torch.empty_like(loc)
    graph = captured(
        lambda: sample.copy_(PowerSpherical(loc, kappa, validate_args=False).rsample())
    )
    seen = []
    for _ in range(3):
        graph.replay()
        seen.append(sample.clone())
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])
    assert all(((x.norm(dim=-1) - 1).abs() < 1e-5).all() for x in seen)


@each_family
def test_compile(family: Family) -> None:
    value, loc, kappa, state = inputs(family=family)

    def function(value: Tensor, loc: Tensor, kappa: Tensor) -> Tensor:
        sample = ops.rsample(loc, kappa, state, family.declared)
        return ops.log_prob(value, loc, kappa, family.declared) + (sample * value).sum(-1)

    results = []
    for f in (function, torch.compile(function, fullgraph=True)):
        leaves = [x.clone().requires_grad_() for x in (value, loc, kappa)]
        output = f(*leaves)
        results.append([output.detach(), *torch.autograd.grad(output.sum(), leaves)])
    for expected, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@each_family
def test_opcheck(family: Family) -> None:
    raw, index = torch.ops.powerspherical_ext, family.index
    value, loc, kappa, state = inputs(family=family)
    density, sample = raw.log_prob(value, loc, kappa, index), raw.rsample(loc, kappa, state, index)
    half = torch.full_like(kappa, 0.5)
    for op, arguments in [
        (raw.log_prob, (value, loc, kappa, index)),
        (raw.log_prob_backward, (density, value, loc, kappa, index, 7)),
        (raw.rsample, (loc, kappa, state, index)),
        (raw.rsample_rounded, (loc.bfloat16(), kappa, state, index)),
        (raw.vi_simsiam_loss, (None, loc, value, kappa, index, 0.0, 7, 0.5, kappa.sum())),
        (raw.rsample_backward, (sample, sample, loc, kappa, index, 6)),
        (raw.scalar_function, (kappa, D, index, 0)),
        (raw.kl, (kappa, kappa, half, half, D, index, index, 0)),
    ]:
        torch.library.opcheck(op.default, arguments)


@pytest.mark.parametrize("d", [2048, 2047])
def test_more_than_2_31_elements(d: int) -> None:
    """The last rows, beyond the reach of 32-bit indices, are what they are on their own."""
    n = 2**31 // d + 5
    if torch.cuda.mem_get_info()[0] < 4 * n * d * 4:
        pytest.skip("needs 35 GB of GPU memory")
    state = torch.tensor([3, 0], device="cuda")
    loc, kappa = torch.zeros(d, device="cuda"), torch.tensor(100.0, device="cuda")
    loc[0] = 1
    sample = ops.rsample(loc.expand(n, d), kappa, state, FAMILIES[0])
    last = torch.tensor([3, n - 4], device="cuda")
    assert torch.equal(sample[-4:], ops.rsample(loc.expand(4, d), kappa, last, FAMILIES[0]))
    leaf = sample.requires_grad_()
    log_prob = ops.log_prob(leaf, loc, kappa, FAMILIES[0])
    tail = sample.detach()[-4:].clone().requires_grad_()
    few = ops.log_prob(tail, loc, kappa, FAMILIES[0])
    assert torch.equal(log_prob[-4:], few)
    (grad,), (expected,) = (
        torch.autograd.grad(out.sum(), x) for out, x in ((log_prob, leaf), (few, tail))
    )
    assert torch.equal(grad[-4:], expected)
