"""examples/train_vi_simsiam.py: a short run, interruption and resumption, and checkpoints."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib import image
from training import EXAMPLES, TINY, checkpoint, refusal

pytestmark = pytest.mark.slow


def test_a_run_prints_and_writes_its_results(finished):
    out, printed = finished
    for words in ("kNN accuracy", "norm of mu", "below clean", "observed cosine", "kappa tells"):
        assert words in printed
    assert min(inked(out / "results.png")) > 0.02
    results = json.loads((out / "results.json").read_text())
    assert set(results["auroc"]) == {
        "kappa", "norm of mu", "norm of z", "norm of y", "chance_sd",
    }  # fmt: skip
    assert len(results["calibration"]["observed"]) == 10
    in_one_line = " ".join(printed.split())
    assert f"is right for {results['fifths']['kappa']['highest']:.0%} of the fifth" in in_one_line
    assert f"python examples/evaluate.py {out}" in printed
    assert checkpoint(out)["step"] == 20
    assert not list(out.glob("*.tmp"))


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


def test_a_finished_run_can_be_prolonged(example, finished, tmp_path, capsys):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    capsys.readouterr()
    example.main([*TINY, "--steps", "25", "--out", str(tmp_path), "--resume"])
    assert "25 steps of" in capsys.readouterr().out
    state = checkpoint(tmp_path)
    assert state["step"] == state["settings"]["total_steps"] == len(state["history"]["loss"]) == 25


@pytest.mark.parametrize(("stop_after", "steps"), [(9, 25), (20, 15)])
def test_an_unfinished_run_is_not_prolonged_and_none_is_shortened(
    example, tmp_path, capsys, stop_after, steps
):
    command = [*TINY, "--out", str(tmp_path)]
    example.main([*command, "--stop-after", str(stop_after)])
    words = refusal(example, [*command, "--resume", "--steps", str(steps)], capsys)
    assert f"is of a run of 20 steps, this run has {steps}: only a finished run" in words
    assert checkpoint(tmp_path)["step"] == stop_after


def inked(picture):
    """The part of each quarter of the upper half that is not white; diagrams are there."""
    dark = image.imread(picture)[..., :3].min(-1) < 0.99
    halves = np.array_split(dark[: len(dark) // 2], 2)
    return [quarter.mean() for half in halves for quarter in np.array_split(half, 2, axis=1)]


def test_simsiam_is_the_same_script(example, tmp_path, capsys):
    example.main([*TINY, "--method", "simsiam", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "norm of mu" in printed
    assert "kappa" not in printed
    assert min(inked(tmp_path / "results.png")) > 0.02


@pytest.mark.parametrize(
    "damage",
    [lambda whole: whole[:2000], lambda whole: b"", lambda whole: b"not a checkpoint"],
    ids=["cut short", "empty", "other"],
)
def test_corrupt_checkpoint(example, finished, tmp_path, capsys, damage):
    corrupt = damage((finished[0] / "checkpoint.pt").read_bytes())
    (tmp_path / "checkpoint.pt").write_bytes(corrupt)
    words = refusal(example, [*TINY, "--out", str(tmp_path), "--resume"], capsys)
    assert "is not a checkpoint that can be read" in words
    assert (tmp_path / "checkpoint.pt").read_bytes() == corrupt
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", "lock"}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (["--seed", "7"], "was made with seed=0, this run has 7"),
        (["--method", "simclr"], "was made with method=vi-simsiam, this run has simclr"),
        (["--crops", "2+1"], "was made with n_small=0, this run has 1"),
    ],
)
def test_checkpoint_of_another_run(example, finished, capsys, other, message):
    before = (finished[0] / "checkpoint.pt").read_bytes()
    arguments = [*TINY, "--out", str(finished[0]), "--resume", *other]
    assert message in refusal(example, arguments, capsys)
    assert (finished[0] / "checkpoint.pt").read_bytes() == before


def test_a_checkpoint_is_not_overwritten_unasked(example, finished, capsys):
    before = (finished[0] / "checkpoint.pt").read_bytes()
    words = refusal(example, [*TINY, "--out", str(finished[0])], capsys)
    assert "--resume goes on from it, --overwrite starts anew" in words
    assert (finished[0] / "checkpoint.pt").read_bytes() == before


HOLD = """
import sys, time
from pathlib import Path
from vi_simsiam.checkpoint import alone_in
with alone_in(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="folders are not locked")
@pytest.mark.parametrize("option", ["--resume", "--overwrite"])
def test_a_folder_in_which_another_program_trains_is_refused(
    example, finished, tmp_path, capsys, option
):
    """Until that program ends, even if it is killed."""
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    before = (out / "checkpoint.pt").read_bytes()
    command = [*TINY, "--steps", "25", "--out", str(out), option]
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)], cwd=EXAMPLES, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "locked\n"
        words = refusal(example, command, capsys)
    finally:
        other.kill()
        other.communicate()
    assert f"--out {out}: another program is training in this folder: wait until it ends" in words
    assert (out / "checkpoint.pt").read_bytes() == before
    example.main(command)
    assert checkpoint(out)["step"] == 25


@pytest.mark.skipif(sys.platform == "win32", reason="folders are not locked")
def test_a_drive_without_locks(example, tmp_path, monkeypatch):
    def none(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", none)
    example.main([*TINY, "--out", str(tmp_path), "--stop-after", "2"])
    assert checkpoint(tmp_path)["step"] == 2


@pytest.mark.parametrize("method", ["vi-simsiam", "simsiam"])  # their losses fail in another way
def test_a_loss_of_nan_overwrites_nothing(example, tmp_path, capsys, method):
    (tmp_path / "checkpoint.pt").write_bytes(b"the last run's")
    diverging = ["--optimizer", "sgd", "--lr", "1e30", "--overwrite", "--save-every", "0"]
    arguments = [*TINY, "--out", str(tmp_path), "--method", method, *diverging]
    assert "try a lower --lr" in refusal(example, arguments, capsys)
    assert (tmp_path / "checkpoint.pt").read_bytes() == b"the last run's"


def test_fifths(example):
    from vi_simsiam.evaluate import fifths

    correct = np.array([False, True, False, False, True, False, True, True, True, True])
    assert fifths(np.arange(10.0), correct) == {"highest": 1.0, "lowest": 0.5}
    assert fifths(-np.arange(10.0), correct) == {"highest": 0.5, "lowest": 1.0}
