"""examples/step_cost.py: what it times is a training step, and its ratios are what it says."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from training import METHODS, TINY, refusal

SHORT = [option for option in TINY if option not in ("--steps", "20")]


@pytest.fixture(scope="module")
def step_cost(example):
    """The module, which imports train_vi_simsiam.py and needs what that needs."""
    import step_cost

    return step_cost


@pytest.mark.slow
def test_every_method_is_timed(step_cost, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(step_cost, "in_turns", partial(step_cost.in_turns, warm_up=0))
    out = tmp_path / "folder" / "cost.json"
    step_cost.main([*SHORT, "--rounds", "2", "--out", str(out)])
    results = json.loads(out.read_text())
    rows = {row["method"]: row for row in results["results"]}
    assert set(rows) == set(METHODS)
    assert rows["simsiam"]["over_simsiam"] == 1
    assert results["settings"]["width"] == 8
    assert results["settings"]["batch_size"] == 32
    assert "--rounds 2" in results["command"]
    printed = capsys.readouterr().out
    for name, row in rows.items():
        assert row["step_ms"] > 0
        assert row["loss_ms"] > 0
        assert f"| {name} | {row['over_simsiam']:.2f} |" in printed


@pytest.mark.parametrize("method", ["vi-simsiam", "dino", "hib"])
def test_a_timed_step_trains_and_a_timed_loss_does_not(step_cost, method):
    args = step_cost.arguments([*SHORT, "--method", method], None)
    data = step_cost.load_data(args)
    run = step_cost.prepare(args, data, torch.device("cpu"))
    calls = step_cost.step_and_loss(run, data, args)
    before = [parameter.clone() for parameter in run.network.parameters()]
    assert isinstance(calls[method, "loss"](), float)
    assert all(map(torch.equal, before, run.network.parameters()))
    assert run.step == 0
    assert isinstance(calls[method, "step"](), float)
    assert not any(map(torch.equal, before, run.network.parameters()))
    assert run.step == 1


def test_the_loss_alone_is_that_of_the_step(step_cost):
    """With views of no randomness the two values agree."""
    args = step_cost.arguments([*SHORT, "--method", "vi-simsiam"], None)
    data = step_cost.load_data(args)
    run = step_cost.prepare(args, data, torch.device("cpu"))
    state = run.random.generator.get_state()
    calls = step_cost.step_and_loss(run, data, args)
    run.random.generator.set_state(state)  # the step makes the views that the loss alone has
    loss = calls["vi-simsiam", "loss"]()
    assert calls["vi-simsiam", "step"]() == pytest.approx(loss, rel=1e-5)


def test_ratios_are_taken_round_by_round(step_cost):
    times = {
        ("simsiam", "step"): [10.0, 20.0, 40.0],
        ("simsiam", "loss"): [1.0, 2.0, 4.0],
        ("hib", "step"): [20.0, 30.0, 120.0],
        ("hib", "loss"): [5.0, 5.0, 8.0],
    }
    simsiam, hib = step_cost.results_of(times)
    assert simsiam["over_simsiam"] == 1
    assert simsiam["quartiles"] == [1, 1]
    assert hib["over_simsiam"] == 2  # of 2, 1.5 and 3; the medians alone give 1.5
    assert hib["quartiles"] == [1.75, 2.5]
    assert (hib["step_ms"], hib["loss_ms"]) == (30, 5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rounds", "1"], "--rounds: must be a whole number from 2 on, got 1"),
        (["--methods", "byol"], "invalid choice: 'byol'"),
        (["--widht", "8"], "unrecognized arguments: --widht 8"),
        (
            ["--preset", "paper"],
            "dino has a batch size of 64 and simsiam of 512: give",
        ),
        (
            ["--batch-size", "2000", "--data", "digits"],
            "--batch-size 2000 is more than 1437",
        ),
        (["--data", "cifar10"], "cifar10 needs --root"),
    ],
)
def test_what_is_refused(step_cost, capsys, arguments, words):
    assert words in refusal(step_cost, arguments, capsys)
