"""What FSDP, torch.fx and in-place operations ask of every head."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import distributed, nn
from torch.fx import symbolic_trace

from powerspherical_ext.losses import DirectPred, KappaHead, VISimSiamHead

HEADS = {
    "KappaHead": lambda: KappaHead(16, 8),
    "KappaHead, scaled": lambda: KappaHead(16, 8, "softplus_d", dim=8),
    "KappaHead, bounded": lambda: KappaHead(16, 8, distribution="spherical_cauchy"),
    "VISimSiamHead": lambda: VISimSiamHead(16, dim=8),
    "VISimSiamHead of DirectPred": lambda: VISimSiamHead(16, dim=8, predictor=DirectPred(8)),
    "DirectPred": lambda: DirectPred(16),
    "behind a backbone": lambda: nn.Sequential(nn.Linear(16, 16), VISimSiamHead(16, dim=8)),
}
each_head = pytest.mark.parametrize("name", HEADS)


def features():
    return torch.randn(6, 16, generator=torch.Generator().manual_seed(0))


def parts(output):
    return (output,) if isinstance(output, torch.Tensor) else tuple(output)


def change_in_place(output):
    """The last part of the output: kappa where there is one."""
    x = parts(output)[-1]
    x += 1e-3
    x.square().sum().backward()


@each_head
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_outputs_are_no_views(name, dtype):
    head = HEADS[name]().to(dtype)
    for training in (True, False):
        y = features().to(dtype).requires_grad_()
        output = head.train(training)(y)
        assert not any(x._is_view() for x in parts(output))
        change_in_place(output)
        assert y.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(16,), (1, 16), (2, 3, 16)])
def test_kappa_of_any_batch_is_no_view(shape):
    head = KappaHead(16, 8).eval()
    kappa = head(torch.randn(shape))
    assert kappa.shape == shape[:-1]
    assert not kappa._is_view()


# Fully sharded data parallel


@pytest.fixture
def one_process():
    if not distributed.is_available():
        pytest.skip("torch without torch.distributed")
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures(one_process.__name__)
@pytest.mark.parametrize("name", [name for name in HEADS if name != "DirectPred"])
@pytest.mark.parametrize("layers", ["whole", "children", "each"])
def test_fully_shard(name, layers):
    """The gradients are those of the module alone, and torch has nothing to warn of."""
    from torch.distributed.fsdp import fully_shard

    head = HEADS[name]()
    alone = copy.deepcopy(head)
    inner = {"whole": [], "children": head.children(), "each": list(head.modules())[1:]}[layers]
    for module in inner:
        if any(True for _ in module.parameters(recurse=layers == "children")):
            fully_shard(module)
    fully_shard(head)
    for module in (head, alone):
        change_in_place(module(features()))
    for ours, plain in zip(head.parameters(), alone.parameters(), strict=True):
        assert (ours.grad is None) == (plain.grad is None)
        if plain.grad is not None:
            torch.testing.assert_close(ours.grad.full_tensor(), plain.grad)


# torch.fx


@each_head
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_symbolic_trace(name, training):
    """The traced module computes the same, shares the state, and can be traced again."""
    head = HEADS[name]().train(training)
    alone = copy.deepcopy(head)
    traced = symbolic_trace(symbolic_trace(head))
    for _ in range(2):
        for x, y in zip(parts(traced(features())), parts(alone(features())), strict=True):
            assert torch.equal(x, y)
    assert all(
        torch.equal(x, y)
        for x, y in zip(head.state_dict().values(), alone.state_dict().values(), strict=True)
    )
    with torch.autocast("cpu", torch.bfloat16):
        for x, y in zip(parts(traced(features())), parts(alone(features())), strict=True):
            assert x.dtype == y.dtype
            assert torch.equal(x, y)


def test_a_traced_head_checks_its_input():
    for name in ("KappaHead", "VISimSiamHead", "DirectPred"):
        with pytest.raises(ValueError, match=r"must have shape .* got \(6, 15\)"):
            symbolic_trace(HEADS[name]())(torch.randn(6, 15))


def test_a_trace_cannot_count_the_calls_of_direct_pred():
    with pytest.raises(ValueError, match=r"every must be 1 .* got 3"):
        symbolic_trace(DirectPred(16, every=3))
    symbolic_trace(DirectPred(16, every=3).eval())
