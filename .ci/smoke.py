"""What an installed wheel must do: `python smoke.py kernels|plain VERSION`, outside of the tree."""

import sys
import warnings

import torch
from torch.distributions import kl_divergence

kernels, version = sys.argv[1] == "kernels", sys.argv[2]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import powerspherical_ext
    from powerspherical_ext import (
        HypersphericalUniform,
        PowerSpherical,
        SphericalCauchy,
        VISimSiamLoss,
        VonMisesFisher,
    )

told = [str(w.message) for w in caught if "no compiled kernels" in str(w.message)]
assert len(told) == (not kernels), told
config = powerspherical_ext.show_config(mode="dicts")
assert config["version"] == version, config
assert config["cpu_kernels"]["available"] == kernels, config
powerspherical_ext.show_config()

torch.manual_seed(0)
for dtype in (torch.float32, torch.float64):
    loc = torch.nn.functional.normalize(torch.randn(5, 16, dtype=dtype), dim=-1).requires_grad_()
    for family, kappa in ((PowerSpherical, 9.0), (VonMisesFisher, 9.0), (SphericalCauchy, 0.6)):
        concentration = torch.full((5,), kappa, dtype=dtype, requires_grad=True)
        law = family(loc, concentration)
        x = law.rsample()
        assert x.dtype == dtype
        assert torch.allclose(x.norm(dim=-1), torch.ones(5, dtype=dtype))
        value = law.log_prob(x).sum() + kl_divergence(law, HypersphericalUniform(16)).sum()
        for gradient in torch.autograd.grad(value, (loc, concentration)):
            assert gradient.isfinite().all()
            assert gradient.abs().sum() > 0

# log p of the Power Spherical on S^2 is log(1 + t) - log(4 pi) at kappa = 1.
north = torch.tensor([0.0, 0.0, 1.0])
law = PowerSpherical(north, torch.tensor(1.0))
assert torch.allclose(law.log_prob(north), torch.tensor(2 / (4 * torch.pi)).log())

loss = VISimSiamLoss()(
    torch.randn(8, 32, requires_grad=True), torch.randn(8, 32), torch.rand(8) + 1
)
loss.backward()
if kernels:  # an error in C++ becomes an exception of Python
    message = ""
    try:
        torch.ops.powerspherical_ext.log_prob(loc, loc[:, :3], loc[:, 0], 0)
    except RuntimeError as error:
        message = str(error)
    assert "powerspherical_ext" in message, message
print("smoke test passed on torch", torch.__version__, "and Python", sys.version.split()[0])
