"""examples/claims.py: its trainings are ones that train_vi_simsiam.py accepts, and it resumes."""

from __future__ import annotations

import importlib
import json
import shlex

import pytest
from training import EXAMPLES, ROOT, refusal

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")


@pytest.fixture
def claims(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)
    return importlib.import_module("claims")


def test_the_options_of_every_training_are_accepted(claims):
    settings = importlib.import_module("vi_simsiam.settings")
    for study in claims.STUDIES.values():
        for name, options in study.items():
            args = settings.arguments([*shlex.split(options), "--data", "fashion-mnist"], None)
            assert name.startswith(args.method)


def test_only_what_is_missing_is_trained(claims, monkeypatch, tmp_path, capsys):
    done = claims.RUNS / "dino-1"
    done.mkdir(parents=True)
    (done / "results.json").write_text("{}")
    started = []
    monkeypatch.setattr(claims, "train", lambda *run: started.append(run) or 0)
    claims.main(["table", "--root", str(tmp_path)])
    assert len(started) == 17
    assert "17 trainings in folders below runs/claims, 1 at a time" in capsys.readouterr().out
    assert ("dino", "--method dino", 1, tmp_path) not in started
    assert ("dino", "--method dino", 2, tmp_path) in started


@pytest.mark.parametrize("name", ["claims", "schedule"])
def test_committed_results_are_of_the_short_form(claims, name):
    """And the page has their tables."""
    text = (EXAMPLES / "results" / f"{name}.json").read_text()
    report = json.loads(text)
    assert claims.as_json(claims.shortened(report)) == text
    assert f"\n\n{claims.summary(report)}\n\n" in (ROOT / "docs" / "claims.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tables"], "study must be of table, schedule, beta"),
        (["--jobs", "0"], "--jobs: must be a whole number from 1 on, got 0"),
        (["--root", "nowhere"], "--root nowhere: no such folder"),
        (["--results", "short.json"], "--results is a short form of the report that --summary"),
        (["--summary", "none.json"], "--summary none.json: not a report of evaluate.py"),
    ],
)
def test_what_is_refused(claims, capsys, arguments, words):
    assert words in refusal(claims, arguments, capsys)


def test_a_failed_training_is_reported(claims, monkeypatch, tmp_path):
    monkeypatch.setattr(claims, "train", lambda *run: 1)
    with pytest.raises(SystemExit, match="9 of 9 trainings failed"):
        claims.main(["beta", "--root", str(tmp_path)])
