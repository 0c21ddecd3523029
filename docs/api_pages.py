"""The pages of the site that are made from the package: its API, and what the registry of families
says about limits and divergences.

`__all__` of every public module decides what has a page. The text of a page is the docstring.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.distributions import kl_divergence

import powerspherical_ext as package

# Modules whose functions may change from one version to the next.
INTERNAL = ("fit", "marginal", "ops", "reference")

# The bases at which a class page stops listing inherited methods.
FOREIGN = "Distribution, Module, tuple, Protocol, object"


def modules() -> tuple[list[ModuleType], list[ModuleType]]:
    """The package with its public modules, and the internal ones.

    A module without `__all__` exports nothing, and is internal.
    """
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    public, internal = [package], []
    for name in names:
        if not name.startswith("_"):
            module = import_module(f"{package.__name__}.{name}")
            is_public = hasattr(module, "__all__") and name not in INTERNAL
            (public if is_public else internal).append(module)
    return public, internal


def homes() -> dict[str, str]:
    """The full name of every name in an `__all__`, and the one under which it has its page.

    A name that several modules export has one page, under the first of them.
    """
    found: dict[str, str] = {}
    first: dict[int, str] = {}
    for module in modules()[0]:
        for name in module.__all__:
            full = f"{module.__name__}.{name}"
            found[full] = first.setdefault(id(getattr(module, name)), full)
    return found


def heading(title: str, mark: str = "=") -> str:
    return f"{title}\n{mark * len(title)}\n\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (header, *rows):
        cells = (f"{'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row))
        lines += [f"   {cell}" for cell in cells]
    return "\n".join(lines) + "\n\n"


def page_of_name(full: str) -> str:
    """The page of one public name."""
    module, _, name = full.rpartition(".")
    public = getattr(import_module(module), name)
    text = heading(name) + f".. currentmodule:: {module}\n\n"
    if name == "__version__":
        return text + f".. py:data:: {name}\n   :type: str\n\n   The version of the package.\n"
    if inspect.isclass(public):
        members = f"   :members:\n   :inherited-members: {FOREIGN}\n"
        return text + f".. autoclass:: {name}\n{members}   :exclude-members: extra_repr\n"
    if callable(public):
        return text + f".. autofunction:: {name}\n"
    return text + f".. autodata:: {name}\n   :no-value:\n"


def page_of_module(module: ModuleType, pages: dict[str, str]) -> str:
    """What the module says about itself, a table of its names, and what its parts explain."""
    names = [pages[f"{module.__name__}.{name}"] for name in module.__all__]
    own = [name for name in names if name.rpartition(".")[0] == module.__name__]
    parts = (
        f"{module.__name__}.{part.name}"
        for part in pkgutil.iter_modules(getattr(module, "__path__", ()))
        if module is not package and not part.name.startswith("_")
    )
    explained = [name for name in parts if "\n\n" in (inspect.getdoc(import_module(name)) or "")]
    return (
        heading(module.__name__)
        + f".. automodule:: {module.__name__}\n\n"
        + ".. currentmodule:: None\n\n"
        + ".. autosummary::\n   :nosignatures:\n\n"
        + "".join(f"   ~{name}\n" for name in names if not name.endswith("__"))
        + "\n.. toctree::\n   :hidden:\n\n"
        + "".join(f"   {short(name)}\n" for name in own)
        + "\n"
        + "".join(heading(name, "-") + f".. automodule:: {name}\n\n" for name in explained)
    )


def families() -> dict[str, Any]:
    """The public class of each family, by its name, in the order of the registry."""
    classes = {
        public._family.name: public
        for name in package.__all__
        if hasattr(public := getattr(package, name), "_family")
    }
    return {family.name: classes[family.name] for family in package.families.FAMILIES}


def yes(answer: bool) -> str:
    return "yes" if answer else "no"


def divergence_is_known(p: Any, q: Any) -> bool:
    try:
        kl_divergence(p, q)
    except NotImplementedError:
        return False
    return True


def page_of_limits() -> str:
    """The domain of every family, and the divergences that exist."""
    classes = families()
    rows = []
    for family in package.families.FAMILIES:
        end = family.upper_bound
        bound = f"{end:g}" if family.is_bounded else f"2^50, about {end:.2g}"
        rows.append(
            (
                f":class:`~powerspherical_ext.{classes[family.name].__name__}`",
                f"``{family.name}``",
                "2 or more",
                f"0 to below {bound}",
                yes(family.fit is not None),
                yes(hasattr(classes[family.name], "product")),
            )
        )
    pole = torch.tensor([1.0, 0.0])
    laws = {name.replace("_", " "): cls(pole, 0.5) for name, cls in classes.items()}
    laws["uniform"] = package.HypersphericalUniform(2)
    pairs = [(p, *(yes(divergence_is_known(laws[p], laws[q])) for q in laws)) for p in laws]
    return (
        heading("Limits and divergences")
        + "Concentration 0 is the uniform distribution in every family. Outside of its domain a "
        "concentration raises ``ValueError``; with ``validate_args=False`` every result is NaN. "
        "``distribution`` is the name of the family in the losses.\n\n"
        + table(("class", "``distribution``", "d", "concentration", "``fit``", "``product``"), rows)
        + "How accurate the results are, and for which d and which concentrations tests hold that, "
        "is in the tables of :doc:`/numerics`.\n\n"
        + heading("Kullback-Leibler divergence", "-")
        + "``torch.distributions.kl_divergence(p, q)`` knows the pairs with a yes, and raises "
        "``NotImplementedError`` for the others. p is at the left, q at the top. The mean "
        "directions may differ. Both distributions have vectors of one length d, or "
        "``ValueError`` is raised. Results have the batch shape of p and q, broadcast, in nats. "
        "They are differentiable in all parameters. :doc:`/numerics` derives the formulas.\n\n"
        + table(("p", *laws), pairs)
    )


def page_of_internals(internal: Iterable[ModuleType]) -> str:
    text = heading("Internal modules") + (
        "These modules may change from one version to the next. They are listed for readers of the "
        "source, who find more in CONTRIBUTING.md.\n\n"
    )
    for module in internal:
        text += heading(module.__name__, "-") + f".. automodule:: {module.__name__}\n\n"
    return text


def short(page: str) -> str:
    """An entry of the menu: a module goes by its last name there."""
    stem, _, name = page.rpartition(".")
    return f"{name} <{page}>" if stem else page


def write_pages(folder: Path) -> None:
    """Writes all pages into a folder, and removes those of names that are gone."""
    pages = homes()
    public, internal = modules()
    texts = {home: page_of_name(home) for home in set(pages.values())}
    texts |= {f"module-{m.__name__}": page_of_module(m, pages) for m in public}
    texts["limits"], texts["internals"] = page_of_limits(), page_of_internals(internal)
    children = ["limits", *(f"module-{module.__name__}" for module in public), "internals"]
    texts["index"] = (
        heading("API")
        + "Each name of a module has a page with its formula, shapes, dtypes, errors, an example "
        "and its source. :doc:`limits` has the domain of every family, and the divergences "
        "between them. The modules under :doc:`internals` may change.\n\n"
        + ".. autosummary::\n\n"
        + "".join(f"   {module.__name__}\n" for module in public)
        + "\n.. toctree::\n   :hidden:\n\n"
        + "".join(f"   {short(child)}\n" for child in children)
    )
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.rst"):
        if old.stem not in texts:
            old.unlink()
    for name, text in texts.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text() != text:  # Sphinx reads again what has changed
            path.write_text(text)
