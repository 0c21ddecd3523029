"""The law of the cosine where a program is traced: make_fx, torch.compile, torch.export, torch.jit.

Its quadratures, bisections and trials may not become nodes of the graph.
"""

from __future__ import annotations

import pytest
import torch
from cases import close, each_concentrated, ignores_warnings_of_torch, needs_kernels
from torch.distributions import Distribution
from torch.fx.experimental.proxy_tensor import make_fx

from powerspherical_ext import PowerSpherical

pytestmark = [
    ignores_warnings_of_torch,
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit"),
]
raw = torch.ops.powerspherical_ext
each_dimension = pytest.mark.parametrize("d", [2, 5])
METHODS = ["log_prob", "cdf", "survival", "icdf", "entropy", "mean", "variance"]


def law(family, d, kappa):
    return family.make(torch.eye(d, dtype=kappa.dtype)[0], kappa, validate_args=False).marginal_t


def call(law, method, x):
    """A method or property of a law, at x if it takes an argument."""
    if method in ("mean", "variance"):
        return getattr(law, method)
    return getattr(law, method)(*() if method in ("entropy", "rsample") else (x,))


def inputs(family, n):
    x = torch.linspace(0.2, 0.8, n, dtype=torch.float64)
    kappa = family.at(torch.linspace(0.5, 9.0, n, dtype=torch.float64))
    return x.requires_grad_(), kappa.requires_grad_()


def gradients(function, *leaves):
    torch.manual_seed(0)
    outputs = function(*leaves)
    return *outputs, *torch.autograd.grad(sum(x.sin().sum() for x in outputs), leaves)


class Everything(torch.nn.Module):
    def __init__(self, family, d, methods):
        super().__init__()
        self.family, self.d, self.methods = family, d, methods

    def forward(self, x, kappa):
        t = law(self.family, self.d, kappa)
        return tuple(call(t, method, x) for method in self.methods)


@needs_kernels
@each_concentrated
@each_dimension
@pytest.mark.parametrize("method", [*METHODS, "rsample"])
def test_number_of_nodes(family, method, d):
    """Of value and gradients. The derivative of the variance is that of the reference for von
    Mises-Fisher, which has 509; every other function has fewer than 120."""

    def function(x, kappa):
        y = call(law(family, d, kappa), method, x)
        return y, *torch.autograd.grad(y.sum(), (x, kappa), allow_unused=True)

    for mode in ("real", "symbolic"):
        graph = make_fx(function, tracing_mode=mode)(*inputs(family, 3)).graph
        count = sum(node.op == "call_function" for node in graph.nodes)
        assert 0 < count < (600 if method == "variance" else 120)


@pytest.mark.slow
@each_concentrated
@each_dimension
@pytest.mark.parametrize("dynamic", [False, True])
def test_compile(family, d, dynamic):
    torch.compiler.reset()
    function = Everything(family, d, [*METHODS, "rsample"])
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for n in (3, 4):
        leaves = inputs(family, n)
        close(gradients(compiled, *leaves), gradients(function, *leaves), rtol=1e-12, atol=1e-12)
    torch.compiler.reset()


@each_concentrated
@pytest.mark.parametrize("strict", [False, True], ids=["non-strict", "strict"])
def test_export(family, strict):
    module = Everything(family, 5, [*METHODS, "rsample"])
    batch = torch.export.Dim("batch", min=2)
    example = tuple(x.detach() for x in inputs(family, 3))
    program = torch.export.export(module, example, dynamic_shapes=({0: batch},) * 2, strict=strict)
    leaves = inputs(family, 5)
    close(gradients(program.module(), *leaves), gradients(module, *leaves))


@each_concentrated
def test_jit_trace(family):
    module = Everything(family, 5, METHODS)
    traced = torch.jit.trace(module, inputs(family, 3))
    leaves = [x.detach().flip(0).requires_grad_() for x in inputs(family, 3)]
    close(gradients(traced, *leaves), gradients(module, *leaves))


@each_concentrated
def test_compile_of_vmap(family):
    torch.compiler.reset()
    function = torch.func.vmap(lambda x, kappa: law(family, 5, kappa).log_prob(x))
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    arguments = [x.detach() for x in inputs(family, 3)]
    close(compiled(*arguments), function(*arguments))
    torch.compiler.reset()


def test_validation_follows_the_default_of_torch(monkeypatch):
    """torch.compile switches the default off, which holds for laws made before, too."""
    monkeypatch.setattr(Distribution, "_validate_args", True)
    loc = torch.eye(3)[0]
    by_default, asked = (
        PowerSpherical(loc, 2.0).marginal_t,
        PowerSpherical(loc, 2.0, True).marginal_t,
    )
    monkeypatch.setattr(Distribution, "_validate_args", False)
    assert by_default.cdf(torch.tensor(2.0)) == 1
    with pytest.raises(ValueError, match="must satisfy"):
        asked.cdf(torch.tensor(2.0))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: raw.cosine_cdf(x, x, 1, 0, False, x.dtype), ValueError, "d >= 2, got 1"),
        (lambda x: raw.cosine_icdf(x, x, 3, -1, x.dtype), ValueError, "no family has index -1"),
        (lambda x: raw.cosine_entropy(x, 3, 99, x.dtype), ValueError, "no family has index 99"),
        (lambda x: raw.cosine_cdf(x, x.double(), 3, 0, True, x.dtype), TypeError, "kappa .*64"),
        (lambda x: raw.cosine_icdf(x.half(), x.half(), 3, 0, x.dtype), TypeError, "q .*float16"),
        (lambda x: raw.cosine_entropy(x, 3, 0, torch.half), TypeError, "dtype must be .*float16"),
        (lambda x: raw.cosine_sample(x, torch.tensor([1, 2, 3]), 3, 0), ValueError, r"\(2,\).*3"),
        (lambda x: raw.implicit_gradient(x, x, x, 0, 0), ValueError, "d >= 2, got 0"),
    ],
)
def test_wrong_calls(call, error, message):
    with pytest.raises(error, match=message):
        call(torch.tensor([0.5]))
