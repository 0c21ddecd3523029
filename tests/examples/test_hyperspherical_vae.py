"""examples/hyperspherical_vae.py: short runs of each posterior, resuming, and what can go wrong."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import powerspherical_ext

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = ["--data", "digits", "--steps", "3", "--samples", "20"]
SPHERES = ("power_spherical", "von_mises_fisher", "spherical_cauchy")


@pytest.fixture(scope="module")
def example():
    """The script's module, imported as the script itself imports its parts."""
    sys.path.insert(0, str(EXAMPLES))
    import hyperspherical_vae

    yield hyperspherical_vae
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def finished(example, tmp_path_factory):
    """Three steps of every posterior, for d = 3 and two seeds."""
    out = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(example, "in_turns", partial(example.in_turns, rounds=3, warm_up=1))
        example.main([*TINY, "--seed", "0", "1", "--out", str(out)])
    return out, json.loads((out / "results.json").read_text())


def last_words(capsys, excinfo):
    """What the user sees of an error: the exit's message, which Python prints and exits with 1."""
    assert isinstance(excinfo.value.code, str)
    assert "\n" not in excinfo.value.code.strip()
    assert "Traceback" not in capsys.readouterr().err
    return excinfo.value.code


def checkpoint(out, name="power_spherical-3-0.pt"):
    return torch.load(out / name, weights_only=True)


def test_every_posterior_trains_and_is_evaluated(finished):
    out, results = finished
    rows = results["results"]
    assert [(row["posterior"], row["seed"]) for row in rows] == [
        (name, seed) for seed in (0, 1) for name in (*SPHERES, "gaussian")
    ]
    for row in rows:
        assert row["elbo"] < row["log_likelihood"] < 0
        assert row["elbo"] == pytest.approx(row["reconstruction"] - row["kl"])
        assert row["kl"] > 0
        assert 0 <= row["knn"] <= 1
        assert len(checkpoint(out, f"{row['posterior']}-3-{row['seed']}.pt")["history"]) == 3
    assert not list(out.glob("*.tmp"))


def test_the_files_say_what_was_run(finished):
    out, results = finished
    assert "--steps 3" in results["command"]
    assert results["settings"]["samples"] == 20
    assert (out / "results.png").read_bytes().startswith(b"\x89PNG")
    text = (out / "results.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| 3 | von Mises-Fisher | 2 |")]
    assert len(lines) == 1
    assert lines[0].endswith("| -132.50 ± 0.73 | 7.28 |")  # published
    mean = np.mean([r["kl"] for r in results["results"] if r["posterior"] == "von_mises_fisher"])
    assert f"| {mean:.2f} ± ".replace("0.", ".", 1) in lines[0]
    ours = results["times"][0]
    assert ours["posterior"] == "power_spherical"
    assert ours["step_over_ours"] == 1
    assert all(row["share"] > 0 for row in results["times"])


@pytest.mark.parametrize("name", SPHERES)
def test_latents_lie_on_the_sphere_and_the_gaussian_has_one_dimension_less(example, name):
    torch.manual_seed(0)
    x = torch.bernoulli(torch.full((5, 64), 0.5))
    sphere = example.VAE(64, 6, example.LATENTS[name], "cpu")
    plane = example.VAE(64, 6, example.LATENTS["gaussian"], "cpu")
    torch.testing.assert_close(sphere.posterior(x).rsample().norm(dim=-1), torch.ones(5))
    assert plane.posterior(x).rsample().shape == (5, 5)


@pytest.mark.parametrize("name", [*SPHERES, "gaussian"])
def test_log_likelihood_by_importance_sampling(example, name):
    """Against the mean of p(x | z) over the prior. The decoder has weights large enough that the
    ELBO is two nats lower. The seed is fixed; the seeds 1 and 2 gave errors up to 0.07."""
    torch.manual_seed(0)
    model = example.VAE(64, 3, example.LATENTS[name], "cpu")
    images, labels = torch.rand(20, 64), torch.arange(20) % 2
    with torch.no_grad():
        model.decoder[0].weight.mul_(3)
        model.decoder[-1].weight.mul_(4)
    ours = example.evaluate(model, example.Data(images, labels, images, labels), 2000)
    with torch.no_grad():
        z = model.prior.sample((10_000,))
        torch.manual_seed(0)
        _, x = torch.bernoulli(images), torch.bernoulli(images)  # as evaluate draws them
        given_z = torch.stack([model.log_likelihood(one, z) for one in x])
    direct = (given_z.logsumexp(1) - np.log(10_000)).mean().item()
    assert ours["log_likelihood"] == pytest.approx(direct, abs=0.1)
    assert ours["elbo"] < direct - 1.5


def test_an_interrupted_run_goes_on_to_the_same_bits(example, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(example, "step_times", lambda *_: [])
    names = ["--posterior", "power_spherical", "gaussian", "--out", str(tmp_path)]
    example.main([*TINY, *names, "--stop-after", "2"])
    assert checkpoint(tmp_path)["step"] == 2
    assert not (tmp_path / "results.json").exists()
    example.main([*TINY, *names, "--resume"])
    for name in ("power_spherical-3-0.pt", "gaussian-3-0.pt"):
        once, twice = checkpoint(finished[0], name), checkpoint(tmp_path, name)
        assert twice["step"] == 3
        torch.testing.assert_close(twice["model"], once["model"], rtol=0, atol=0)
        for key in ("history", "results", "settings"):
            assert twice[key] == once[key]


def test_a_finished_run_is_read_for_the_table(example, finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(example, "train_step", None)
    monkeypatch.setattr(example, "step_times", lambda *_: [])
    monkeypatch.setattr(example, "TABLE", tmp_path / "results" / "table")
    seeds = ["--table", "--dim", "3", "--seed", "0", "1"]
    example.main([*TINY, *seeds, "--out", str(finished[0]), "--resume"])
    assert "| 3 | gaussian | 2 |" in capsys.readouterr().out
    again = json.loads((tmp_path / "results" / "table.json").read_text())
    assert again["results"] == finished[1]["results"]
    assert {path.suffix for path in (tmp_path / "results").iterdir()} == {".json", ".md", ".png"}


def test_the_committed_table_is_that_of_its_json(example):
    results = json.loads(example.TABLE.with_suffix(".json").read_text())
    assert results["command"].startswith("python examples/hyperspherical_vae.py --table")
    tables = example.report.tables(results["results"], results["times"])
    assert example.TABLE.with_suffix(".md").read_text().endswith(tables)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"], ids=["empty", "other"])
def test_corrupt_checkpoint(example, tmp_path, capsys, content):
    (tmp_path / "power_spherical-3-0.pt").write_bytes(content)
    with pytest.raises(SystemExit) as excinfo:
        example.main([*TINY, "--out", str(tmp_path), "--resume"])
    assert "is not a checkpoint that can be read" in last_words(capsys, excinfo)
    assert (tmp_path / "power_spherical-3-0.pt").read_bytes() == content


def test_checkpoint_of_other_settings(example, finished, capsys):
    with pytest.raises(SystemExit) as excinfo:
        example.main([*TINY, "--out", str(finished[0]), "--resume", "--lr", "0.01"])
    assert "was made with lr=0.001, this run has 0.01" in last_words(capsys, excinfo)


def test_a_checkpoint_is_not_overwritten_unasked(example, finished, capsys):
    with pytest.raises(SystemExit) as excinfo:
        example.main([*TINY, "--out", str(finished[0])])
    assert "--resume goes on from it, --overwrite starts anew" in last_words(capsys, excinfo)


def test_a_loss_that_is_not_finite_stops_the_run(example, tmp_path, capsys):
    with pytest.raises(SystemExit) as excinfo:
        example.main([*TINY, "--lr", "1e30", "--out", str(tmp_path)])
    assert "try a lower --lr" in last_words(capsys, excinfo)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps: must be a whole number from 1 on, got 0"),
        (["--steps", "-1"], "--steps: must be a whole number from 1 on, got -1"),
        (["--steps", "2.5"], "--steps: must be a whole number from 1 on, got 2.5"),
        (["--lr", "-1"], "--lr: must be a number above 0.0, got -1"),
        (["--lr", "nan"], "--lr: must be a number above 0.0, got nan"),
        (["--lr", "inf"], "--lr: must be a number above 0.0, got inf"),
        (["--dim", "1"], "--dim: must be a whole number from 2 on, got 1"),
        (["--warm-up", "1.5"], "--warm-up: must be a number from 0.0 to 1.0, got 1.5"),
        (["--seed", "-1"], "--seed: must be a whole number from 0 to 1000000000, got -1"),
        (["--device", "tpu"], "--device: this torch cannot use tpu: "),
        (["--posterior", "cauchy"], "argument --posterior: invalid choice: 'cauchy'"),
        (["--root", "nowhere"], "--root nowhere: mnist is part of a package"),
        (["--data", "fashion-mnist", "--root", "nowhere"], "--root nowhere: no such folder"),
        (
            ["--data", "fashion-mnist", "--root", "."],
            "neither train-images-idx3-ubyte nor",
        ),
        (["--data", "digits", "--out", "/dev/null"], "--out /dev/null: "),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_bad_arguments(example, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as excinfo:
        example.main(arguments)
    assert message in last_words(capsys, excinfo)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("gzipped", [True, False], ids=["gzipped", "plain"])
def test_fashion_mnist_from_idx_files(example, tmp_path, gzipped):
    rng, images = np.random.default_rng(0), []
    for part, n in (("train", 6), ("t10k", 4)):
        images.append(rng.integers(0, 256, (n, 28, 28)).astype(np.uint8))
        for stem, array in (
            ("images-idx3", images[-1]),
            ("labels-idx1", np.arange(n, dtype=np.uint8)),
        ):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            path = tmp_path / f"{part}-{stem}-ubyte{'.gz' if gzipped else ''}"
            path.write_bytes((gzip.compress if gzipped else bytes)(header + array.tobytes()))
    data = example.load("fashion-mnist", tmp_path)
    np.testing.assert_allclose(data.train * 255, images[0].reshape(6, 784), rtol=1e-6)
    np.testing.assert_allclose(data.test * 255, images[1].reshape(4, 784), rtol=1e-6)
    assert data.test_labels.tolist() == [0, 1, 2, 3]


def test_as_a_user_starts_it(tmp_path):
    command = [sys.executable, str(EXAMPLES / "hyperspherical_vae.py"), *TINY, "--stop-after", "1"]
    same_package = {**os.environ, "PYTHONPATH": str(Path(powerspherical_ext.__file__).parents[1])}
    run = subprocess.run(
        [*command, "--posterior", "gaussian", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env=same_package,
    )
    assert run.returncode == 0, run.stderr
    assert f"stopped at step 1 of 3; --resume goes on from {tmp_path}" in run.stdout


def test_without_tqdm_it_prints_lines(example, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    only = ["--posterior", "gaussian", "--stop-after", "1", "--out", str(tmp_path)]
    example.main([*TINY, *only])
    assert "step 1/1: gaussian, d = 3, seed 0" in capsys.readouterr().out
