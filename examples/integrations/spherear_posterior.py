"""guolinke/SphereAR with this package's Power Spherical posterior.

Tried with commit 9e49e53. In its train.py import VAE from here instead of from SphereAR.vae. The
posterior of a token is Power Spherical on S^15. SphereAR/psd.py samples it by a Householder
reflection, which waits for the device at every step and breaks the compiled graph; the kernels do
neither, and compute in float32 under bfloat16 autocast.
"""

from __future__ import annotations

import torch.nn.functional as F
from SphereAR import vae  # of guolinke/SphereAR
from torch import Tensor
from torch.distributions import kl_divergence

from powerspherical_ext import HypersphericalUniform, PowerSpherical


class VAE(vae.VAE):
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return sample_posterior(self.quant_proj(self.encoder(x)))


def sample_posterior(x: Tensor) -> tuple[Tensor, Tensor]:
    """A latent of length sqrt(d) for each token, from x (..., d + 1), and the mean divergence."""
    x = x.float()
    loc, concentration = F.normalize(x[..., :-1], dim=-1), F.softplus(x[..., -1]) + 1
    q = PowerSpherical(loc, concentration, validate_args=False)
    uniform = HypersphericalUniform(loc.shape[-1], device=x.device)
    return q.rsample() * loc.shape[-1] ** 0.5, kl_divergence(q, uniform).mean()
