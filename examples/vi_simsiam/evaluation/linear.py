"""Linear evaluation with the paper's settings, on features that are computed once.

Appendix B: LARS (You et al. 2017), learning rate 1.6, momentum 0.9, no weight decay, batches of
512, 100 epochs, and the epoch of the highest accuracy on a held-out part of the training images.
From SimSiam, to which the paper refers, come the cosine schedule and the trust coefficient. The
paper crops the training images at random; here they are whole, as those of the test are. Its 100
epochs are 16,000 steps. Where 100 epochs would be fewer than 10,000, there are more epochs.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..knn import Prediction

LR, MOMENTUM, BATCH_SIZE, TRUST = 1.6, 0.9, 512, 1e-3
EPOCHS, FEWEST_STEPS = 100, 10_000


class LARS(torch.optim.Optimizer):
    """SGD in which the gradient of a matrix is scaled to TRUST times the norm of the matrix."""

    def __init__(self, params, lr: float, momentum: float = MOMENTUM) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                grad = p.grad
                if p.ndim > 1:
                    grad = grad * (TRUST * p.norm() / grad.norm().clamp(min=1e-12))
                velocity = self.state[p].setdefault("velocity", torch.zeros_like(p))
                velocity.mul_(group["momentum"]).add_(grad)
                p.sub_(group["lr"] * velocity)


def fit_linear(
    y: Tensor, label: Tensor, n_classes: int, fit: Tensor, tune: Tensor
) -> dict[str, Any]:
    """Weight and bias of the best epoch, and the accuracy on the rows of ``tune`` by epoch."""
    generator = torch.Generator().manual_seed(0)
    weight = 0.01 * torch.randn(n_classes, y.shape[1], generator=generator)
    weight = weight.to(y.device).requires_grad_()
    bias = y.new_zeros(n_classes).requires_grad_()
    optimizer = LARS([weight, bias], LR)
    fit, tune = fit.to(y.device), tune.to(y.device)
    curve, best = [], (-1.0, weight, bias)
    epochs = max(EPOCHS, math.ceil(FEWEST_STEPS / math.ceil(len(fit) / BATCH_SIZE)))
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = LR * (1 + math.cos(math.pi * epoch / epochs)) / 2
        order = fit[torch.randperm(len(fit), generator=generator).to(fit.device)]
        batches = zip(y[order].split(BATCH_SIZE), label[order].split(BATCH_SIZE), strict=True)
        for x, target in batches:
            loss = F.cross_entropy(F.linear(x, weight, bias), target)
            weight.grad, bias.grad = torch.autograd.grad(loss, (weight, bias))
            optimizer.step()
        with torch.no_grad():
            right = F.linear(y[tune], weight, bias).argmax(dim=-1) == label[tune]
        curve.append(right.float().mean().item())
        if curve[-1] > best[0]:
            best = (curve[-1], weight.detach().clone(), bias.detach().clone())
    return {
        "weight": best[1].cpu(),
        "bias": best[2].cpu(),
        "accuracy": curve,
        "best_epoch": curve.index(best[0]) + 1,
    }


def predict_linear(fitted: dict[str, Any], y: Tensor) -> Prediction:
    logits = F.linear(y, fitted["weight"].to(y.device), fitted["bias"].to(y.device))
    most = logits.softmax(dim=-1).max(dim=-1)
    return Prediction(most.indices, most.values)
