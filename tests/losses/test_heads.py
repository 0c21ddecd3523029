"""DirectPred against its equations, and VISimSiamHead in a training step and a multi-crop wrapper.

KappaHead is in test_losses.py.
"""

from __future__ import annotations

import os
import socket
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from powerspherical_ext.losses import (
    DirectPred,
    KappaHead,
    VISimSiamHead,
    VISimSiamLoss,
    simsiam_loss,
)


def projections(n, d, seed=0, spread=None):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return z if spread is None else z * torch.tensor(spread, dtype=torch.float64)


def exact(d, **settings):
    """DirectPred as eq. 23 has it, without eps and memory, in double precision."""
    return DirectPred(d, momentum=0.0, eps=0.0, floor=1e-30, **settings).double()


# DirectPred


def test_direct_pred_is_equations_23_and_24():
    z = projections(500, 8, spread=[8, 5, 3, 2, 1, 1, 0.5, 0.1])
    f = F.normalize(z, dim=-1)
    s, u = torch.linalg.eigh(f.T @ f / 500)
    expected = z @ (u @ s.sqrt().diag() @ u.T).T
    ours = exact(8)(z)
    torch.testing.assert_close(ours * s.max().sqrt(), expected)
    torch.testing.assert_close(F.normalize(ours, dim=-1), F.normalize(expected, dim=-1))


def test_equation_25_value_and_gradient():
    """h(z_j) . z_i = (U^T z_j)^T L^(1/2) (U^T z_i): the cosine in the principal directions."""
    z = projections(500, 6, spread=[5, 3, 2, 1, 1, 0.3])
    f = F.normalize(z, dim=-1)
    s, u = torch.linalg.eigh(f.T @ f / 500)
    h = exact(6)
    h(z)
    h.eval()
    z_j, z_i = f[0].clone().requires_grad_(), f[1].clone().requires_grad_()
    ours = (h(z_j[None])[0] @ z_i) * s.max().sqrt()
    theirs = (u.T @ z_j) @ (s.sqrt() * (u.T @ z_i))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, (z_j, z_i)), torch.autograd.grad(theirs, (z_j, z_i))
    )


def test_direct_pred_settings_are_the_published_ones():
    """EMA .3; sqrt(s/s_max) + .01, at least 1e-4; an update in every step, as boost_scale."""
    h, s = DirectPred(5), torch.zeros(5, 5)
    for seed in range(4):
        z = projections(20, 5, seed).float()
        f = F.normalize(z, dim=-1)
        s = 0.3 * s + 0.7 * f.T @ f / 20
        values, vectors = torch.linalg.eigh(s)
        gain = ((values.clamp(0) / values.max()).sqrt() + 0.01).clamp(1e-4)
        expected = z @ (vectors @ gain.diag() @ vectors.T)
        torch.testing.assert_close(h(z), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(h.correlation, s)


def test_direct_pred_every_third_call_and_never_in_eval():
    h = DirectPred(4, every=3)
    weights = []
    for seed in range(5):
        h(projections(10, 4, seed).float())
        weights.append(h.weight.clone())
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[2], weights[3])
    before = h.correlation.clone()
    h.eval()
    h(projections(10, 4, 9).float())
    assert torch.equal(h.correlation, before)
    copy = DirectPred(4)
    copy.load_state_dict(h.state_dict())
    assert torch.equal(copy.weight, h.weight)


def test_direct_pred_of_two_views_before_one_backward_pass():
    h = DirectPred(4)
    z1, z2 = (projections(10, 4, seed).float().requires_grad_() for seed in range(2))
    p1 = h(z1)
    weight = h.weight.clone()
    p2 = h(z2)
    (p1.sum() + p2.sum()).backward()
    torch.testing.assert_close(z1.grad, weight.sum(0).expand(10, 4))
    assert not list(h.parameters())


def test_direct_pred_of_projections_without_rank_is_finite():
    for z in (torch.zeros(5, 4), torch.ones(5, 4)):
        h = DirectPred(4)
        assert h(z).isfinite().all()
        assert h.weight.isfinite().all()


def test_claim_4_4_direct_pred_drives_the_projections_to_isotropy():
    """The effective rank of E[f f^T], of a linear encoder that starts at 5.8 of 8. After 100 steps
    seeds 0, 1, 2 had 7.96, 7.94, 7.92 with DirectPred and 7.37, 7.17, 7.48 without a predictor."""

    def effective_rank(predictor):
        torch.manual_seed(0)
        encoder = nn.Linear(16, 8, bias=False)
        with torch.no_grad():
            u, _, v = torch.linalg.svd(encoder.weight, full_matrices=False)
            encoder.weight.copy_(u * torch.linspace(1, 0.2, 8) @ v)
        optimizer = torch.optim.SGD(encoder.parameters(), lr=0.5, weight_decay=1e-3)
        for _ in range(100):
            x = torch.randn(128, 16)
            z1, z2 = (encoder(x + 0.7 * torch.randn(128, 16)) for _ in range(2))
            optimizer.zero_grad()
            simsiam_loss([predictor(z1), predictor(z2)], [z1, z2]).backward()
            optimizer.step()
        f = F.normalize(encoder(torch.randn(2048, 16)), dim=-1)
        return 1 / torch.linalg.eigvalsh(f.T @ f / 2048).square().sum().item()

    assert effective_rank(DirectPred(8)) > 7.8
    assert effective_rank(nn.Identity()) < 7.6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 1}, "dim must be at least 2, got 1"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"eps": -1.0}, "eps must be >= 0, got -1.0"),
        ({"floor": 0.0}, "floor must be positive, got 0.0"),
        ({"every": 0}, "every must be at least 1, got 0"),
    ],
)
def test_direct_pred_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        DirectPred(**{"dim": 4, **settings})


def test_direct_pred_bad_input():
    h = DirectPred(4)
    with pytest.raises(ValueError, match=r"z must have shape \(N, 4\), got \(3, 5\)"):
        h(torch.randn(3, 5))
    with pytest.raises(ValueError, match="z must be finite"):
        h(torch.full((3, 4), torch.nan))
    with pytest.raises(ValueError, match="one sample or more"):
        h(torch.randn(0, 4))
    with pytest.raises(TypeError, match=r"floating-point tensor, got torch\.int64"):
        h(torch.ones(3, 4, dtype=torch.int64))
    assert torch.equal(h.correlation, torch.zeros(4, 4))


def test_direct_pred_in_half_precision():
    z = projections(30, 4).float()
    expected = DirectPred(4)(z)
    ours = DirectPred(4)(z.bfloat16())
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), expected, atol=0.05, rtol=0.05)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(DirectPred(4)(z), expected)


# VISimSiamHead


class MultiCropWrapper(nn.Module):
    """DINO's, in short: one backbone pass for each size of crop, one head pass for all."""

    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, crops):
        sizes = [crop.shape[-1] for crop in crops]
        groups = [torch.cat([c for c in crops if c.shape[-1] == s]) for s in dict.fromkeys(sizes)]
        return self.head(torch.cat([self.backbone(group) for group in groups]))


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)

    def forward(self, x):
        return F.relu(self.conv(x)).mean((2, 3))


def crops(n=6, large=2, small=6):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(n, 3, 12, 12, generator=generator)
    noise = [0.1 * torch.randn(image.shape, generator=generator) for _ in range(large + small)]
    views = [image + x for x in noise]
    return views[:large] + [v[:, :, :6, :6] for v in views[large:]]


@pytest.mark.parametrize("predictor", [None, DirectPred(8)], ids=["mlp", "DirectPred"])
def test_head_behind_a_multi_crop_wrapper(predictor):
    torch.manual_seed(0)
    head = VISimSiamHead(16, dim=8, predictor=predictor)
    model = MultiCropWrapper(Backbone(), head)
    out = model(crops())
    assert out.z.shape == out.mu.shape == (48, 8)
    assert out.kappa.shape == (48,)
    preds, targets, kappas = out.mu.chunk(8), out.z.chunk(8)[:2], out.kappa.chunk(8)
    each = VISimSiamLoss(reduction="none")(preds, targets, kappas)
    assert each.shape == (14, 6)
    each.mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_head_is_algorithm_1_layer_by_layer():
    head = VISimSiamHead(16, dim=8, hidden_features=24).eval()
    y = torch.randn(5, 16)
    z, mu, kappa = head(y)
    torch.testing.assert_close(z, head.projector(y))
    torch.testing.assert_close(mu, head.predictor(z))
    torch.testing.assert_close(kappa, head.kappa_head(y))
    widths = [layer.out_features for layer in head.projector if isinstance(layer, nn.Linear)]
    assert widths == [24, 24, 8]
    widths = [layer.out_features for layer in head.predictor if isinstance(layer, nn.Linear)]
    assert widths == [2, 8]


def test_head_learns():
    """Two views of 64 images, 60 steps of Adam: the loss falls below that of the uniform guess."""
    torch.manual_seed(0)
    kappa_head = KappaHead(16, 32, "softplus_d", dim=8)
    head = VISimSiamHead(16, dim=8, kappa_head=kappa_head)
    criterion, optimizer = VISimSiamLoss(), torch.optim.Adam(head.parameters(), lr=3e-3)
    y = torch.randn(64, 16)
    losses = []
    for _ in range(60):
        a, b = (head(y + 0.3 * torch.randn(64, 16)) for _ in range(2))
        loss = criterion([a.mu, b.mu], [a.z, b.z], [a.kappa, b.kappa])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0 > losses[-1]


def test_head_keeps_kappa_in_float32_under_autocast():
    head = VISimSiamHead(16, dim=8).eval()
    with torch.autocast("cpu", torch.bfloat16):
        out = head(torch.randn(5, 16))
    assert out.z.dtype == out.mu.dtype == torch.bfloat16
    assert out.kappa.dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_features": 0}, "in_features must be at least 1, got 0"),
        ({"hidden_features": 0}, "hidden_features must be at least 1, got 0"),
        ({"dim": 3}, "dim must be at least 4, got 3"),
        ({"dim": 1, "predictor": nn.Identity()}, "dim must be at least 2, got 1"),
    ],
)
def test_head_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        VISimSiamHead(**{"in_features": 16, "dim": 8, **arguments})


def test_head_takes_modules_of_your_own():
    head = VISimSiamHead(
        8, dim=8, projector=nn.Sequential(), predictor=nn.Identity(), kappa_head=nn.Flatten(0)
    )
    y = torch.randn(3, 8)
    for part in head(y):
        assert torch.equal(part.flatten(), y.flatten())


def test_head_bad_input():
    head = VISimSiamHead(16, dim=8)
    with pytest.raises(ValueError, match=r"y must have shape \(N, 16\), got \(8, 15\)"):
        head(torch.randn(8, 15))
    with pytest.raises(ValueError, match=r"y must have shape \(N, 16\), got \(2, 8, 16\)"):
        head(torch.randn(2, 8, 16))
    with pytest.raises(TypeError, match=r"floating-point tensor, got torch\.int64"):
        head(torch.ones(8, 16, dtype=torch.int64))


# Several processes


def worker(rank, port, queue):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(linear_and_direct_pred())
    z1, z2 = (projections(8, 6, seed).float().chunk(2)[rank] for seed in range(2))
    (model(z1).square().sum() + model(z2).sum()).backward()  # two passes, one backward
    queue.put((rank, model.module[1].weight.tolist(), model.module[0].weight.grad.tolist()))
    torch.distributed.destroy_process_group()


def linear_and_direct_pred():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), DirectPred(4))


@pytest.mark.skipif(sys.platform == "win32", reason="gloo on localhost is for Linux and macOS")
def test_direct_pred_in_two_processes_is_that_of_one():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=worker, args=(rank, port, queue)) for rank in range(2)]
    for process in workers:
        process.start()
    results = [queue.get(timeout=120)[1:] for _ in workers]
    for process in workers:
        process.join()
    model = linear_and_direct_pred()
    z1, z2 = (projections(8, 6, seed).float() for seed in range(2))
    (model(z1).square().sum() + model(z2).sum()).backward()
    for weight, gradient in results:
        torch.testing.assert_close(torch.tensor(weight), model[1].weight, atol=1e-5, rtol=1e-4)
        # DistributedDataParallel averages what this sum adds.
        torch.testing.assert_close(
            2 * torch.tensor(gradient), model[0].weight.grad, atol=1e-4, rtol=1e-4
        )
