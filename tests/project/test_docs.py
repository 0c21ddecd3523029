"""Every public name is documented, with an example that the doctests run; what is cited exists."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
from torch.distributions import Distribution

import powerspherical_ext
from powerspherical_ext import (
    distributions,
    export,
    goodness_of_fit,
    losses,
    metrics,
    mixtures,
)

ROOT = Path(__file__).parents[2]
MODULES = (powerspherical_ext, distributions, export, goodness_of_fit, losses, metrics, mixtures)
PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in MODULES
    for name in module.__all__
    if not name.startswith("__")
}
BASES = ("RotationallySymmetric",)  # users make its subclasses


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_have_a_docstring_with_an_example(name):
    public = PUBLIC[name]
    assert inspect.getdoc(public)
    if not name.endswith(BASES):
        assert doctest.DocTestFinder(recurse=False).find(public)[0].examples


METHODS = {
    f"{name}.{attribute}": member
    for name, public in PUBLIC.items()
    if inspect.isclass(public)
    for attribute, member in inspect.getmembers(public)
    if not attribute.startswith("_")
    and "powerspherical_ext" in str(getattr(getattr(member, "fget", member), "__module__", ""))
}


@pytest.mark.parametrize("name", METHODS)
def test_public_methods_have_a_docstring(name):
    assert inspect.getdoc(METHODS[name])


@pytest.mark.parametrize(
    "name", [n for n, v in PUBLIC.items() if inspect.isclass(v) and issubclass(v, Distribution)]
)
def test_distributions_document_arguments_and_errors(name):
    doc = inspect.getdoc(PUBLIC[name])
    for argument in list(inspect.signature(PUBLIC[name].__init__).parameters)[1:]:
        assert f"{argument}:" in doc, argument
    assert name.endswith(BASES) or "Raises:" in doc


def test_modules_say_what_they_are():
    for module in pkgutil.walk_packages(powerspherical_ext.__path__, "powerspherical_ext."):
        if not module.name.endswith("._C"):
            assert importlib.import_module(module.name).__doc__, module.name


def test_all_names_exist_and_are_sorted():
    for module in MODULES:
        assert sorted(module.__all__) == sorted(set(module.__all__))
        assert all(hasattr(module, name) for name in module.__all__)


FOLDERS = ("powerspherical_ext", "csrc", "tests", "benchmarks", "examples")
CITED = re.compile(rf"(?<![\w/.<*-])(?:{'|'.join(FOLDERS)}|docs)/[\w/]+\.\w+")


def test_files_that_the_code_cites_exist():
    sources = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    missing = [
        (path.name, cited)
        for path in sources
        if path.suffix in (".py", ".h", ".cpp", ".cu", ".cuh")
        for cited in CITED.findall(path.read_text())
        if Path(cited).suffix in (".py", ".h", ".cpp", ".md") and not (ROOT / cited).exists()
    ]
    assert not missing
