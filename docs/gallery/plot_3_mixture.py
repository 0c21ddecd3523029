"""
How many clusters? A mixture and its BIC
========================================

``fit_mixture`` fits a mixture of any of the three families to directions, such as embeddings. The
Bayesian information criterion (BIC) compares mixtures of several sizes. The data are the 1,797
images of handwritten digits that come with scikit-learn.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from powerspherical_ext import PowerSpherical, VonMisesFisher, fit_mixture

# %%
# The embedding of an image is the direction of its first six principal components.

images, digits = load_digits(return_X_y=True)
pca = PCA(6, random_state=0)
points = torch.from_numpy(pca.fit_transform(images))
x = torch.nn.functional.normalize(points, dim=-1)

# %%
# Expectation-maximisation finds a local maximum, so each size starts twice. A lower BIC is
# better: the gain in likelihood has to be worth the parameters.

sizes = [5, 10, 20, 30, 40, 60]
fits = {}
for family in (VonMisesFisher, PowerSpherical):
    generator = torch.Generator().manual_seed(0)
    fits[family.__name__] = [
        fit_mixture(x, k, family, n_init=2, tolerance=1e-4, generator=generator) for k in sizes
    ]
best = min(fits["VonMisesFisher"], key=lambda fit: fit.bic)
components = best.mixture.component_distribution
agreement = adjusted_rand_score(digits, best.labels)
print(f"lowest BIC: {len(components.loc)} components; Rand index with the digits {agreement:.2f}")

# %%
# The BIC chooses more components than there are digits, because people write a digit in several
# ways. The mean direction of each component, turned back into an image, shows these ways.

figure = plt.figure(figsize=(10, 4.6), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=(1, 1.1))
axis = left.subplots()
for (name, row), style in zip(fits.items(), ("o-", "s--"), strict=True):
    axis.plot(sizes, [fit.bic for fit in row], style, label=name)
axis.plot(len(components.loc), best.bic, "o", ms=14, mfc="none", color="black", label="lowest BIC")
axis.set(xlabel="number of components", ylabel="BIC, lower is better")
axis.legend()

order = best.mixture.mixture_distribution.probs.argsort(descending=True)[:20].tolist()
means = pca.inverse_transform(components.loc.numpy() * points.norm(dim=-1).mean().item())
for axis, k in zip(right.subplots(4, 5).flat, order, strict=True):
    axis.imshow(means[k].reshape(8, 8), cmap="gray_r")
    axis.set_title(f"$\\kappa$ = {components.concentration[k]:.0f}", fontsize=9)
    axis.axis("off")
right.suptitle("mean images of the 20 largest components")
plt.show()
