"""The site has an entry for every public name, and every entry says what a reader looks for."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.distributions import kl_divergence

import powerspherical_ext
from powerspherical_ext import HypersphericalUniform, PowerSpherical, SphericalCauchy

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS))
import api_pages  # noqa: E402

sys.path.remove(str(DOCS))

MODULES = ["powerspherical_ext"] + [
    module.name
    for module in pkgutil.iter_modules(powerspherical_ext.__path__, "powerspherical_ext.")
    if not module.name.rpartition(".")[2].startswith("_")
]
ENTRY = re.compile(r"\.\. (?:auto(?:class|function|data)|py:data):: (\w+)")


def is_internal(name):
    has_names = hasattr(importlib.import_module(name), "__all__")
    return name.rpartition(".")[2] in api_pages.INTERNAL or not has_names


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    api_pages.write_pages(folder)
    return {path.stem: path.read_text() for path in folder.glob("*.rst")}


@pytest.mark.slow
def test_public_modules_are_there_after_import_of_the_package():
    public = [name for name in MODULES if not is_internal(name)]
    assert "powerspherical_ext.metrics" in public
    code = "import powerspherical_ext; " + "; ".join(public)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_every_module_has_a_page_or_is_said_to_be_internal(pages):
    for name in MODULES:
        internal = is_internal(name)
        assert (f"module-{name}" in pages) != internal, name
        assert f".. automodule:: {name}\n" in pages["internals" if internal else f"module-{name}"]


@pytest.mark.parametrize("module", [name for name in MODULES if not is_internal(name)])
def test_every_public_name_has_one_entry(pages, module):
    entries = {
        (text.partition(".. currentmodule:: ")[2].partition("\n")[0], name)
        for text in pages.values()
        for name in ENTRY.findall(text)
    }
    public = importlib.import_module(module)
    for name in public.__all__:
        found = [
            home
            for home, entry in entries
            if entry == name
            and getattr(importlib.import_module(home), name) is getattr(public, name)
        ]
        assert len(found) == 1, (name, found)
        assert f"{found[0]}.{name}" in pages[f"module-{module}"]


def test_pages_of_names_that_are_gone_are_removed(tmp_path):
    gone, own = tmp_path / "powerspherical_ext.Gone.rst", tmp_path / "note.txt"
    gone.touch()
    own.touch()
    api_pages.write_pages(tmp_path)
    assert own.exists()
    assert not gone.exists()
    assert (tmp_path / "index.rst").exists()


def test_every_page_is_in_a_menu(pages):
    menus = "".join(text.partition(".. toctree::")[2] for text in pages.values())
    for page in pages:
        assert page == "index" or re.search(rf"(?m)[ <]{re.escape(page)}>?$", menus), page


def test_limits_come_from_the_registry(pages):
    rows = pages["limits"].split("   * - ")
    for family in powerspherical_ext.families.FAMILIES:
        row = next(row for row in rows if f"``{family.name}``" in row)
        assert ("below 2^50" in row) != family.is_bounded
    pole = torch.tensor([1.0, 0.0])
    table = {row.split("\n     - ")[0]: row.split() for row in rows}
    assert table["power spherical"][-7::2] == ["yes", "yes", "no", "yes"]
    assert kl_divergence(PowerSpherical(pole, 0.5), HypersphericalUniform(2)) > 0
    with pytest.raises(NotImplementedError):
        kl_divergence(PowerSpherical(pole, 0.5), SphericalCauchy(pole, 0.5))


HOMES = {full: full.rpartition(".") for full in set(api_pages.homes().values())}
PUBLIC = {
    name: getattr(importlib.import_module(module), name) for module, _, name in HOMES.values()
}
MEMBERS = {
    f"{home}.{name}": getattr(member, "__func__", member)  # of a class method
    for home, (_, _, owner) in HOMES.items()
    if inspect.isclass(PUBLIC[owner])
    for name, member in vars(PUBLIC[owner]).items()
    if not name.startswith("_")
    and (inspect.isfunction(member) or isinstance(member, (property, classmethod)))
}


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_methods_have_a_docstring_of_their_own(name):
    if not name.endswith(("extra_repr", "arg_constraints")):
        assert MEMBERS[name].__doc__


@pytest.mark.parametrize(
    "name", sorted(n for n in MEMBERS if n.endswith((".forward", "sample", ".fit", ".log_prob")))
)
def test_docstrings_explain_every_argument_or_name_what_does(name):
    if ".families." in name:
        return  # of a contract, whose module says it
    own = list(inspect.signature(MEMBERS[name]).parameters)[1:]
    doc = MEMBERS[name].__doc__
    owner = name.rpartition(".")[0]
    for named in re.findall(r"`(\w+)`", doc):
        other = MEMBERS.get(f"{owner}.{named}") or PUBLIC.get(named)
        doc += inspect.getdoc(other) if callable(other) else ""
    missing = [argument for argument in own if not re.search(rf"\b{argument}\b", doc)]
    assert not missing


def test_gallery_has_eight_scripts_with_a_title_and_a_picture():
    scripts = sorted((DOCS / "gallery").glob("plot_*.py"))
    assert len(scripts) >= 8
    for script in scripts:
        title, line = script.read_text().splitlines()[1:3]
        assert line == "=" * len(title), script.name
        assert script.read_text().endswith("plt.show()\n"), script.name
