"""examples/train_vi_simsiam.py: a short run, interruption and resumption, and what can go wrong."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import powerspherical_ext

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

EXAMPLES = Path(__file__).parents[2] / "examples"
# Eight channels: convolutions of four corrupt memory in torch 2.13 (oneDNN 3.12) on CPUs with AVX2.
TINY = ["--data", "digits", "--batch-size", "32", "--width", "8", "--dim", "16", "--steps", "20"]


@pytest.fixture(scope="module")
def example():
    """The script's module, imported as the script itself imports its parts."""
    sys.path.insert(0, str(EXAMPLES))
    import train_vi_simsiam

    yield train_vi_simsiam
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of twenty steps, as a user starts it."""
    out = tmp_path_factory.mktemp("finished")
    command = [sys.executable, str(EXAMPLES / "train_vi_simsiam.py"), *TINY, "--out", str(out)]
    same_package = {**os.environ, "PYTHONPATH": str(Path(powerspherical_ext.__file__).parents[1])}
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, env=same_package)
    assert run.returncode == 0, run.stderr
    return out, run.stdout


def checkpoint(out):
    return torch.load(out / "checkpoint.pt", weights_only=True)


def last_words(capsys, excinfo):
    """What the user sees of an error: the exit's message, which Python prints and exits with 1."""
    assert isinstance(excinfo.value.code, str)
    assert "\n" not in excinfo.value.code.strip()
    assert "Traceback" not in capsys.readouterr().err
    return excinfo.value.code


@pytest.mark.slow
def test_a_run_prints_and_writes_its_results(finished):
    out, printed = finished
    for words in ("kNN accuracy", "norm of mu", "below clean", "observed cosine"):
        assert words in printed
    assert (out / "results.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((out / "results.json").read_text())
    assert set(results["auroc"]) == {
        "kappa", "norm of mu", "norm of z", "norm of y", "chance_sd",
    }  # fmt: skip
    assert len(results["calibration"]["observed"]) == 10
    assert checkpoint(out)["step"] == 20
    assert not list(out.glob("*.tmp"))


@pytest.mark.slow
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(example, finished, tmp_path):
    out, _ = finished
    command = [*TINY, "--out", str(tmp_path)]
    example.main([*command, "--stop-after", "9"])
    assert checkpoint(tmp_path)["step"] == 9
    example.main([*command, "--resume"])
    once, twice = checkpoint(out), checkpoint(tmp_path)
    assert twice["step"] == 20
    torch.testing.assert_close(twice["model"], once["model"])
    for key, values in once["history"].items():
        np.testing.assert_allclose(twice["history"][key], values, rtol=1e-4)


@pytest.mark.slow
def test_simsiam_is_the_same_script(example, tmp_path, capsys):
    example.main([*TINY, "--method", "simsiam", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "norm of mu" in printed
    assert "kappa of the same image" not in printed
    assert (tmp_path / "results.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [lambda whole: whole[:2000], lambda whole: b"", lambda whole: b"not a checkpoint"],
    ids=["cut short", "empty", "other"],
)
def test_corrupt_checkpoint(example, finished, tmp_path, capsys, damage):
    corrupt = damage((finished[0] / "checkpoint.pt").read_bytes())
    (tmp_path / "checkpoint.pt").write_bytes(corrupt)
    with pytest.raises(SystemExit) as excinfo:
        example.main([*TINY, "--out", str(tmp_path), "--resume"])
    assert "is not a checkpoint that can be read" in last_words(capsys, excinfo)
    assert (tmp_path / "checkpoint.pt").read_bytes() == corrupt
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
def test_checkpoint_of_another_run(example, finished, capsys):
    with pytest.raises(SystemExit) as excinfo:
        example.main([*TINY, "--out", str(finished[0]), "--resume", "--seed", "7"])
    assert "was made with seed=0, this run has 7" in last_words(capsys, excinfo)


@pytest.mark.slow
def test_a_checkpoint_is_not_overwritten_unasked(example, finished, capsys):
    before = (finished[0] / "checkpoint.pt").read_bytes()
    with pytest.raises(SystemExit) as excinfo:
        example.main([*TINY, "--out", str(finished[0])])
    assert "--resume goes on from it, --overwrite starts anew" in last_words(capsys, excinfo)
    assert (finished[0] / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "fashion-mnist"], "needs --root"),
        (["--data", "fashion-mnist", "--root", "nowhere"], "--root nowhere: no such folder"),
        (["--data", "fashion-mnist", "--root", "."], "neither train-images-idx3-ubyte nor"),
        (["--data", "digits", "--batch-size", "9999"], "is more than 1437 images"),
    ],
)
def test_bad_arguments(example, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as excinfo:
        example.main(arguments)
    assert message in last_words(capsys, excinfo)
    assert not list(tmp_path.iterdir())


# idx files


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


@pytest.mark.parametrize("gzipped", [True, False], ids=["gzipped", "plain"])
def test_fashion_mnist_from_idx_files(example, tmp_path, gzipped):
    write_fashion_mnist(tmp_path, gzipped)
    data = example.load("fashion-mnist", tmp_path)
    assert data.train_images.shape == (6, 1, 40, 40)
    assert data.train_images.dtype == torch.uint8
    assert data.test_labels.tolist() == [0, 1, 2, 3]
    pixels = torch.tensor(np.random.default_rng(0).integers(0, 256, (6, 28, 28)).max())
    assert data.train_images.max() == pixels


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\x08", idx(np.zeros((2, 3)))[:-1], b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0"],
    ids=["empty", "no header", "cut short", "floats"],
)
def test_broken_idx_file(example, tmp_path, content):
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(content)
    from vi_simsiam.data import DataError, read_idx

    with pytest.raises(DataError, match="images-idx3-ubyte"):
        read_idx(path)
    (tmp_path / "images.gz").write_bytes(gzip.compress(content)[:-3])
    with pytest.raises(DataError, match=r"images\.gz"):
        read_idx(tmp_path / "images.gz")
