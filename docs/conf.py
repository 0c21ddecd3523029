"""Settings of the site, which `make docs` builds from this folder and from the docstrings.

What a build writes beside its sources goes to docs/generated.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

DOCS = Path(__file__).parent
ROOT = DOCS.parent
GENERATED = DOCS / "generated"
PAGES = ("README.md", "CHANGELOG.md", "benchmarks/README.md")  # of the repository
sys.path[:0] = [str(ROOT), str(DOCS)]

import api_pages  # noqa: E402

import powerspherical_ext  # noqa: E402

project = "powerspherical_ext"
version = release = powerspherical_ext.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["gallery"]
suppress_warnings = ["toc.not_included"]  # a page that only another page links to

html_theme = "furo"
html_title = project
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = html_show_sphinx = False
html_theme_options = {"footer_icons": []}

myst_heading_anchors = 4

default_role = "py:obj"  # what docstrings write in single backticks
autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Data types", "DTensors", "Shape", "Source", "Zero vectors"]

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "generated/gallery",
    "filename_pattern": r"plot_\d",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "backreferences_dir": None,
    "image_scrapers": ("matplotlib",),
    "matplotlib_animations": False,
    "reset_modules": ("matplotlib",),
}


LINK = re.compile(r"(?<=\]\()([^)\s:#]+)")


def linked_file(page: Path, link: str) -> Path | None:
    """The file of the repository that a page of Markdown links to."""
    target = (page.parent / link).resolve()
    return target if target.is_file() and ROOT in target.parents else None


def place(file: Path) -> Path:
    """Where a file of the repository is in the site: in this folder, or copied to GENERATED."""
    return file if DOCS in file.parents else GENERATED / file.relative_to(ROOT)


def mirror(page: Path) -> None:
    """Copies a page of the repository, and what it links to, and what that links to."""
    if place(page) != page:
        place(page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(page, place(page))
    if page.suffix == ".md":
        for link in LINK.findall(page.read_text()):
            target = linked_file(page, link)
            if target and not place(target).exists():
                mirror(target)


def prepare(app: Sphinx) -> None:
    """What the build reads beside this folder: the API pages, and pages of the repository."""
    api_pages.write_pages(GENERATED / "api")
    for old in GENERATED.iterdir():
        if old.name not in ("api", "gallery"):
            old.unlink() if old.is_file() else shutil.rmtree(old)
    for page in [ROOT / name for name in PAGES] + list(DOCS.glob("*.md")):
        mirror(page)


def relink(app: Sphinx, docname: str, content: list[str]) -> None:
    """Turns links between files of the repository into links between their places in the site."""
    there = app.env.doc2path(docname)
    if there.suffix != ".md":
        return
    here = ROOT / there.relative_to(GENERATED) if GENERATED in there.parents else there

    def link(match: re.Match[str]) -> str:
        target = linked_file(here, match[0])
        return os.path.relpath(place(target), there.parent) if target else match[0]

    content[0] = LINK.sub(link, content[0])


def resolve(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """A name that a docstring gives without its module, wherever it has its page."""
    if node.get("refdomain") != "py":
        return None
    domain = env.get_domain("py")
    name = node["reftarget"].rpartition("powerspherical_ext.")[2]
    for full, entry in domain.find_obj(env, None, None, name, None, 1):
        if "." not in name and entry.objtype in ("attribute", "method", "property"):
            continue  # of a class that the docstring does not name
        refuri = app.builder.get_relative_uri(node["refdoc"], entry.docname) + f"#{entry.node_id}"
        return nodes.reference("", "", content, internal=True, refuri=refuri, reftitle=full)
    return None


def check_entries(app: Sphinx, env: Any) -> None:
    """A public name without an entry is an error, also where its docstring could not be read."""
    entries = env.get_domain("py").objects
    missing = [home for home in api_pages.homes().values() if home not in entries]
    if missing:
        raise ValueError(f"no entry on the API pages: {missing}")


def mathml(formula: str, **options: Any) -> str:
    """MathML, with the space after log and exp that docutils leaves out."""
    return re.sub(
        "(?<=>(?:log|exp)</mi>)", '<mspace width="0.17em"/>', tex2mathml(formula, **options)
    )


def visit_math(translator: Any, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def visit_math_block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


html_math_renderer = "mathml"  # browsers draw it by themselves, without a script or a font


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", prepare, priority=400)
    app.connect("source-read", relink)
    app.connect("missing-reference", resolve)
    app.connect("env-check-consistency", check_entries)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
