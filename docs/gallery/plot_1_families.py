"""
Densities and samples on the sphere
===================================

The package has three families of distributions that are symmetric about a mean direction. This
script draws their densities on the sphere S^2 in three dimensions, with samples.
"""

import matplotlib.pyplot as plt
import torch

from powerspherical_ext import PowerSpherical, SphericalCauchy, VonMisesFisher

# %%
# A distribution takes a mean direction, which is a unit vector, and a concentration. The three
# concentrations below give the same density at the mean direction.

loc = torch.nn.functional.normalize(torch.tensor([-0.3, 0.45, 1.0]), dim=-1)
families = {
    "Power Spherical": PowerSpherical(loc, 20.0),
    "von Mises-Fisher": VonMisesFisher(loc, 10.5),
    "spherical Cauchy": SphericalCauchy(loc, 0.642),
}
for name, p in families.items():
    peak, cosine = p.log_prob(loc).exp(), p.mean_resultant_length()
    print(f"{name}: density {peak:.2f} at the mean direction, mean cosine {cosine:.2f}")

# %%
# Each picture looks at the sphere from the front. A pixel at (x, y) of the disc is the point
# (x, y, z) of the sphere, with the positive z that makes its length 1. Dots are samples on the side
# that we see. All three pictures have one scale of colours, in steps that show lines of equal
# density.
#
# The spherical Cauchy distribution has the heaviest tails: more of its samples are far from the
# mean direction. The other two differ less. The density of the Power Spherical distribution is 0 at
# the point opposite to the mean direction, which is behind the sphere here.

side = torch.linspace(-1, 1, 400)
y, x = torch.meshgrid(side, side, indexing="ij")
z = (1 - x**2 - y**2).clamp(min=0).sqrt()
pixels = torch.nn.functional.normalize(torch.stack([x, y, z], dim=-1), dim=-1)
outside = x**2 + y**2 > 1

torch.manual_seed(0)
options = {"extent": (-1, 1, -1, 1), "origin": "lower", "interpolation": "nearest"}
options["cmap"] = plt.get_cmap("viridis", 26)
figure, axes = plt.subplots(1, 3, figsize=(10, 4.4), layout="constrained")
for axis, (name, p) in zip(axes, families.items(), strict=True):
    density = p.log_prob(pixels).exp().masked_fill(outside, torch.nan)
    image = axis.imshow(density.sqrt(), vmin=0, vmax=1.3, **options)
    samples = p.sample((300,))
    front = samples[samples[:, 2] > 0]
    axis.plot(*front[:, :2].T, "o", ms=2.8, color="white", mec="black", mew=0.5)
    axis.add_patch(plt.Circle((0, 0), 1, fill=False, color="black", lw=0.8))
    axis.set(title=f"{name}({p.concentration:.3g})", xlim=(-1.02, 1.02), ylim=(-1.02, 1.02))
    axis.axis("off")
bar = figure.colorbar(image, ax=axes, orientation="horizontal", aspect=60, pad=0.02, shrink=0.6)
levels = [0, 0.05, 0.2, 0.5, 1, 1.6]
bar.set_ticks([level**0.5 for level in levels], labels=[f"{level:g}" for level in levels])
bar.set_label("density with respect to the area of the sphere")
plt.show()
