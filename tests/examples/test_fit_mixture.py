"""examples/fit_mixture.py: a short run on the digits of scikit-learn, and what is refused."""

from __future__ import annotations

import re

import pytest
import torch
from training import EXAMPLES, refusal

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")


@pytest.fixture
def fit_mixture(monkeypatch):
    """The script's module, imported as the script itself imports its parts."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import fit_mixture

    return fit_mixture


@pytest.mark.slow
def test_it_chooses_by_the_bic_and_draws(fit_mixture, tmp_path, capsys):
    options = ["--data", "digits", "--dim", "6", "--components", "2", "15", "60", "--starts", "1"]
    fit_mixture.main([*options, "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    row = r"(\d+) +(free|shared) +\S+ +(\S+) +\d+ +(\S+) +\S+\n"
    fits = [(float(bic), k, name, float(rand)) for k, name, bic, rand in re.findall(row, printed)]
    assert len(fits) == 6
    _, k, name, rand = min(fits)
    assert k == "15"  # neither the fewest nor the most
    assert f"mixture of {k} components with {name} concentration" in printed
    assert rand > 0.2  # 0 is chance
    kmeans = dict(re.findall(r"(\d+) +k-means +\d+ +(\S+) +\S+\n", printed))
    assert list(kmeans) == ["2", "15", "60"]
    assert all(0 < float(rand) < 1 for rand in kmeans.values())
    assert (tmp_path / "fit_mixture.png").stat().st_size > 10_000


def test_purity(fit_mixture):
    labels, found = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([1, 1, 1, 3, 3, 0])
    assert fit_mixture.purity(labels, found) == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dim", "1"], "--dim: must be a whole number from 2 on, got 1"),
        (["--dim", "65"], "--dim must be at most 64, the number of pixels, got 65"),
        (["--components", "5", "0"], "--components: must be a whole number from 1 on, got 0"),
        (["--components", "1798", "5"], "--components must be at most 1797, the number of images"),
        (["--starts", "0"], "--starts: must be a whole number from 1 on, got 0"),
        (["--seed", "-1"], "--seed: must be a whole number from 0 to 4294967295, got -1"),
        (["--family", "gauss"], "invalid choice: 'gauss'"),
        (["--what"], "unrecognized arguments: --what"),
    ],
)
def test_what_is_refused(fit_mixture, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert message in refusal(fit_mixture, ["--data", "digits", *options], capsys)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(fit_mixture, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    below = str(tmp_path / "file" / "below")
    assert f"--out {below}: " in refusal(fit_mixture, ["--data", "digits", "--out", below], capsys)
