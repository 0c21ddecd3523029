"""Raw ops as operations of torch: their values, their programs, and ONNX in onnxruntime."""

from __future__ import annotations

import contextlib
import io
import math

import pytest
import torch
from cases import CONCENTRATED, close, each_concentrated, each_float, needs_kernels, unit
from op_calls import STATE
from torch import nn
from torch.distributions import kl_divergence

from powerspherical_ext import HypersphericalUniform, ops
from powerspherical_ext._decompositions import _PORTABLE, DECOMPOSITIONS, _Portable
from powerspherical_ext.export import decompose

pytestmark = needs_kernels
raw = torch.ops.powerspherical_ext

KAPPAS = (0.0, 1e-6, 0.1, 1.0, 10.0, 40.0, 1e3, 1e6)


def parameters(family, d, dtype):
    kappa = family.at(torch.tensor(KAPPAS, dtype=torch.float64)).to(dtype)
    return unit(len(KAPPAS), d, dtype=dtype), unit(len(KAPPAS), d, dtype=dtype, seed=1), kappa


def calls(family, d, dtype):
    """The raw op and the arguments of each."""
    x, loc, kappa = parameters(family, d, dtype)
    yield raw.log_prob.default, (x, loc, kappa, family.index)
    yield raw.rsample.default, (loc, kappa, STATE, family.index)
    yield raw.rsample_rounded.default, (loc, kappa, STATE, family.index)
    for beta in (0.0, 0.5):
        yield raw.vi_simsiam_loss.default, (kappa, 2 * loc, x, kappa, family.index, beta, 0)
    for function in ops.ScalarFunction:
        yield raw.scalar_function.default, (kappa, d, family.index, int(function))
    sin2 = torch.linspace(0, 1, len(KAPPAS), dtype=dtype)
    for other in CONCENTRATED:
        if other.declared.name in family.declared.kl:
            arguments = kappa, kappa.flip(0), sin2, 1 - sin2, d, family.index, other.index, 0
            yield raw.kl.default, arguments


@each_float
@each_concentrated
@pytest.mark.parametrize("d", [2, 3, 16, 200])
def test_decompositions_have_the_values_of_the_kernels(family, d, dtype):
    tolerance = 1e-6 if dtype == torch.float32 else 1e-11
    for op, arguments in calls(family, d, dtype):
        expected, actual = op(*arguments), DECOMPOSITIONS[op](*arguments)
        if isinstance(expected, tuple):
            expected, actual = expected[0], actual[0]
        scale = expected[expected.isfinite()].abs().max().clamp(min=1.0)
        where = f"{op} {arguments[-3:]}"
        close(
            actual / scale,
            expected / scale,
            rtol=0,
            atol=tolerance,
            msg=lambda m, where=where: f"{where}: {m}",
        )
        assert actual.dtype == dtype


def test_every_op_of_a_distribution_or_a_loss_has_one():
    assert {op._schema.name.partition("::")[2] for op in DECOMPOSITIONS} == {
        "kl",
        "log_prob",
        "rsample",
        "rsample_rounded",
        "scalar_function",
        "vi_simsiam_loss",
    }


@pytest.mark.parametrize("name", _PORTABLE)
@each_float
def test_functions_that_other_runtimes_lack(name, dtype):
    """To a few roundings, at both ends of their domains, too."""
    function = getattr(torch, name)
    x = torch.logspace(-30, math.log10(80), 500, dtype=dtype)
    x = torch.cat([x, -x, torch.tensor([0.0, math.nan], dtype=dtype)])
    if name == "log1p":
        x = torch.cat([x[x > -1], torch.tensor([-1.0, -1 + 2**-20, math.inf], dtype=dtype)])
    elif name in ("expm1", "cosh"):
        x = torch.cat([x, torch.tensor([-math.inf, math.inf, -700.0], dtype=dtype)])
    with _Portable():
        actual = function(x)
    close(actual, function(x), rtol=8 * torch.finfo(dtype).eps, atol=0, equal_nan=True)


def test_numbers_that_float32_cannot_hold():
    numbers = [0.1, -1 / 3, 1e-300, 1e300, math.pi, 1e-30, 5.0, 0.0, -(2.0**70)]
    zero = torch.zeros((), dtype=torch.float64)
    with _Portable():
        for number in numbers:
            assert (zero + number).item() == pytest.approx(number, rel=1e-14)
            assert torch.full_like(zero, number).item() == pytest.approx(number, rel=1e-14)
        table = torch.tensor([numbers[:1], numbers[1:2]], dtype=torch.float64, device=zero.device)
    close(table, torch.tensor([[0.1], [-1 / 3]], dtype=torch.float64), rtol=1e-14, atol=0)


class Everything(nn.Module):
    """What a program asks of a family. The sampler's state is an input."""

    def __init__(self, family):
        super().__init__()
        self.family = family

    def forward(self, x, loc, kappa, state):
        p = self.family.distribution(loc, kappa)
        q = self.family.distribution(x, kappa / 2)
        uniform = HypersphericalUniform(loc.shape[-1], dtype=loc.dtype)
        sample = ops.rsample(loc, kappa, state, self.family.declared)
        return p.log_prob(x), kl_divergence(p, uniform), kl_divergence(p, q), p.entropy(), sample


@each_concentrated
def test_programs_hold_operations_of_torch_alone(family):
    module = Everything(family)
    x, loc, kappa = (x[:4] for x in parameters(family, 3, torch.float32))
    program = torch.export.export(module, (x, loc, kappa, STATE))
    assert any("powerspherical_ext" in str(node.target) for node in program.graph.nodes)
    program = decompose(program)
    assert not any("powerspherical_ext" in str(node.target) for node in program.graph.nodes)
    close(
        program.module()(x, loc, kappa, STATE), module(x, loc, kappa, STATE), rtol=1e-5, atol=1e-6
    )


def test_a_module_is_no_program():
    with pytest.raises(TypeError, match=r"program must be what torch\.export\.export.*got Linear"):
        decompose(nn.Linear(2, 2))


def session(module, arguments, dynamic_shapes=None):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    onnxruntime.set_default_logger_severity(3)
    program = decompose(torch.export.export(module, arguments, dynamic_shapes=dynamic_shapes))
    with contextlib.redirect_stdout(io.StringIO()):
        program = torch.onnx.export(program, dynamo=True)
    return onnxruntime.InferenceSession(program.model_proto.SerializeToString())


def run(session, arguments):
    inputs = zip(session.get_inputs(), arguments, strict=True)
    outputs = session.run(None, {put.name: x.numpy() for put, x in inputs})
    return tuple(torch.from_numpy(x) for x in outputs)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter
@each_concentrated
@pytest.mark.parametrize(
    ("d", "dtype"), [(2, torch.float32), (3, torch.float32), (8, torch.float64)], ids=str
)
def test_onnxruntime_has_the_same_values(family, d, dtype):
    """Samples as well, for one state; and for a batch of another size."""
    module, arguments = Everything(family), (*parameters(family, d, dtype), STATE)
    batch = torch.export.Dim("batch", min=2)
    shapes = {"x": {0: batch}, "loc": {0: batch}, "kappa": {0: batch}, "state": None}
    outputs = session(module, arguments, shapes)
    for part in (slice(None), slice(2, 5)):
        chosen = (*(x[part] for x in arguments[:3]), STATE)
        for actual, expected in zip(run(outputs, chosen), module(*chosen), strict=True):
            close(actual, expected, rtol=1e-6, atol=1e-6)


class Sampler(nn.Module):
    def __init__(self, family):
        super().__init__()
        self.family = family

    def forward(self, loc, kappa):
        return self.family.distribution(loc, kappa).rsample((2000,))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter
@each_concentrated
def test_samples_in_onnxruntime(family):
    """Each run draws others, from the law; onnxruntime.set_seed repeats them."""
    onnxruntime = pytest.importorskip("onnxruntime")
    loc, kappa = unit(2, 4, dtype=torch.float32), family.at(torch.tensor([2.0, 20.0]))
    outputs = []
    program = session(Sampler(family), (loc, kappa))._model_bytes
    for seed in (0, 0, 1):
        onnxruntime.set_seed(seed)
        sampler = onnxruntime.InferenceSession(program)
        outputs.append([run(sampler, (loc, kappa))[0] for _ in range(2)])
    first, again, other = outputs
    close(first, again, rtol=0, atol=0)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])
    t = (torch.cat([*first, *other]) * loc).sum(-1)
    law = family.distribution(loc, kappa).marginal_t
    error = (t.mean(0) - law.mean).abs() / (law.variance / len(t)).sqrt()
    assert (error < 4.5).all()  # fails once in 100,000 seeds
