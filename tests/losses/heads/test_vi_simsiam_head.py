"""VISimSiamHead in a training step and in a multi-crop wrapper."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from powerspherical_ext.losses import (
    DirectPred,
    KappaHead,
    VISimSiamHead,
    VISimSiamLoss,
)


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
