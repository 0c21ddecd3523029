"""Helpers of the tests of examples/train_vi_simsiam.py. As a program it trains all methods."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import powerspherical_ext

ROOT = Path(powerspherical_ext.__file__).parents[1]
EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = EXAMPLES / "train_vi_simsiam.py"
METHODS = (
    *("vi-simsiam", "simsiam", "simclr", "vi-simclr", "dino", "barlow-twins"),
    *("mc-infonce", "elk", "hib"),
)
# Eight channels: convolutions of four corrupt memory in torch 2.13 (oneDNN 3.12) on CPUs with AVX2.
TINY = ["--data", "digits", "--batch-size", "32", "--width", "8", "--dim", "16", "--steps", "20"]


def start(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a program with this Python and this package."""
    same_package = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, env=same_package)


def torchrun(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """The same in two processes."""
    return start("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *command)


def checkpoint(out: Path) -> dict:
    return torch.load(out / "checkpoint.pt", weights_only=True)


def refusal(example, arguments: list[str], capsys) -> str:
    """The one line with which the script refuses to run; Python prints it and exits with 1."""
    with pytest.raises(SystemExit) as excinfo:
        example.main(arguments)
    words = excinfo.value.code
    assert isinstance(words, str)
    assert "\n" not in words.strip()
    assert "Traceback" not in capsys.readouterr().err
    return words


IN_FLOAT64 = [*TINY[:-1], "21", "--stop-after", "20", "--crops", "2+1", "--optimizer", "sgd",
              "--lr", "0.05"]  # fmt: skip


def train_all_in_float64(folder: str) -> None:
    """All methods, one after the other. Rounding of float32 would grow too much in 20 steps."""
    sys.path.insert(0, str(EXAMPLES))
    import train_vi_simsiam

    torch.set_default_dtype(torch.float64)
    train_vi_simsiam.distributed.disconnect = lambda: None  # one connection serves all
    for method in METHODS:
        more = ["--predictor", "directpred"] if method == "simsiam" else []
        out = str(Path(folder) / method)
        train_vi_simsiam.main([*IN_FLOAT64, "--method", method, *more, "--out", out])


if __name__ == "__main__":
    train_all_in_float64(sys.argv[1])
