"""
Coming from another library
===========================

This page compares densities and samples of other libraries with those of this package, for those
that are installed where the site was built. They are the same distributions.
:doc:`/migration` has tables of names, with programs before and after.
"""

import importlib.util

import matplotlib.pyplot as plt
import torch

from powerspherical_ext import PowerSpherical, VonMisesFisher

d, kappa, n = 8, 20.0, 20_000
loc = torch.nn.functional.one_hot(torch.tensor(0), d).double()
x = VonMisesFisher(loc, kappa / 4).sample((400,), generator=torch.Generator().manual_seed(0))

# %%
# Each entry has the distribution of this package, and the other library's log-density at ``x`` and
# samples. The arguments keep their order, mean direction first.

peers = {}
if importlib.util.find_spec("power_spherical"):
    import power_spherical

    torch.manual_seed(0)
    theirs = power_spherical.PowerSpherical(loc, torch.tensor(kappa, dtype=torch.float64))
    ours = PowerSpherical(loc, kappa)
    peers["power-spherical: PowerSpherical(loc, scale)"] = (
        ours,
        theirs.log_prob(x),
        theirs.sample((n,)),
    )
if importlib.util.find_spec("scipy"):
    from scipy.stats import vonmises_fisher

    theirs = vonmises_fisher(loc.numpy(), kappa, seed=0)
    samples = torch.from_numpy(theirs.rvs(n))
    ours = VonMisesFisher(loc, kappa)
    peers["SciPy: vonmises_fisher(mu, kappa)"] = (
        ours,
        torch.tensor(theirs.logpdf(x.numpy())),
        samples,
    )

# %%
# The upper row compares their samples with the distribution of the cosine t that this package
# computes. The lower row shows the difference of the log-densities: it is rounding of float64.

figure, axes = plt.subplots(2, len(peers), figsize=(9.5, 5.6), layout="constrained", squeeze=False)
for (top, bottom), (name, (ours, log_prob, samples)) in zip(axes.T, peers.items(), strict=True):
    t, drawn = x @ loc, samples @ loc
    error = log_prob - ours.log_prob(x)
    print(f"{name}: log-densities differ by at most {error.abs().max():.1e}")
    grid = torch.linspace(-0.2, 0.999, 300, dtype=torch.float64)
    top.hist(drawn.numpy(), bins=60, density=True, color="#bbbbbb", label="their samples")
    top.plot(grid, ours.marginal_t.log_prob(grid).exp(), color="#0072b2", label="our density of t")
    top.set(title=name, xlabel="cosine t to the mean direction", ylabel="density")
    top.legend(loc="upper left")
    bottom.plot(t, error, ".", color="#d55e00")
    bottom.set(xlabel="cosine t to the mean direction", ylabel="difference of log-densities")
plt.show()
