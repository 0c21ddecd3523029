"""
Fit a distribution, with a confidence cone
==========================================

``fit`` is maximum likelihood. It takes weights, and many sets of weights at once, so that a
bootstrap is a single call. The example estimates the mean direction of 60 measured directions, and
a cone that holds the true direction with a confidence of 95 %.
"""

import matplotlib.pyplot as plt
import torch

from powerspherical_ext import VonMisesFisher
from powerspherical_ext.goodness_of_fit import goodness_of_fit_test

generator = torch.Generator().manual_seed(1)
truth = VonMisesFisher(torch.tensor([0.8, 0.0, 0.6]), 12.0)
x = truth.sample((60,), generator=generator)
fitted = VonMisesFisher.fit(x)
print(f"true concentration 12, estimate {fitted.concentration:.1f}")

# %%
# A bootstrap draws 60 of the 60 samples with replacement. How often a sample was drawn is its
# weight. A thousand sets of weights give a thousand fits. The samples are not copied for them.

draws = torch.randint(60, (1000, 60), generator=generator)
weights = torch.zeros(1000, 60).scatter_add_(1, draws, torch.ones(1000, 60))
bootstrap = VonMisesFisher.fit(x, weights)
angle = torch.acos((bootstrap.loc @ fitted.loc).clamp(max=1))
cone = angle.quantile(0.95)
low, high = bootstrap.concentration.quantile(torch.tensor([0.025, 0.975]))
error = torch.acos(truth.loc @ fitted.loc)
print(f"confidence cone of the mean direction: {cone.rad2deg():.1f} degrees")
print(f"angle between the estimate and the true direction: {error.rad2deg():.1f} degrees")
print(f"95 % of the bootstrap's concentrations: {low:.1f} to {high:.1f}")

# %%
# Another cone holds 95 % of the *samples*: ``angle_quantile`` is its angle. It is right if the
# family describes the samples, which ``goodness_of_fit_test`` tests. The map below shows the whole
# sphere.

sample_cone = fitted.angle_quantile(0.95)
test = goodness_of_fit_test(x, VonMisesFisher, n_simulations=99, generator=generator)
print(f"p-value of the von Mises-Fisher family: {test.p_value:.2f}")
print(f"cone of the samples: {sample_cone.rad2deg():.1f} degrees")


def circle(centre, radius):
    """Longitudes and latitudes of the points at an angle from a direction."""
    across = torch.linalg.svd(centre.unsqueeze(0)).Vh[1:]
    turn = torch.linspace(0, 2 * torch.pi, 200).unsqueeze(-1)
    ring = turn.cos() * across[0] + turn.sin() * across[1]
    return on_map(radius.cos() * centre + radius.sin() * ring)


def on_map(points):
    return torch.atan2(points[..., 1], points[..., 0]), torch.asin(points[..., 2])


figure, axis = plt.subplots(
    figsize=(8, 5), layout="constrained", subplot_kw={"projection": "mollweide"}
)
axis.plot(*on_map(x), "o", ms=4, color="#999999", label="samples")
axis.plot(*circle(fitted.loc, sample_cone), "--", color="#0072b2", label="holds 95 % of samples")
axis.plot(
    *circle(fitted.loc, cone), "-", color="#d55e00", label="confidence cone of the mean, 95 %"
)
axis.plot(*on_map(fitted.loc), "+", ms=10, color="#d55e00", label="fitted mean direction")
axis.plot(*on_map(truth.loc), "k*", ms=9, label="true mean direction")
axis.grid(alpha=0.3)
axis.set_xticklabels([])
figure.legend(loc="outside lower center", ncols=3, frameon=False)
plt.show()
