"""
Predict a direction and how certain it is
=========================================

A neutrino telescope measures where a particle came from. Some events are bright and give the
direction within a degree; others are faint. A network that predicts a mean direction and a
concentration tells them apart. The events here are simulated.
"""

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.ticker import NullFormatter
from torch import nn

from powerspherical_ext import HypersphericalUniform, VonMisesFisher

torch.manual_seed(0)
uniform = HypersphericalUniform(3)


def events(n):
    """Eight noisy measurements of each direction, flattened, and the direction. The noise differs
    from event to event, and nothing tells the network how large it is."""
    direction = uniform.sample((n,))
    noise = 10 ** (torch.rand(n, 1, 1) * 1.5 - 1)
    return (direction.unsqueeze(1) + noise * torch.randn(n, 8, 3)).flatten(1), direction


# %%
# The loss is the negative log-likelihood of the true direction. Nothing else teaches kappa.

hidden = nn.Linear(24, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU()
network = nn.Sequential(*hidden, nn.Linear(128, 4))


def predict(features):
    direction, raw = network(features).split([3, 1], dim=-1)
    return VonMisesFisher(F.normalize(direction, dim=-1), raw.squeeze(-1).clamp(max=10).exp())


optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
steps = 1000
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
for _ in range(steps):
    features, direction = events(256)
    loss = -predict(features).log_prob(direction).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()

# %%
# A cone with coverage c should hold the true direction in a part c of the events. It does so for an
# event if the cosine to the true direction is exceeded with a probability below c, and ``survival``
# is that probability. The other method has one concentration for all events, fitted to the errors
# of the same directions. The errors are turned to the north pole for that, once on each side.

features, direction = events(20_000)
with torch.no_grad():
    p = predict(features)
cosine = (p.loc * direction).sum(-1)
sine = (1 - cosine**2).clamp(min=0).sqrt()
turned = torch.cat([sine, -sine]), torch.zeros(2 * len(sine)), cosine.repeat(2)
north = torch.stack(turned, dim=-1)
same = VonMisesFisher(p.loc, VonMisesFisher.fit(north).concentration)

coverage = torch.linspace(0.05, 0.95, 19)
found = {}
for name, q in (("kappa of each event", p), ("one kappa for all", same)):
    level = q.marginal_t.survival(cosine.clamp(-1, 1))
    row = (level < coverage.unsqueeze(-1)).float().mean(-1)
    print(f"{name}: cones of 50 % hold {row[9]:.1%}, cones of 90 % hold {row[17]:.1%}")
    print(f"    mean log-likelihood {q.log_prob(direction).mean():.2f} nats")
    found[name] = row

# %%
# On the right, events are sorted by the median angle that they predict.

figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.2), layout="constrained")
left.plot([0, 1], [0, 1], color="#999999", ls="--", label="ideal")
for (name, row), style in zip(found.items(), (("#0072b2", "o-"), ("#d55e00", "s-")), strict=True):
    left.plot(coverage, row, style[1], ms=4, color=style[0], label=name)
left.set(xlabel="coverage of the cone", ylabel="part of the events inside")
left.legend()
predicted = p.angle_quantile(0.5).rad2deg()
actual = torch.acos(cosine.clamp(-1, 1)).rad2deg()
groups = predicted.argsort().chunk(20)
middle = torch.stack([predicted[g].median() for g in groups])
quartiles = torch.stack([actual[g].quantile(torch.tensor([0.25, 0.5, 0.75])) for g in groups], 1)
right.fill_between(middle, *quartiles[::2], alpha=0.25, color="#0072b2", label="half of the events")
right.loglog(middle, quartiles[1], "o", color="#0072b2", ms=4, label="median of a twentieth")
right.loglog(middle, middle, "--", color="#999999", label="ideal")
right.set(xlabel="predicted median angle (degrees)", ylabel="actual angle (degrees)")
for axis in (right.xaxis, right.yaxis):
    axis.set_ticks([3, 10, 30, 90], labels=["3", "10", "30", "90"])
    axis.set_minor_formatter(NullFormatter())
right.legend()
plt.show()
