"""What a training run logs beside its loss."""

from __future__ import annotations

import pytest
import torch
from loss_inputs import FAMILIES

from powerspherical_ext.losses import feature_std, mean_resultant_length


def test_feature_std_of_a_list_of_views():
    with pytest.raises(TypeError, match="z must be one tensor"):
        feature_std([torch.eye(3), torch.eye(3)])


def test_feature_std():
    torch.manual_seed(0)
    spread = feature_std(torch.randn(4000, 64))
    assert spread.item() == pytest.approx(1 / 8, rel=0.02)
    collapsed = torch.ones(10, 64) * torch.rand(10, 1)
    assert feature_std(collapsed).item() == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match=r"z must have shape \(N, d\).*got \(64,\)"):
        feature_std(torch.randn(64))


@pytest.mark.parametrize("name", FAMILIES)
def test_mean_resultant_length_is_the_distributions(name):
    kappa = torch.tensor([0.0, 0.3, 0.9], dtype=torch.float64)
    loc = torch.eye(2048, dtype=torch.float64)[0]
    expected = FAMILIES[name](loc, kappa).mean_resultant_length()
    torch.testing.assert_close(mean_resultant_length(kappa, 2048, distribution=name), expected)


def test_mean_resultant_length_of_a_power_spherical():
    kappa = torch.tensor([0.0, 1.0, 850.0], dtype=torch.float64)
    torch.testing.assert_close(mean_resultant_length(kappa, 2048), kappa / (kappa + 2047))
    with pytest.raises(ValueError, match=r"distribution must be one of .*got 'normal'"):
        mean_resultant_length(kappa, 3, distribution="normal")
