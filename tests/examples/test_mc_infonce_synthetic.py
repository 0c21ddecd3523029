"""examples/mc_infonce_synthetic.py: a short run, its two samplers, and what can go wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from powerspherical_ext import VonMisesFisher
from powerspherical_ext.losses import mc_infonce_loss

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def synthetic():
    """The script's module, imported as the script itself imports its parts."""
    sys.path.insert(0, str(EXAMPLES))
    import mc_infonce_synthetic

    yield mc_infonce_synthetic
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def finished(synthetic, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    synthetic.main(["--dim", "3", "8", "--steps", "30", "--seed", "0", "1", "--out", str(out)])
    return out, json.loads((out / "results.json").read_text())


@pytest.mark.slow
def test_a_short_run(synthetic, finished):
    out, results = finished
    rows = results["results"]
    assert [(row["dim"], row["seed"], row["sampler"]) for row in rows] == [
        (d, seed, sampler) for d in (3, 8) for seed in (0, 1) for sampler in synthetic.LOSSES
    ]
    for row in rows:
        assert -1 <= row["rank_correlation"] <= 1
        assert row["kl"] > 0
        assert 0 < row["claimed_cosine"] < 1
    assert "--steps 30" in results["command"]
    text = (out / "results.md").read_text()
    assert text.count("\n| 8 |") == 3  # two samplers, and the law
    assert (out / "results.png").read_bytes().startswith(b"\x89PNG")


def test_the_committed_table_is_that_of_its_json(synthetic):
    results = json.loads(synthetic.RESULTS.with_suffix(".json").read_text())
    assert results["command"] == "python examples/mc_infonce_synthetic.py --table"
    tables = synthetic.tables(results["results"], results["laws"])
    assert synthetic.RESULTS.with_suffix(".md").read_text().endswith(f"\n\n{tables}")


@pytest.mark.slow
def test_training_learns_the_order_of_the_concentrations(synthetic):
    """For d = 8 in 300 steps; the sampler is right there."""
    options = ["--steps", "300", "--batch-size", "64", "--samples", "8", "--lr", "0.01"]
    row = synthetic.train(8, 0, synthetic.EXACT, synthetic.arguments(options))
    assert row["rank_correlation"] > 0.9
    assert row["kl"] < 0.3 * row["kl_uniform"]


def test_the_loss_of_samples_is_that_of_the_package(synthetic):
    torch.manual_seed(0)
    mu = torch.nn.functional.normalize(torch.randn(10, 6), dim=-1)
    kappa = 20 * torch.rand(10) + 1

    def generator():
        return torch.Generator().manual_seed(3)

    e = VonMisesFisher(mu, kappa).sample((4,), generator=generator())
    views = mu[:5], mu[5:], kappa[:5], kappa[5:]
    ours = mc_infonce_loss(*views, n_samples=4, temperature=0.2, generator=generator())
    torch.testing.assert_close(synthetic.loss_of_samples(e, 0.2), ours)


@pytest.mark.parametrize(
    ("d", "kappa", "exact", "wrong"),
    [(512, 50.0, 0.097, -0.438), (16, 5.0, 0.289, 0.289), (16, 400.0, 0.981, 0.981)],
)
def test_laws_of_the_samplers(synthetic, d, kappa, exact, wrong):
    """E[mu . x] of 20,000 samples at kappa below 10, far above d, and between; 0.008 is more than
    five standard errors."""
    torch.manual_seed(0)
    mu = torch.eye(d)[:1]
    law = VonMisesFisher(mu, torch.tensor([kappa]))
    assert law.mean_resultant_length().item() == pytest.approx(exact, abs=1e-3)
    cosines = synthetic.svae_style_cosines(torch.full((20_000,), kappa, dtype=torch.float64), d)
    assert cosines.mean().item() == pytest.approx(wrong, abs=0.008)
    samples = synthetic.svae_style_samples(mu, torch.tensor([kappa]), 1000)
    assert samples.shape == (1000, 1, d)
    torch.testing.assert_close(samples.norm(dim=-1), torch.ones(1000, 1))
    assert (samples @ mu.T).mean().item() == pytest.approx(wrong, abs=0.04)


def test_posteriors_of_the_process_are_the_true_ones(synthetic):
    """Latents of observations that were drawn forward have the mean cosine of the posteriors."""
    process = synthetic.Process(5, 0)
    z = process.latents(40_000)
    _, mu, kappa = process.observe(z)
    expected = process.law(mu, kappa).mean_resultant_length()
    assert expected.min() >= synthetic.LOWEST - 1e-5
    assert expected.max() <= synthetic.HIGHEST + 1e-5
    excess = (mu * z).sum(-1) - expected
    assert abs(excess.mean()) < 4.5 * excess.std() / len(z) ** 0.5  # 7e-6 of false alarms


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--dim", "2"], "--dim: must be a whole number from 3 on, got 2"),
        (["--steps", "0"], "--steps: must be a whole number from 1 on, got 0"),
        (["--batch-size", "1"], "--batch-size: must be a whole number from 2 on, got 1"),
        (["--lr", "nan"], "--lr: must be a number above 0.0, got nan"),
        (["--seed", "-1"], "--seed: must be a whole number from 0 to 999999, got -1"),
        (["--what"], "unrecognized arguments: --what"),
    ],
)
def test_wrong_options(synthetic, capsys, argv, message):
    with pytest.raises(SystemExit) as excinfo:
        synthetic.main(argv)
    assert message in excinfo.value.code
    assert "\n" not in excinfo.value.code.strip()


def test_a_folder_that_cannot_be_made(synthetic, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match=r"--out .*file.*: "):
        synthetic.main(["--out", str(tmp_path / "file" / "below")])


def test_help(synthetic, capsys):
    with pytest.raises(SystemExit) as excinfo:
        synthetic.main(["--help"])
    assert excinfo.value.code == 0
    assert "wrong law" in capsys.readouterr().out
