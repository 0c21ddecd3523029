"""What of this package works with which part of torch: the table of docs/torch.md.

A cell is a feature of torch and a subject, which is a distribution, the loss or the heads. Its
function raises unless the subject works with the feature. ``project/test_torch_matrix.py`` runs
every cell and compares the outcomes with the page. This program writes the table:

    python tests/torch_matrix.py
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from powerspherical_ext import (
    HypersphericalUniform,
    PowerSpherical,
    SphericalCauchy,
    VISimSiamLoss,
    VonMisesFisher,
)
from powerspherical_ext._tensors import is_dtensor
from powerspherical_ext.export import decompose
from powerspherical_ext.losses import KappaHead, VISimSiamHead

PAGE = Path(__file__).parents[1] / "docs" / "torch.md"
BEGIN, END = "<!-- matrix:begin -->\n", "<!-- matrix:end -->\n"
N, D = 4, 5


@dataclass(frozen=True)
class Subject:
    """A module of (x, loc, kappa) whose result has the shape (N,), and its objects to copy."""

    name: str
    make: Callable[[], nn.Module]
    thing: Callable[[], Any]


class OfDistribution(nn.Module):
    """Density, divergence and sample with the default arguments of everything."""

    def __init__(self, distribution: Any) -> None:
        super().__init__()
        self.distribution = distribution

    def forward(self, x: Tensor, loc: Tensor, kappa: Tensor) -> Tensor:
        p = self.distribution(loc, kappa)
        uniform = HypersphericalUniform(D, dtype=loc.dtype)
        return p.log_prob(x) + kl_divergence(p, uniform) + 0 * p.rsample().sum(-1)


class OfUniform(nn.Module):
    def forward(self, x: Tensor, loc: Tensor, kappa: Tensor) -> Tensor:
        p = HypersphericalUniform(D, dtype=loc.dtype)
        output = p.log_prob(x) * kappa
        if is_dtensor(x):  # samples and entropy are plain tensors
            return output
        return output + 0 * (p.entropy() + p.rsample(x.shape[:1]).sum(-1))


class OfLoss(nn.Module):
    """The pair of losses that a training step adds."""

    def __init__(self, distribution: str) -> None:
        super().__init__()
        self.loss = VISimSiamLoss(distribution=distribution, reduction="none")

    def forward(self, x: Tensor, loc: Tensor, kappa: Tensor) -> Tensor:
        return self.loss(loc, x, kappa)


class OfHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kappa_head, self.head = KappaHead(D, 8), VISimSiamHead(D, 8)
        self.eval()

    def forward(self, x: Tensor, loc: Tensor, kappa: Tensor) -> Tensor:
        output = self.head(x)
        return self.kappa_head(x) + output.kappa + output.mu.sum(-1) + kappa


def subjects() -> Iterator[Subject]:
    for distribution in (PowerSpherical, VonMisesFisher, SphericalCauchy):
        yield Subject(
            distribution.__name__,
            partial(OfDistribution, distribution),
            lambda distribution=distribution: distribution(torch.eye(D), 0.5),
        )
    yield Subject("HypersphericalUniform", OfUniform, lambda: HypersphericalUniform(D))
    loss = partial(OfLoss, "power_spherical")
    yield Subject("VISimSiamLoss", loss, lambda: loss().loss)
    yield Subject("heads", OfHeads, lambda: OfHeads().head)


SUBJECTS = {subject.name: subject for subject in subjects()}


def arguments(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, loc = (
        nn.functional.normalize(torch.randn(N, D, generator=generator).to(dtype), dim=-1)
        for _ in range(2)
    )
    return x, loc, torch.linspace(0.2, 0.8, N).to(dtype)


def same(actual: Any, expected: Any, **tolerances: Any) -> None:
    torch.testing.assert_close(actual, expected, **tolerances)


def gradients(module: Callable[..., Tensor], tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    leaves = [x.detach().requires_grad_() for x in tensors]
    output = module(*leaves)
    grads = torch.autograd.grad(output.sum(), leaves, allow_unused=True)
    zero = (torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads, strict=True))
    return output.detach(), *zero


# Features: each raises unless the subject works


def eager(subject: Subject) -> None:
    for x in gradients(subject.make(), arguments()):
        assert x.isfinite().all()


def compiled(subject: Subject) -> None:
    torch.compiler.reset()
    module = subject.make()
    program = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
    same(gradients(program, arguments()), gradients(module, arguments()))
    torch.compiler.reset()


def exported(subject: Subject) -> None:
    module = subject.make()
    batch = torch.export.Dim("batch", min=2)
    shapes = tuple({0: batch} for _ in range(3))
    program = torch.export.export(module, arguments(), dynamic_shapes=shapes).module()
    doubled = tuple(torch.cat([x, x.flip(0)]) for x in arguments())
    same(program(*doubled), module(*doubled))


def onnx(subject: Subject) -> None:
    """With a dynamic batch, in onnxruntime."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    module = subject.make()
    batch = torch.export.Dim("batch", min=2)
    shapes = tuple({0: batch} for _ in range(3))
    program = decompose(torch.export.export(module, arguments(), dynamic_shapes=shapes))
    with contextlib.redirect_stdout(io.StringIO()):
        program = torch.onnx.export(program, dynamo=True)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    doubled = tuple(torch.cat([x, x.flip(0)]) for x in arguments())
    inputs = zip(session.get_inputs(), doubled, strict=True)
    (actual,) = session.run(None, {put.name: x.numpy() for put, x in inputs})
    same(torch.from_numpy(actual), module(*doubled).detach(), rtol=1e-6, atol=1e-6)


def jit_traced(subject: Subject) -> None:
    module = subject.make()
    traced = torch.jit.trace(module, arguments(), check_trace=False)
    flipped = tuple(x.flip(0) for x in arguments())
    same(gradients(traced, flipped), gradients(module, flipped))


def symbolic_traced(subject: Subject) -> None:
    module = subject.make()
    traced = torch.fx.symbolic_trace(module)
    same(gradients(traced, arguments()), gradients(module, arguments()))


def make_fx_traced(subject: Subject) -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    module = subject.make()
    traced = make_fx(
        lambda *tensors: gradients(module, tensors),
        tracing_mode="symbolic",
        _allow_non_fake_inputs=True,
    )(*arguments())
    flipped = tuple(x.flip(0) for x in arguments())
    same(tuple(traced(*flipped)), gradients(module, flipped))


def fake(subject: Subject) -> None:
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode() as mode:
        actual = gradients(subject.make(), tuple(mode.from_tensor(x) for x in arguments()))
    for x, y in zip(actual, gradients(subject.make(), arguments()), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)


def vmapped(subject: Subject) -> None:
    module = subject.make()
    mapped = torch.vmap(lambda *row: module(*(x.unsqueeze(0) for x in row)), randomness="different")
    same(mapped(*arguments()).squeeze(-1), module(*arguments()))


def forward_mode(subject: Subject) -> None:
    module, tensors = subject.make(), arguments(torch.float64)
    module.double()
    tangents = tuple(x.flip(0) for x in tensors)
    _, tangent = torch.func.jvp(module, tensors, tangents)
    rows = torch.func.jacrev(module, argnums=(0, 1, 2))(*tensors)
    expected = sum(
        (j * v).sum(tuple(range(1, j.dim()))) for j, v in zip(rows, tangents, strict=True)
    )
    same(tangent, expected)


def second_derivative(subject: Subject) -> None:
    module = subject.make().double()

    def slope(kappa: Tensor) -> Tensor:
        x, loc, _ = arguments(torch.float64)
        (grad,) = torch.autograd.grad(module(x, loc, kappa).sum(), kappa, create_graph=True)
        return grad

    kappa = arguments(torch.float64)[2].requires_grad_()
    grad = slope(kappa)
    if grad.requires_grad:
        torch.autograd.grad(grad.sum(), kappa)


def autocast(subject: Subject) -> None:
    module = subject.make()
    with torch.autocast("cpu", torch.bfloat16):
        output = module(*arguments())
        half = module(*(x.bfloat16() for x in arguments()))
    assert half.isfinite().all()
    if subject.name != "heads":
        assert output.dtype == half.dtype == torch.float32
        same(output, module(*arguments()))


@contextlib.contextmanager
def one_process() -> Iterator[Any]:
    from torch.distributed.tensor import init_device_mesh

    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        torch.distributed.destroy_process_group()


def dtensor(subject: Subject) -> None:
    """Rows sharded along the batch; the module's parameters are replicated."""
    from torch.distributed.tensor import Shard, distribute_module, distribute_tensor

    module = subject.make()
    with one_process() as mesh:
        sharded = tuple(distribute_tensor(x, mesh, [Shard(0)]) for x in arguments())
        alone = gradients(module, arguments())
        actual = gradients(distribute_module(copy.deepcopy(module), mesh), sharded)
        assert actual[0].placements == (Shard(0),)
        same(tuple(x.full_tensor() for x in actual), alone)


class Model(nn.Module):
    """A network before the subject, as FSDP2 wraps one."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.loc, self.kappa_head, self.subject = nn.Linear(D, D), KappaHead(D, 8), subject.make()

    def forward(self, x: Tensor) -> Tensor:
        kappa = self.kappa_head(x)
        kappa += 1e-3  # which fails where a hook made views of the head's output
        return self.subject(x, nn.functional.normalize(self.loc(x), dim=-1), kappa / (1 + kappa))


def fsdp2(subject: Subject) -> None:
    """A model whose heads are sharded, without a warning."""
    from torch.distributed.fsdp import fully_shard

    model, x = Model(subject), arguments()[0]
    expected = model(x).detach()
    with one_process() as mesh, warnings.catch_warnings():
        warnings.simplefilter("error")
        for part in (model.kappa_head, model.loc, model):
            fully_shard(part, mesh=mesh)
        for _ in range(2):
            output = model(x)
            output.sum().backward()
        same(output.detach(), expected)


def inference_tensors(subject: Subject) -> None:
    module, (x, loc, kappa) = subject.make(), arguments()
    with torch.inference_mode():
        frozen = x.clone()
    trained = kappa.requires_grad_()
    output = module(frozen, loc, trained)
    (grad,) = torch.autograd.grad(output.sum(), trained)
    same(output.detach(), module(x, loc, kappa).detach())
    assert grad.isfinite().all()


def copied(subject: Subject) -> None:
    for thing in (subject.thing(), subject.make()):
        for twin in (pickle.loads(pickle.dumps(thing)), copy.deepcopy(thing)):
            if isinstance(thing, nn.Module):
                same(dict(twin.state_dict()), dict(thing.state_dict()))
            assert repr(twin) == repr(thing)
    same(copy.deepcopy(subject.make())(*arguments()), subject.make()(*arguments()))


def pyro(subject: Subject) -> None:
    """SVI with a posterior of this family."""
    import pyro as library
    from pyro.distributions.torch_distribution import TorchDistributionMixin

    base = type(subject.thing())
    law = type(base.__name__, (base, TorchDistributionMixin), {})
    uniform = type("Uniform", (HypersphericalUniform, TorchDistributionMixin), {})
    target = nn.functional.normalize(torch.tensor([1.0, 2.0, 0.0, 0.0, 2.0]), dim=-1)

    def model(data: Tensor) -> None:
        with library.plate("rows", len(data)):
            z = library.sample("z", uniform(D))
            library.sample("x", library.distributions.Normal(3 * z, 0.5).to_event(1), obs=data)

    def guide(data: Tensor) -> None:
        if base is HypersphericalUniform:
            with library.plate("rows", len(data)):
                library.sample("z", law(D))
            return
        limits = base.arg_constraints
        loc = library.param("loc", torch.eye(D)[:1], constraint=limits["loc"])
        kappa = library.param("kappa", torch.tensor([0.5]), constraint=limits["concentration"])
        with library.plate("rows", len(data)):
            library.sample("z", law(loc.expand(len(data), -1), kappa.expand(len(data))))

    library.set_rng_seed(0)
    library.clear_param_store()
    data = 3 * target.expand(8, -1)
    svi = library.infer.SVI(
        model,
        guide,
        library.optim.Adam({"lr": 0.1}),
        library.infer.TraceMeanField_ELBO(num_particles=4, vectorize_particles=False),
    )
    for _ in range(60 if base is not HypersphericalUniform else 2):
        svi.step(data)
    svi.loss = library.infer.Trace_ELBO().loss
    assert svi.evaluate_loss(data) < float("inf")
    if base is not HypersphericalUniform:
        assert library.param("loc").detach().squeeze(0) @ target > 0.95


# Rows of the table: the function, what the page calls it, the libraries that it needs.
FEATURES: dict[str, tuple[Callable[[Subject], None], str, tuple[str, ...]]] = {
    "eager": (eager, "eager, with gradients", ()),
    "compile": (compiled, "`torch.compile(fullgraph=True, dynamic=True)`", ()),
    "export": (exported, "`torch.export`, with a dynamic batch", ()),
    "onnx": (
        onnx,
        "`torch.onnx.export(decompose(program), dynamo=True)`",
        ("onnxscript", "onnxruntime"),
    ),
    "jit": (jit_traced, "`torch.jit.trace`", ()),
    "fx": (symbolic_traced, "`torch.fx.symbolic_trace`", ()),
    "make_fx": (make_fx_traced, "`make_fx`, symbolic, with gradients", ()),
    "fake": (fake, "`FakeTensorMode`", ()),
    "vmap": (vmapped, "`torch.vmap`", ()),
    "jvp": (forward_mode, "`torch.func.jvp` and `jacrev`", ()),
    "second": (second_derivative, "second derivatives", ()),
    "autocast": (autocast, "`torch.autocast`, and bfloat16 inputs", ()),
    "dtensor": (dtensor, "`DTensor`, sharded along the batch", ()),
    "fsdp2": (fsdp2, "FSDP2, `fully_shard`, without warnings", ()),
    "inference": (inference_tensors, "inputs made under `torch.inference_mode`", ()),
    "copy": (copied, "`pickle` and `copy.deepcopy`", ()),
    "pyro": (pyro, "Pyro: SVI with the three-line class", ("pyro",)),
}

# Cells that have no meaning.
EMPTY = {("pyro", "VISimSiamLoss"), ("pyro", "heads")}


def can_run(feature: str) -> bool:
    return all(importlib.util.find_spec(name) for name in FEATURES[feature][2])


def outcome(feature: str, subject: str) -> str:
    """What the table says: yes, or no and the error."""
    if (feature, subject) in EMPTY:
        return ""
    try:
        FEATURES[feature][0](SUBJECTS[subject])
    except Exception as error:
        message = str(error).splitlines()[0] if str(error) else ""
        return f"no: {type(error).__name__}: {message}"
    return "yes"


def table() -> str:
    lines = [f"| | {' | '.join(SUBJECTS)} |", "| --- |" + " --- |" * len(SUBJECTS)]
    for feature, (_, title, _) in FEATURES.items():
        assert can_run(feature), f"{feature} needs {FEATURES[feature][2]}"
        cells = []
        for subject in SUBJECTS:
            result = outcome(feature, subject)
            print(f"{feature:10} {subject:22} {result}", flush=True)
            cells.append(result.partition(":")[0])
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def committed() -> dict[tuple[str, str], str]:
    """The cells of the page."""
    rows = PAGE.read_text().split(BEGIN)[1].split(END)[0].splitlines()[2:]
    titles = {title: feature for feature, (_, title, _) in FEATURES.items()}
    cells = {}
    for row in rows:
        title, *values = (x.strip() for x in row.strip("|").split("|"))
        for subject, value in zip(SUBJECTS, values, strict=True):
            cells[titles[title], subject] = value
    return cells


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    new = table()
    text = PAGE.read_text()
    PAGE.write_text(text.split(BEGIN)[0] + BEGIN + new + END + text.split(END)[1])
