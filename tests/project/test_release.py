"""There is one version, and the workflows that publish it call targets that exist."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import types
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest

import powerspherical_ext
from csrc import build_backend

ROOT = Path(__file__).parents[2]
VERSION = powerspherical_ext.__version__
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Message:
    folder = tmp_path_factory.mktemp("metadata")
    code = "import sys; from csrc import build_backend as b; "
    code += "print(b.prepare_metadata_for_build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.dist-info/METADATA")
    return HeaderParser().parsestr(path.read_text())


def test_one_version(metadata: Message) -> None:
    assert metadata["Version"] == VERSION
    config = powerspherical_ext.show_config(mode="dicts")
    assert config
    assert config["version"] == VERSION
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.*)$", citation, re.M) == [VERSION]


def test_changelog_has_this_version_or_works_towards_it() -> None:
    parts = re.split(r"^## \[(.*?)\].*$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    headings, contents = parts[1::2], parts[2::2]
    newest = next(heading for heading in headings if heading != "Unreleased")
    unreleased = headings[0] == "Unreleased" and contents[0].strip()
    numbers = [tuple(map(int, text.split(".")[:3])) for text in (VERSION, newest)]
    assert numbers[0] > numbers[1] if unreleased else numbers[0] == numbers[1]


def test_metadata_names_where_the_project_lives(metadata: Message) -> None:
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL", []))
    assert set(urls) == {"Homepage", "Documentation", "Changelog", "Issues"}
    repository = re.findall(r"^repository-code: (\S+)", (ROOT / "CITATION.cff").read_text(), re.M)
    assert repository == [urls["Homepage"]]
    assert all(url.startswith(urls["Homepage"]) for url in urls.values())


def test_links_of_the_readme_hold_on_pypi(metadata: Message) -> None:
    """They lead to the files of the tag of this version, and pictures to the files as they are."""
    link = re.compile(r"(!?)\[[^]]*\]\(([^)\s]+)\)")
    home = next(x for x in metadata.get_all("Project-URL", []) if x.startswith("Homepage"))[10:]
    readme = link.findall((ROOT / "README.md").read_text())
    shown = link.findall(metadata.get_payload())
    relative = 0
    for (mark, path), (mark_shown, url) in zip(readme, shown, strict=True):
        if re.match(r"\w+:|#", path):
            wanted = path
        else:
            relative += 1
            assert (ROOT / path.partition("#")[0]).exists(), path
            wanted = f"{home}/{'raw' if mark else 'blob'}/v{VERSION}/{path}"
        assert (mark_shown, url) == (mark, wanted)
    assert relative > 5


def test_only_links_within_the_tree_are_made_whole() -> None:
    text = "[a](b.md#c), ![d\ne](f/g.png), [h](https://i/j), [k](#l), [m](mailto:n@o)"
    expected = (
        "[a](H/blob/T/b.md#c), ![d\ne](H/raw/T/f/g.png), [h](https://i/j), [k](#l), [m](mailto:n@o)"
    )
    once = build_backend._with_whole_links(text, "H", "T")
    assert once == expected


def test_other_modes_of_show_config_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mode must be .* got 'dict'"):
        powerspherical_ext.show_config(mode="dict")  # type: ignore[arg-type]


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """.ci/wheels.py, for a tree in tmp_path."""
    specification = importlib.util.spec_from_file_location("wheels", ROOT / ".ci" / "wheels.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    (tmp_path / "powerspherical_ext").mkdir()
    (tmp_path / "powerspherical_ext" / "_library.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n## [1.2.3] - 2026-01-31\n")
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def test_release_of_the_tag_of_this_version(wheels, capsys) -> None:
    wheels.release("v1.2.3")
    assert capsys.readouterr().out == "v1.2.3 can be released\n"


@pytest.mark.parametrize(
    ("tag", "file", "content", "message"),
    [
        ("v1.2.4", "CHANGELOG.md", "## [1.2.4] - 2026-01-31\n", "has the tag v1.2.3"),
        ("v1.2.3", "CHANGELOG.md", "## [1.2.3]\n", "no heading like"),
        ("v1.2.3", "pyproject.toml", "https://github.com/OWNER/x", "still says OWNER"),
    ],
)
def test_release_that_is_not_ready(tag, file, content, message, wheels, tmp_path) -> None:
    (tmp_path / file).write_text(content)
    with pytest.raises(SystemExit, match=message):
        wheels.release(tag)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_what_exists(path: Path) -> None:
    """Steps call make, or a script; so what they do can be tried on any machine."""
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load(path.read_text())
    steps = [step for job in workflow["jobs"].values() for step in job.get("steps", [])]
    commands = [step["run"] for step in steps if "run" in step and "name" not in step]
    assert commands
    for command in commands:
        program, *arguments = command.split()
        if program == "make":
            made = ["make", "--dry-run", arguments[0], "TAG=v1.2.3"]
            done = subprocess.run(made, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert "wheels.py" in done.stdout or "sphinx" in done.stdout
        else:
            assert (ROOT / program).exists(), program


def test_there_are_workflows() -> None:
    assert [path.stem for path in WORKFLOWS] == ["docs", "release", "test", "wheels"]
