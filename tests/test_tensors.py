"""The helpers of the whole package that take tensors."""

from __future__ import annotations

import torch

from powerspherical_ext._tensors import by_rows


def test_by_rows():
    """Every element once, whatever the shapes, and never more than asked for."""
    seen = []

    def f(x, y):
        seen.append(x.numel())
        return x - y

    x, y = torch.arange(20.0).view(4, 1, 5).mT, torch.arange(3.0)
    assert torch.equal(by_rows(f, 7, x, y), x - y)
    assert max(seen) <= 7
    assert sum(seen) == (x - y).numel()
    assert by_rows(f, 7, x[:0], y).shape == (0, 5, 3)
    assert by_rows(f, 7, torch.ones(()), torch.ones(())).shape == ()
