"""
VI-SimSiam in fifty lines
=========================

Two noisy views of an image should have similar embeddings. VI-SimSiam also learns a concentration,
kappa, that says how well one view predicts the other. No label is used. The images are the 8 x 8
digits that come with scikit-learn.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

from powerspherical_ext import KappaHead, VISimSiamLoss
from powerspherical_ext.losses import VISimSiamHead, feature_std

torch.manual_seed(0)
x = torch.from_numpy(load_digits().images).float() / 16
train, test = x[:1400], x[1400:]


def view(x, strength):
    """Noise on every pixel, and a bar across some rows; strength from 0 to 1 for each image."""
    strength = strength[:, None, None]
    height = 3 * strength * torch.rand(len(x), 1, 1)
    bar = (torch.arange(8)[:, None] - torch.randint(8, (len(x), 1, 1))).abs() < height
    return (x.masked_fill(bar, 0) + 0.4 * strength * torch.randn_like(x)).flatten(1)


# %%
# The head holds the projector, the predictor and the head of kappa. With Adam, ``softplus_d``
# starts kappa on the right scale.

width, d = 128, 32
kappa_head = KappaHead(width, 64, parametrization="softplus_d", dim=d)
backbone = nn.Sequential(nn.Linear(64, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, width))
model = nn.Sequential(backbone, VISimSiamHead(width, d, kappa_head=kappa_head))
criterion = VISimSiamLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
for _ in range(80):
    for batch in torch.randperm(len(train)).split(200):
        a, b = (model(view(train[batch], torch.rand(len(batch)))) for _ in range(2))
        loss = criterion(a.mu, b.z, a.kappa) + criterion(b.mu, a.z, b.kappa)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print(f"loss {loss.item():.1f}; spread of the embeddings {feature_std(a.z):.2f}, 0 is collapse")

# %%
# On images that the model has not seen, kappa falls as the damage grows.

model.eval()
strengths = torch.linspace(0, 1, 11)
with torch.no_grad():
    kappas = torch.stack([model(view(test, torch.full((len(test),), s))).kappa for s in strengths])
low, median, high = kappas.quantile(torch.tensor([0.1, 0.5, 0.9]), dim=1)

shape = {"layout": "constrained", "figsize": (9, 3.8), "width_ratios": (1.6, 1)}
figure, (left, right) = plt.subplots(1, 2, **shape)
left.fill_between(strengths, low, high, alpha=0.25, color="#0072b2", label="80 % of test images")
left.plot(strengths, median, "o-", color="#0072b2", label="median")
left.set(xlabel="strength of the damage", ylabel="kappa", title="kappa, learnt without labels")
left.set_ylim(bottom=0)
left.legend()
right.axis("off")
rows = torch.stack([view(test[:5], torch.full((5,), s)) for s in (0.0, 0.5, 1.0)])
rows = rows.reshape(3, 5, 8, 8).transpose(1, 2).reshape(24, 40)
right.imshow(rows, cmap="gray_r", vmin=0, vmax=1)
right.set_title("test images of strength 0, 0.5, 1")
plt.show()
