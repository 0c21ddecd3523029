"""The image sets of examples/train_vi_simsiam.py, from files of the published formats."""

from __future__ import annotations

import gzip
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from training import TINY, checkpoint, refusal

RNG = np.random.default_rng(0)


@pytest.fixture
def files(example):
    from vi_simsiam import files

    return files


# idx: Fashion-MNIST


def idx(array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_fashion_mnist(root, gzipped):
    rng = np.random.default_rng(0)
    for part, n in (("train", 6), ("t10k", 4)):
        images, labels = rng.integers(0, 256, (n, 28, 28)), np.arange(n)
        for stem, array in ((f"{part}-images-idx3", images), (f"{part}-labels-idx1", labels)):
            content = idx(array)
            if gzipped:
                (root / f"{stem}-ubyte.gz").write_bytes(gzip.compress(content))
            else:
                (root / f"{stem}-ubyte").write_bytes(content)


@pytest.mark.parametrize("where", ["gzipped", "plain", "torchvision's", "Debian's"])
def test_fashion_mnist_from_idx_files(example, tmp_path, monkeypatch, where):
    folder = tmp_path / "FashionMNIST" / "raw" if where == "torchvision's" else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    write_fashion_mnist(folder, where == "gzipped")
    monkeypatch.setattr("vi_simsiam.data.FASHION_MNIST", (tmp_path / "missing", tmp_path))
    data = example.load("fashion-mnist", None if where == "Debian's" else tmp_path)
    assert data.train_images.shape == (6, 1, 40, 40)
    assert data.train_images.dtype == torch.uint8
    assert data.test_labels.tolist() == [0, 1, 2, 3]
    pixels = torch.tensor(np.random.default_rng(0).integers(0, 256, (6, 28, 28)).max())
    assert data.train_images.max() == pixels


def test_fashion_mnist_is_nowhere(example, monkeypatch, capsys):
    monkeypatch.setattr("vi_simsiam.data.FASHION_MNIST", ())
    words = refusal(example, ["--data", "fashion-mnist"], capsys)
    assert "needs --root, the folder that holds it, or apt install dataset-fashion-mnist" in words


def test_fashion_mnist_with_too_few_labels(example, tmp_path):
    write_fashion_mnist(tmp_path, False)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.arange(3)))
    with pytest.raises(example.DataError, match=r"\(4, 28, 28\) t10k images but \(3,\) labels"):
        example.load("fashion-mnist", tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\x08", idx(np.zeros((2, 3)))[:-1], b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0"],
    ids=["empty", "no header", "cut short", "floats"],
)
def test_broken_idx_file(files, tmp_path, content):
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(files.DataError, match="images-idx3-ubyte"):
        files.read_idx(path)
    (tmp_path / "images.gz").write_bytes(gzip.compress(content)[:-3])
    with pytest.raises(files.DataError, match=r"images\.gz"):
        files.read_idx(tmp_path / "images.gz")


# CIFAR


def write_cifar(path, n, key, first=0):
    """As Python 2 and numpy 1 wrote it: protocol 2, and arrays of numpy.core."""
    rows = RNG.integers(0, 256, (n, 3072)).astype(np.uint8)
    batch = {"data": rows, key: [(first + i) % 10 for i in range(n)], "filenames": ["a"] * n}
    path.parent.mkdir(exist_ok=True)
    content = pickle.dumps(batch, protocol=2)
    path.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    return rows


def write_cifar10(root, n=4):
    folder = root / "cifar-10-batches-py"
    rows = [write_cifar(folder / f"data_batch_{i}", n, "labels", i) for i in range(1, 6)]
    write_cifar(folder / "test_batch", n, "labels")
    return np.concatenate(rows)


def test_cifar10(example, tmp_path):
    rows = write_cifar10(tmp_path)
    data = example.load("cifar10", tmp_path)
    assert data.train_images.shape == (20, 3, 32, 32)
    assert data.train_images[7, 2, 1, 5] == rows[7, 2 * 1024 + 32 + 5]
    assert data.train_labels[:6].tolist() == [1, 2, 3, 4, 2, 3]
    assert data.test_labels.tolist() == [0, 1, 2, 3]


def test_cifar100(example, tmp_path):
    for part in ("train", "test"):
        write_cifar(tmp_path / "cifar-100-python" / part, 5, "fine_labels")
    data = example.load("cifar100", tmp_path)
    assert data.train_images.shape == data.test_images.shape == (5, 3, 32, 32)
    assert data.train_labels.tolist() == [0, 1, 2, 3, 4]


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps({"data": np.zeros((2, 3072), np.uint8)}, 2),
        pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, 2),
        pickle.dumps({"data": np.zeros((2, 9), np.uint8), "labels": [1, 2]}, 2),
        pickle.dumps([1], 2),
        pickle.dumps(Evil(), 2),
    ],
    ids=["empty", "text", "no labels", "too few labels", "small images", "list", "program"],
)
def test_broken_cifar_file(example, tmp_path, monkeypatch, capsys, content):
    monkeypatch.chdir(tmp_path)
    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(content)
    arguments = ["--data", "cifar10", "--root", str(tmp_path), "--batch-size", "4"]
    assert "data_batch_3 cannot be read: " in refusal(example, arguments, capsys)
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "runs").exists()


def test_training_on_colour_images(example, tmp_path):
    write_cifar10(tmp_path)
    arguments = [*TINY, "--data", "cifar10", "--root", str(tmp_path), "--batch-size", "8"]
    example.main([*arguments, "--stop-after", "2", "--crops", "2+1", "--out", str(tmp_path)])
    assert checkpoint(tmp_path)["settings"]["channels"] == 3


# STL-10


def test_stl10(example, tmp_path):
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    images = RNG.integers(0, 256, (3, 3, 96, 96)).astype(np.uint8)
    for part in ("train", "test"):
        (folder / f"{part}_X.bin").write_bytes(images.tobytes())
        (folder / f"{part}_y.bin").write_bytes(bytes([1, 10, 2]))
    data = example.load("stl10", tmp_path)
    assert data.view_size == 96
    assert data.train_images[1, 2, 5, 7] == images[1, 2, 7, 5]  # the files go by column
    assert data.train_labels.tolist() == [0, 9, 1]
    (folder / "test_X.bin").write_bytes(images.tobytes()[:-5])
    with pytest.raises(example.DataError, match=r"test_X\.bin cannot be read"):
        example.load("stl10", tmp_path)


# Folders of images


def write_images(folder, colours, suffix="png"):
    from PIL import Image

    folder.mkdir(parents=True)
    for i, colour in enumerate(colours):
        Image.new("RGB", (40 + i, 30), colour).save(folder / f"{i}.{suffix}")


@pytest.mark.parametrize("inside", ["", "imagenette2-160"])
def test_imagenette(example, tmp_path, inside):
    for part in ("train", "val"):
        write_images(tmp_path / inside / part / "n01440764", ["red", "blue"])
        write_images(tmp_path / inside / part / "n02102040", ["lime"], "JPEG")
    data = example.load("imagenette", tmp_path, 16)
    assert data.name == "imagenette"
    assert data.train_images.shape == data.test_images.shape == (3, 3, 16, 16)
    assert data.train_images[1, :, 0, 0].tolist() == [0, 0, 255]
    assert data.train_labels.tolist() == [0, 0, 1]


def test_image_folder_without_a_split(example, tmp_path):
    write_images(tmp_path / "cats", ["red"] * 6)
    write_images(tmp_path / "dogs", ["blue"] * 4)
    data = example.load("imagefolder", tmp_path, 32)
    assert (len(data.train_images), len(data.test_images)) == (8, 2)
    is_red = data.train_images[:, 0, 0, 0] == 255
    assert torch.equal(is_red, data.train_labels == 0)


def test_broken_image_folders(example, tmp_path):
    with pytest.raises(example.DataError, match="no CLASS/image files are in it"):
        example.load("imagefolder", tmp_path)
    write_images(tmp_path / "train" / "cats", ["red"])
    write_images(tmp_path / "val" / "dogs", ["red"])
    with pytest.raises(example.DataError, match="different classes"):
        example.load("imagefolder", tmp_path)
    image = tmp_path / "train" / "cats" / "0.png"
    for content in (b"", b"text", image.read_bytes()[:50]):
        image.write_bytes(content)
        with pytest.raises(example.DataError, match=r"0\.png cannot be read"):
            example.load("imagefolder", tmp_path / "train")
