"""examples/evaluate.py: every method, resuming, bad input. Its numbers: test_evaluate_numbers."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from training import METHODS, TINY

pytestmark = pytest.mark.slow

PICTURES = {
    *("accuracy", "auroc", "roc", "tenths", "histograms", "extremes"),
    *("augmentations", "crops", "pairs", "calibration", "entropy"),
}


def refusal(evaluate, arguments, capsys) -> str:
    """The one line with which the script refuses, with status 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as excinfo:
        evaluate.main([str(argument) for argument in arguments])
    assert excinfo.value.code == 2
    *bars, words = capsys.readouterr().err.strip().splitlines()
    assert all("%|" in bar for bar in bars)
    return words


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_report_of_every_method(evaluated):
    out, report, printed = evaluated
    assert {path.stem for path in out.glob("*.png")} == PICTURES
    for path in out.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    text = (out / "report.md").read_text()
    for picture in PICTURES:
        assert f"({picture}.png)" in text
    for table in printed.split("\n\n"):
        if table.startswith("|"):
            assert table in text
    assert set(report["groups"]) == set(METHODS)
    assert report["groups"]["vi-simsiam"]["seeds"] == [0, 1]
    assert "--quick" in report["command"]


def test_each_method_has_its_own_confidence_and_the_free_ones(evaluated):
    _, report, _ = evaluated
    own = {"vi-simsiam": {"kappa", "norm of mu"}, "vi-simclr": {"kappa"}, "simsiam": {"norm of mu"},
           "dino": {"negative entropy"}, "mc-infonce": {"kappa"}, "elk": {"kappa"},
           "hib": {"kappa"}}  # fmt: skip
    free = {"norm of z", "norm of y"}
    for method in METHODS:
        sections = report["runs"][method]["sections"]
        network = own.get(method, set()) | free
        everywhere = network | {"nearest similarity"}
        ranking = sections["auroc"]
        assert set(ranking["knn"]["damaged"]["confidences"]) == everywhere | {"vote share"}
        assert set(ranking["linear"]["clean"]["confidences"]) == everywhere | {"linear probability"}
        assert set(sections["augrc"]["knn"]["clean"]["confidences"]) == everywhere | {"vote share"}
        both = everywhere | {"vote share", "linear probability"}
        assert set(sections["ood"]["mnist"]["confidences"]) == both
        for name in ("digits", "mnist"):
            assert set(sections["r-auroc"][name]["confidences"]) == both
        assert set(sections["augmentations"]["blur"]) == both
        assert set(sections["calibration"]["correlation"]) == both
        assert f"crop of highest {min(both)}" in sections["crops"]["accuracy"]
        assert ("ece" in sections["calibration"]) == ("kappa" in network)


def test_finished_sections_are_not_computed_again(
    evaluate_example, run_folders, evaluated, monkeypatch
):
    out, before, _ = evaluated
    from vi_simsiam.evaluation import sections

    def fail(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(sections, "SECTIONS", dict.fromkeys(sections.SECTIONS, fail))
    folders = [str(path) for path in run_folders.values()]
    evaluate_example.main([*folders, "--quick", "--out", str(out)])
    after = json.loads((out / "report.json").read_text())
    assert after["runs"] == before["runs"]
    assert after["groups"] == before["groups"]


def test_an_older_revision_of_a_section_is_computed_anew(
    evaluate_example, run_folders, evaluated, monkeypatch, tmp_path
):
    from vi_simsiam.evaluation import sections

    computed = []
    counted = {name: lambda _, name=name: computed.append(name) or {} for name in ("auroc", "ood")}
    monkeypatch.setattr(sections, "SECTIONS", sections.SECTIONS | counted)
    monkeypatch.setitem(sections.REVISIONS, "ood", 99)
    copy = tmp_path / "run"
    shutil.copytree(run_folders["simsiam"], copy)
    command = [str(copy), "--quick", "--only", "auroc", "ood", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(evaluate_example.figures, "draw", lambda *_: {})
    monkeypatch.setattr(evaluate_example.tables, "sections", lambda _: ())
    evaluate_example.main(command)
    evaluate_example.main(command)
    assert computed == ["ood"]


def test_a_new_checkpoint_or_other_sizes_are_computed_anew(
    example, evaluate_example, run_folders, evaluated, tmp_path
):
    copy = tmp_path / "run"
    shutil.copytree(run_folders["simsiam"], copy)
    before = json.loads((copy / "evaluation.json").read_text())
    example.main([*TINY[:-1], "21", "--method", "simsiam", "--out", str(copy), "--overwrite"])
    evaluate_example.main([str(copy), "--quick", "--only", "knn", "--out", str(tmp_path / "out")])
    after = json.loads((copy / "evaluation.json").read_text())
    assert after["checkpoint"] != before["checkpoint"]
    assert list(after["sections"]) == ["knn"]
    features = torch.load(copy / "features.pt", weights_only=True)
    assert features["checkpoint"] == after["checkpoint"]
    assert set(features["parts"]) == {"train", "knn", "test"}

    evaluate_example.main([str(copy), "--only", "knn", "--out", str(tmp_path / "out")])
    resized = json.loads((copy / "evaluation.json").read_text())["sections"]["knn"]["made_with"]
    assert resized != after["sections"]["knn"]["made_with"]


def test_corrupt_features_are_made_again(evaluate_example, run_folders, evaluated, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run_folders["dino"], copy)
    whole = torch.load(copy / "features.pt", weights_only=True)
    (copy / "features.pt").write_bytes((copy / "features.pt").read_bytes()[:3000])
    (copy / "evaluation.json").write_text("{")
    command = [str(copy), "--quick", "--only", "knn", "entropy", "--out", str(tmp_path / "out")]
    evaluate_example.main(command)
    again = torch.load(copy / "features.pt", weights_only=True)
    torch.testing.assert_close(again["parts"]["test"], whole["parts"]["test"])


def test_fine_tuning_is_done_when_asked_for(evaluate_example, run_folders, tmp_path, capsys):
    command = [str(run_folders["vi-simsiam"]), "--only", "few-labels,scratch", "--out",
               str(tmp_path), "--quick", "--fine-tune-epochs", "2"]  # fmt: skip
    evaluate_example.main(command)
    report = json.loads((tmp_path / "report.json").read_text())
    sections = report["runs"]["vi-simsiam"]["sections"]
    for name in ("few-labels", "scratch"):
        assert sections[name]["epochs"] == 2
        assert sections[name]["1%"]["labels"] == 10  # one of each class
        assert sections[name]["10%"]["labels"] == 140
    assert sections["few-labels"]["10%"]["accuracy"] != sections["scratch"]["10%"]["accuracy"]
    assert ".535 ± .005" in capsys.readouterr().out  # the paper's, beside ours


def test_not_a_run_folder(evaluate_example, tmp_path, capsys):
    words = refusal(evaluate_example, [tmp_path, "--out", tmp_path / "out"], capsys)
    assert f"{tmp_path} is not a run folder: it has no checkpoint.pt" in words
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[:2000], lambda whole: b"other"], ids=["cut short", "other"]
)
def test_a_corrupt_checkpoint(evaluate_example, run_folders, tmp_path, capsys, damage):
    whole = (run_folders["simsiam"] / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(damage(whole))
    before = contents(tmp_path)
    assert "is not a checkpoint that can be read" in refusal(evaluate_example, [tmp_path], capsys)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "byol"}, "is of the method byol"),
        ({"width": 16}, "is not of a run that train_vi_simsiam.py has made"),
        ({"data": "cifar10"}, "--data cifar10 needs --data-root"),
    ],
)
def test_a_checkpoint_of_something_else(
    evaluate_example, run_folders, tmp_path, capsys, change, message
):
    state = torch.load(run_folders["simsiam"] / "checkpoint.pt", weights_only=True)
    state["settings"] |= change
    torch.save(state, tmp_path / "checkpoint.pt")
    before = contents(tmp_path)
    assert message in refusal(evaluate_example, [tmp_path], capsys)
    assert contents(tmp_path) == before


def test_runs_of_different_data(evaluate_example, run_folders, tmp_path, capsys):
    state = torch.load(run_folders["simsiam"] / "checkpoint.pt", weights_only=True)
    state["settings"]["data"] = "mnist"
    torch.save(state, tmp_path / "checkpoint.pt")
    words = refusal(evaluate_example, [run_folders["simsiam"], tmp_path], capsys)
    assert "one report is about runs of the same data" in words


def test_a_run_named_twice(evaluate_example, run_folders, capsys):
    words = refusal(evaluate_example, [run_folders["simsiam"]] * 2, capsys)
    assert "name each run once" in words


def test_a_report_of_other_runs_is_not_replaced_unasked(
    evaluate_example, run_folders, evaluated, capsys
):
    out, _, _ = evaluated
    before = contents(out)
    words = refusal(evaluate_example, [run_folders["simsiam"], "--out", out], capsys)
    assert "is a report of barlow-twins" in words
    assert "--overwrite" in words
    assert contents(out) == before


def test_a_network_that_has_diverged(evaluate_example, run_folders, tmp_path, capsys):
    state = torch.load(run_folders["simsiam"] / "checkpoint.pt", weights_only=True)
    for values in state["model"].values():
        if values.is_floating_point():
            values.fill_(float("nan"))
    torch.save(state, tmp_path / "checkpoint.pt")
    words = refusal(evaluate_example, [tmp_path, "--quick"], capsys)
    assert "has NaN features: its training has diverged" in words


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "knn,knm"], "--only: no section knm; there are knn, linear"),
        (["--threads", "0"], "must be a whole number from 1 on, got 0"),
        (["--fine-tune-epochs", "-1"], "must be a whole number from 1 on, got -1"),
        (["--device", "tpu"], "--device must be cpu or cuda, got tpu"),
        (["--no-such"], "unrecognized arguments: --no-such"),
    ],
)
def test_bad_options(evaluate_example, run_folders, capsys, options, message):
    assert message in refusal(evaluate_example, [run_folders["simsiam"], *options], capsys)


def test_short_form_of_a_report(evaluated, tmp_path, capsys):
    """That of claims.py has its table, and every number of its groups but the ROC curves."""
    import claims

    report = evaluated[1]
    whole, short = tmp_path / "report.json", tmp_path / "short.json"
    whole.write_text(json.dumps(report))
    claims.main(["--summary", str(whole), "--results", str(short)])
    table = capsys.readouterr().out
    claims.main(["--summary", str(short)])
    assert capsys.readouterr().out == table
    shortened = json.loads(short.read_text())
    assert "sections" not in str(shortened.pop("runs"))
    text = json.dumps(report["groups"])
    curves = ("false_positive_rates", "true_positive_rates")
    assert all(name in text for name in curves)
    assert not any(name in str(shortened) for name in curves)

    def without(pairs):
        return {key: value for key, value in pairs if key not in curves}

    assert shortened["groups"] == json.loads(text, object_pairs_hook=without)
    assert {**report, **shortened} == {**report, "groups": shortened["groups"]}
