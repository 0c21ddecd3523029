"""examples/uncertainty.py: it tells what evaluate.py has measured, and the page has its tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from training import METHODS, refusal

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def uncertainty(example):
    import uncertainty

    return uncertainty


@pytest.fixture
def files(evaluated, tmp_path):
    """A report of every method, and the costs of their steps."""
    out, report, _ = evaluated
    cost = {key: report[key] for key in ("command", "machine", "threads", "load_average")}
    rows = [
        {"method": name, "step_ms": 1.0, "loss_ms": 0.1, "over_simsiam": 1 + i, "quartiles": [1, 2]}
        for i, name in enumerate(METHODS)
    ]
    cost |= {"versions": {}, "settings": {}, "rounds": 3, "results": rows}
    (tmp_path / "cost.json").write_text(json.dumps(cost))
    return [str(out / "report.json"), str(tmp_path / "cost.json")]


@pytest.mark.slow
def test_figures_are_those_of_the_report(uncertainty, evaluated, files, tmp_path, capsys):
    results = tmp_path / "results.json"
    uncertainty.main([*files, "--results", str(results)])
    first = capsys.readouterr().out
    uncertainty.main(["--results", str(results)])
    assert capsys.readouterr().out == first
    assert results.with_suffix(".png").read_bytes().startswith(b"\x89PNG")

    methods = json.loads(results.read_text())["methods"]
    assert set(methods) == set(METHODS)
    groups = evaluated[1]["groups"]
    for name, method in methods.items():
        sections = groups[name]["sections"]
        assert method["n"] == (2 if name == "vi-simsiam" else 1)
        knn = sections["auroc"]["knn"]["damaged"]["confidences"]
        assert set(method["confidences"]) == set(knn)
        for confidence, figures in method["confidences"].items():
            assert figures["AUROC, damaged"] == knn[confidence]["auroc"]
            assert figures["OOD"] == sections["ood"]["mnist"]["confidences"][confidence]["auroc"]
    kappa = methods["mc-infonce"]["confidences"]["kappa"]
    sections = groups["mc-infonce"]["sections"]
    assert kappa["AUGRC, clean"] == sections["augrc"]["knn"]["clean"]["confidences"]["kappa"]
    assert kappa["R-AUROC"] == sections["r-auroc"]["digits"]["confidences"]["kappa"]["auroc"]
    own = {name: method["own"] for name, method in methods.items()}
    assert own["elk"] == own["vi-simsiam"] == "kappa"
    assert own["dino"] == "negative entropy"
    assert own["simclr"] == "norm of z"
    assert own["simsiam"] == "norm of mu"


def leaf(mean):
    return {"mean": mean, "sd": None, "values": [mean]}


def test_the_best_of_a_column_is_bold(uncertainty):
    figures = {
        "norm of z": {"OOD": leaf(0.6), "AUGRC, clean": leaf(0.1)},
        "nearest similarity": {"OOD": leaf(0.9), "AUGRC, clean": leaf(0.2)},
        "vote share": {"AUGRC, clean": leaf(0.3)},
    }
    method = {"n": 1, "accuracy": leaf(0.7), "own": "norm of z", "confidences": figures}
    cost = {"results": [{"method": "simclr", "over_simsiam": 1.0}]}
    results = {"methods": {"simclr": method}, "cost": cost}
    lines = uncertainty.table(results, ("OOD", "AUGRC, clean"), cost=True).splitlines()[2:]
    assert lines == [
        "| simclr | 1 | .700 | norm of z | .600 | **.100** | 1.00 |",
        "|  |  |  | nearest similarity | **.900** | .200 |  |",
        "|  |  |  | vote share |  | .300 |  |",
    ]


def test_the_page_has_the_tables_of_the_saved_results(uncertainty):
    page = (ROOT / "docs" / "uncertainty.md").read_text()
    tables = uncertainty.tables(json.loads(uncertainty.RESULTS.read_text()))
    for table in tables.split("\n\n"):
        assert table in page


def test_what_is_refused(uncertainty, tmp_path, capsys):
    words = refusal(uncertainty, [str(tmp_path / "report.json")], capsys)
    assert "a report needs a file of step_cost.py beside it" in words
    (tmp_path / "other.json").write_text("{}")
    other = str(tmp_path / "other.json")
    for arguments in ([other, other], ["--results", other]):
        assert f"{other}: not the results of these programs" in refusal(
            uncertainty, [*arguments, *([] if "--results" in arguments else ["--results", other])],
            capsys,
        )  # fmt: skip
    assert (tmp_path / "other.json").read_text() == "{}"
