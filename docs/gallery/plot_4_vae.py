"""
A hyperspherical variational autoencoder
========================================

The latent variable of this autoencoder (VAE) is a point of the sphere S^2. The posterior is a Power
Spherical distribution and the prior is uniform. ``rsample`` and ``kl_divergence`` are all that the
model needs of the package. The images are the 8 x 8 digits that come with scikit-learn.
"""

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import kl_divergence

from powerspherical_ext import HypersphericalUniform, PowerSpherical

torch.manual_seed(0)
images, digits = load_digits(return_X_y=True)
x = torch.from_numpy(images).float() / 16

# %%
# The encoder predicts a direction, which is normalised, and a concentration, which is positive.

d = 3
prior = HypersphericalUniform(d)
encoder = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, d + 1))
decoder = nn.Sequential(nn.Linear(d, 256), nn.ReLU(), nn.Linear(256, 64))


def posterior(x):
    direction, raw = encoder(x).split([d, 1], dim=-1)
    return PowerSpherical(F.normalize(direction, dim=-1), 1 + F.softplus(raw.squeeze(-1)))


# %%
# The loss is the negative evidence lower bound (ELBO): the error of the reconstruction plus the
# divergence of the posterior from the prior.

optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=5e-3)
history = []
for _ in range(60):
    for batch in torch.randperm(len(x)).split(128):
        q = posterior(x[batch])
        logits = decoder(q.rsample())
        error = F.binary_cross_entropy_with_logits(logits, x[batch], reduction="none").sum(-1)
        loss = (error + kl_divergence(q, prior)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
print(
    f"negative ELBO: {history[0]:.1f} nats at the start, {sum(history[-15:]) / 15:.1f} at the end"
)

# %%
# The map shows the mean directions of the posteriors on the whole sphere. The training never saw
# the labels. The sphere has no border, so digits have room on all sides.

with torch.no_grad():
    q = posterior(x)
    longitude, latitude = torch.atan2(q.loc[:, 1], q.loc[:, 0]), torch.asin(q.loc[:, 2])
    shown = torch.linspace(0, len(x) - 1, 8).long()
    rebuilt = torch.sigmoid(decoder(q.loc[shown]))

figure = plt.figure(figsize=(9, 6.5), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=(2.7, 1))
axis = top.subplots(subplot_kw={"projection": "mollweide"})
colours = plt.get_cmap("viridis", 12)
for digit in range(10):
    own = digits == digit
    axis.scatter(
        longitude[own], latitude[own], s=34, marker=f"${digit}$", lw=0.4, color=colours(digit)
    )
axis.set(xticklabels=[], yticklabels=[], title="mean directions of the posteriors, marked by digit")
axis.grid(alpha=0.3)
for row, name in zip(bottom.subplots(2, 8), ("image", "rebuilt"), strict=True):
    for axis, image in zip(row, x[shown] if name == "image" else rebuilt, strict=True):
        axis.imshow(image.reshape(8, 8), cmap="gray_r")
        axis.set(xticks=[], yticks=[])
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
plt.show()
