"""The options of examples/train_vi_simsiam.py: presets, and one line for what cannot be run."""

from __future__ import annotations

import pytest
from training import METHODS, refusal


def settings(example, *argv):
    return example.arguments(list(argv), None)


def test_the_default_is_the_quick_preset(example):
    args = settings(example)
    assert (args.method, args.distribution, args.beta) == ("vi-simsiam", "power_spherical", 0)
    assert (args.optimizer, args.lr, args.schedule, args.warm_up) == ("adamw", 2e-3, "cosine", 20)
    assert (args.batch_size, args.width, args.dim, args.n_small) == (128, 16, 128, 0)
    assert (args.epochs, str(args.out)) == (40, "runs/vi-simsiam-mnist-0")


@pytest.mark.parametrize(
    ("method", "lr", "schedule", "batch_size"),
    [("vi-simsiam", 0.1, "constant", 512), ("simsiam", 0.2, "cosine", 512),
     ("dino", 0.03, "cosine", 64)],
)  # fmt: skip
def test_the_papers_preset(example, method, lr, schedule, batch_size):
    args = settings(example, "--preset", "paper", "--method", method)
    assert (args.lr, args.schedule, args.batch_size) == (lr, schedule, batch_size)
    assert (args.optimizer, args.weight_decay, args.warm_up) == ("sgd", 1e-4, 0)
    assert (args.network, args.width, args.dim, args.n_small) == ("resnet18", 64, 2048, 6)
    assert args.epochs == 500
    assert args.teacher_momentum == (0 if method == "dino" else None)


def test_an_option_goes_before_the_preset(example):
    args = settings(example, "--preset", "paper", "--lr", "0.5", "--schedule", "cosine")
    assert (args.lr, args.schedule, args.weight_decay) == (0.5, "cosine", 1e-4)


def test_help(example, capsys):
    with pytest.raises(SystemExit) as excinfo:
        example.main(["--help"])
    assert excinfo.value.code == 0
    printed = capsys.readouterr().out
    assert all(method in printed for method in METHODS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "byol"], "invalid choice: 'byol'"),
        (["--preset", "best"], "invalid choice: 'best'"),
        (["--data", "imagenet"], "invalid choice: 'imagenet'"),
        (["--distribution", "gauss"], "invalid choice: 'gauss'"),
        (["--learning-rate", "1"], "unrecognized arguments"),
        (["--meth", "simsiam"], "unrecognized arguments"),
        (["--beta", "3"], "--beta: must be a number from 0.0 to 1.0, got 3"),
        (["--beta", "nan"], "--beta: must be a number"),
        (["--steps", "0"], "--steps: must be a whole number from 1 on, got 0"),
        (["--steps", "2.5"], "--steps: must be a whole number"),
        (["--steps", "5", "--epochs", "5"], "not allowed with argument"),
        (["--batch-size", "1"], "--batch-size: must be a whole number from 2 on, got 1"),
        (["--epochs", "-1"], "--epochs: must be a whole number from 1 on, got -1"),
        (["--crops", "1"], "--crops: must be 2, for two large views, or 2+6"),
        (["--crops", "3+6"], "--crops: must be 2"),
        (["--lr", "-1"], "--lr: must be a number above 0.0, got -1"),
        (["--lr", "0"], "--lr: must be a number above 0.0, got 0"),
        (["--lr", "inf"], "--lr: must be a number above 0.0, got inf"),
        (["--weight-decay", "-1"], "--weight-decay: must be a number from 0.0 on"),
        (["--width", "0"], "--width: must be"),
        (["--dim", "3"], "--dim: must be"),
        (["--seed", "-1"], "--seed: must be"),
        (["--threads", "0"], "--threads: must be"),
        (["--stop-after", "0"], "--stop-after: must be"),
        (["--device", "tpu"], "--device must be cpu or cuda, got tpu"),
        (["--method", "simsiam", "--beta", "1"], "--beta is for --method vi-simsiam only"),
        (["--method", "dino", "--distribution", "von_mises_fisher"], "vi-simclr or vi-simsiam"),
        (["--method", "simclr", "--predictor", "mlp"], "--method simsiam or vi-simsiam only"),
        (["--teacher-momentum", "0.9"], "--teacher-momentum is for --method dino only"),
        (["--distribution", "spherical_cauchy", "--beta-weighs", "loss"], "beta_weighs must be"),
        (["--root", "."], "--root .: mnist is part of a package and has no folder"),
        (["--data", "digits", "--root", "nowhere"], "--root nowhere: digits is part of a package"),
        (["--data", "cifar10"], "--data cifar10 needs --root"),
        (["--data", "cifar10", "--root", "nowhere"], "--root nowhere: no such folder"),
        (["--data", "cifar10", "--root", "."], "cifar-10-batches-py is not in it"),
        (["--data", "fashion-mnist", "--root", "."], "train-images-idx3-ubyte or"),
        (["--data", "digits", "--batch-size", "9999"], "is more than 1437 images"),
    ],
)  # fmt: skip
def test_what_is_refused(example, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refusal(example, arguments, capsys)
    assert not list(tmp_path.iterdir())


def test_no_gpu(example, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "torch sees no GPU here" in refusal(example, ["--device", "cuda"], capsys)


def test_a_file_as_the_run_folder(example, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    words = refusal(example, ["--data", "digits", "--out", str(tmp_path / "file")], capsys)
    assert "is a file, not a folder" in words
    assert (tmp_path / "file").read_text() == "mine"


def test_processes_that_do_not_divide_the_batch(example, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "3")
    words = refusal(example, ["--data", "digits", "--batch-size", "32"], capsys)
    assert "3 processes do not divide it" in words
    monkeypatch.setenv("RANK", "1")  # the first process alone prints the line
    with pytest.raises(SystemExit) as excinfo:
        example.main(["--data", "digits", "--batch-size", "32"])
    assert excinfo.value.code == 1
