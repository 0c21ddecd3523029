"""The build backend: what goes into wheel and sdist, and what it does without a compiler."""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import needs_kernels

import powerspherical_ext

ROOT = Path(__file__).parents[2]
TRIVIAL = '#include "torch_c.h"\nint32_t probe() { return aoti_torch_dtype_float32(); }\n'
SHOW_CONFIG = "import powerspherical_ext._library as library; library.show_config()"

needs_nvcc = pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc")
needs_elf = pytest.mark.skipif(sys.platform != "linux", reason="ELF linker flags")


def run(
    *command: object, cwd: Path, status: int = 0, **environ: str
) -> subprocess.CompletedProcess[str]:
    settings = {
        "CXXFLAGS": "-O0",
        "POWERSPHERICAL_KERNELS": "",
        "POWERSPHERICAL_CUDA": "0",
        "POWERSPHERICAL_CUDA_ARCHS": "",
        "POWERSPHERICAL_REQUIRE_KERNELS": "0",
    }
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **settings, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def run_python(code: str, *flags: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, *flags, "-c", code, **options)


def call_backend(call: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return run_python(f"from csrc import build_backend; build_backend.{call}", **options)


def only_file(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of all files that a build reads, and of none that it writes."""
    copy = tmp_path / "tree"
    written = shutil.ignore_patterns("_C.so", "_build_info.json", "__pycache__")
    for name in ("csrc", "powerspherical_ext"):
        shutil.copytree(ROOT / name, copy / name, ignore=written)
    for name in ("pyproject.toml", "MANIFEST.in", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    (copy / "README.md").write_text("# read for the metadata only\n")
    return copy


@pytest.fixture
def small_tree(tree: Path) -> Path:
    """The same build with one trivial source, and with no module but the one that loads it."""
    for path in [*tree.glob("csrc/**/*.cpp"), *tree.glob("csrc/**/*.cu")]:
        path.unlink()
    (tree / "csrc" / "probe.cpp").write_text(TRIVIAL)
    (tree / "powerspherical_ext" / "__init__.py").write_text("")
    return tree


@pytest.mark.slow
def test_wheel_from_sdist_without_network(tree: Path, tmp_path: Path) -> None:
    (tree / "powerspherical_ext" / "_C.so").write_text("of another build")
    call_backend("build_sdist('..')", cwd=tree)
    with tarfile.open(only_file(tmp_path, "*.tar.gz")) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = only_file(tmp_path, "powerspherical_ext-*/")
    sources = [path for path in (tree / "csrc").rglob("*") if path.suffix in (".h", ".cpp", ".cu")]
    assert sources
    assert all((unpacked / path.relative_to(tree)).exists() for path in sources)
    assert not (unpacked / "powerspherical_ext" / "_C.so").exists()

    pip = [sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps", "--wheel-dir", ".."]
    run(*pip, ".", cwd=unpacked)
    wheel = only_file(tmp_path, "*.whl")
    assert re.fullmatch(r"powerspherical_ext-[\d.]+-py3-none-(?!any).*\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "installed")
    modules = [path.relative_to(tree) for path in (tree / "powerspherical_ext").rglob("*.py")]
    package = {module.as_posix() for module in modules}
    package |= {f"powerspherical_ext/{name}" for name in ("py.typed", "_C.so", "_build_info.json")}
    assert {name for name in names if ".dist-info/" not in name} == package

    shown = run_python(SHOW_CONFIG, "-W", "error", cwd=tmp_path / "installed").stdout
    assert f"in {tmp_path}" in shown
    assert "cpu kernels: yes" in shown
    assert "cuda kernels: none (it was installed with POWERSPHERICAL_CUDA=0)" in shown


@pytest.mark.slow
def test_without_compiler_plain_torch_is_installed_with_a_warning(tree: Path) -> None:
    no_compiler = {"PATH": str(tree), "CXX": ""}
    done = call_backend("build_wheel('.')", cwd=tree, **no_compiler)
    assert "WARNING: no compiled kernels, so the slower plain torch is used: no C++" in done.stderr
    wheel = only_file(tree, "*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]

    done = run_python(SHOW_CONFIG, cwd=tree)
    assert "cpu kernels: none (no C++ compiler" in done.stdout
    warning = "<string>:1: RuntimeWarning: powerspherical_ext has no compiled kernels: no C++ comp"
    assert warning in done.stderr  # at the line that imports the package
    required = {"POWERSPHERICAL_REQUIRE_KERNELS": "1"}
    done = run_python(SHOW_CONFIG, cwd=tree, status=1, **required)
    assert "ImportError: powerspherical_ext has no compiled kernels: no C++ comp" in done.stderr
    done = call_backend("build_wheel('.')", cwd=tree, status=1, **no_compiler, **required)
    assert "no C++ compiler (c++, g++ or clang++) was found" in done.stderr


@pytest.mark.slow
def test_wheel_for_every_platform_on_request(small_tree: Path) -> None:
    without = {"POWERSPHERICAL_KERNELS": "0"}
    call_backend("build_library()", cwd=small_tree)
    done = call_backend("build_wheel('.')", cwd=small_tree, **without)
    assert "plain torch is used: it was built with POWERSPHERICAL_KERNELS=0" in done.stderr
    wheel = only_file(small_tree, "*-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]
    required = {"POWERSPHERICAL_REQUIRE_KERNELS": "1"}
    done = call_backend("build_wheel('.')", cwd=small_tree, status=1, **without, **required)
    assert "POWERSPHERICAL_KERNELS=0, and POWERSPHERICAL_REQUIRE_KERNELS=1" in done.stderr


@needs_kernels
@pytest.mark.skipif(platform.machine() != "x86_64", reason="not x86-64")
def test_library_is_not_loaded_on_a_cpu_without_its_instructions() -> None:
    done = run_python(SHOW_CONFIG, cwd=ROOT, ATEN_CPU_CAPABILITY="default")  # SSE2 alone, for torch
    reason = "the library needs a CPU with AVX2, and this one is DEFAULT for torch"
    assert f"cpu kernels: none ({reason}" in done.stdout
    assert "CXXFLAGS=-march=native builds it for this CPU" in done.stderr


@pytest.mark.slow
def test_printed_command_builds_the_kernels(small_tree: Path) -> None:
    installed = small_tree.parent / "installed"
    pip, here = [sys.executable, "-m", "pip"], ["--no-index", "--upgrade", "--target", installed]
    without = {"POWERSPHERICAL_KERNELS": "0"}
    run(*pip, "install", "--no-deps", *here, small_tree, cwd=small_tree.parent, **without)
    shown = run_python(SHOW_CONFIG, cwd=installed)
    assert "cpu kernels: none (it was built with POWERSPHERICAL_KERNELS=0)" in shown.stdout
    (command,) = re.findall(r"this builds them: pip (install .*)\n", shown.stderr)
    assert small_tree.as_uri() in command
    run(*pip, *shlex.split(command), *here, cwd=small_tree.parent)
    assert "cpu kernels: yes" in run_python(SHOW_CONFIG, "-W", "error", cwd=installed).stdout


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--editable"]])
def test_metadata_needs_no_compiler(options: list[str], small_tree: Path) -> None:
    (small_tree / "csrc" / "probe.cpp").write_text("#error this was compiled\n")
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-deps"]
    done = run(*pip, *options, small_tree, cwd=small_tree.parent)
    assert "Would install powerspherical-ext" in done.stdout
    assert not (small_tree / "powerspherical_ext" / "_C.so").exists()

    target = ["--target", small_tree.parent / "installed"]
    done = run(*pip[:4], *pip[5:], *target, small_tree, cwd=small_tree.parent, status=1)
    assert "Building wheel for powerspherical-ext (pyproject.toml) did not run" in done.stderr
    assert "error: #error this was compiled" in done.stderr


def test_old_python_is_told_before_anything_else() -> None:
    code = "import sys; sys.version_info = (3, 9, 18); from csrc import build_backend"
    done = run_python(code, cwd=ROOT, status=1)
    assert done.stderr.startswith("powerspherical_ext needs Python >= 3.10, and this is Python 3")


def test_no_setuptools_is_told_what_to_do(small_tree: Path) -> None:
    code = "import sys; sys.modules['setuptools'] = None; from csrc import build_backend as b; "
    done = run_python(f"{code} print(b.get_requires_for_build_wheel())", cwd=small_tree)
    assert "['setuptools>=77']" in done.stdout
    done = run_python(f"{code} b.build_sdist('.')", cwd=small_tree, status=1)
    assert 'building needs setuptools >= 77: pip install "setuptools>=77"' in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="no terminals")
def test_terminal_is_told_what_pip_keeps_for_itself() -> None:
    """pip shows the output of a build only where it fails, or with -v."""
    child = "import os, sys; from csrc import build_backend as b; "
    child += "sys.stderr = open(os.devnull, 'w'); b._tell('something')"
    code = f"import pty, sys; pty.spawn([sys.executable, '-c', {child!r}])"
    assert "powerspherical_ext: something" in run_python(code, cwd=ROOT).stdout


@pytest.mark.slow
def test_library_that_does_not_load_says_why(small_tree: Path) -> None:
    (small_tree / "powerspherical_ext" / "_C.so").write_text("not a library")
    assert "the library does not load into torch" in run_python(SHOW_CONFIG, cwd=small_tree).stderr
    required = {"POWERSPHERICAL_REQUIRE_KERNELS": "1"}
    done = run_python(SHOW_CONFIG, cwd=small_tree, status=1, **required)
    assert "the library does not load into torch" in done.stderr


def test_compile_error_shows_the_message_of_the_compiler(small_tree: Path) -> None:
    (small_tree / "csrc" / "probe.cpp").write_text("#error wanted: a message\n")
    done = call_backend("build_library()", cwd=small_tree, status=1)
    assert "error: #error wanted: a message" in done.stderr
    assert not (small_tree / "powerspherical_ext" / "_C.so").exists()


@needs_elf
def test_torch_function_outside_torch_c_h_is_a_link_error(small_tree: Path) -> None:
    source = 'extern "C" int aoti_torch_zero_(void *); int probe() { return aoti_torch_zero_(0); }'
    (small_tree / "csrc" / "probe.cpp").write_text(source)
    done = call_backend("build_library()", cwd=small_tree, status=1)
    assert "undefined reference to `aoti_torch_zero_'" in done.stderr


NEW_SYMBOLS = """
#include <cmath>
#include <dlfcn.h>
#include <mutex>
#include <vector>
std::once_flag flag;
double probe(double x, void (*once)(), std::vector<double> &numbers) {
  std::call_once(flag, once);
  numbers.resize(numbers.size() + 1);
  return std::exp(x) * std::log(x) * std::pow(x, x) + (dlsym(nullptr, "x") != nullptr);
}
"""


def newest_versions(library: Path) -> dict[str, tuple[int, ...]]:
    """Of the symbols that a library needs of GLIBC and of GLIBCXX."""
    needs = run("readelf", "--version-info", "--wide", library, cwd=ROOT).stdout
    newest: dict[str, tuple[int, ...]] = {}
    for name, text in re.findall(r"Name: (GLIBC|GLIBCXX)_([\d.]+)", needs):
        newest[name] = max(newest.get(name, ()), tuple(map(int, text.split("."))))
    return newest


OLD_GLIBC = ROOT / ".ci" / "old_glibc.py"


@pytest.mark.slow
@needs_elf
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc")
def test_library_for_an_older_glibc(small_tree: Path) -> None:
    (small_tree / "csrc" / "probe.cpp").write_text(TRIVIAL + NEW_SYMBOLS)
    library = small_tree / "powerspherical_ext" / "_C.so"
    stand_ins = run(sys.executable, OLD_GLIBC, "2.28", "glibc", cwd=small_tree)
    call_backend("build_library()", cwd=small_tree, LDFLAGS=stand_ins.stdout)
    newest = newest_versions(library)
    assert newest["GLIBC"] <= (2, 28)
    assert newest["GLIBCXX"] <= (3, 4, 25)
    assert "cpu kernels: yes" in run_python(SHOW_CONFIG, "-W", "error", cwd=small_tree).stdout
    call_backend("build_library()", cwd=small_tree)
    if tuple(map(int, platform.libc_ver()[1].split("."))) >= (2, 34):
        assert newest_versions(library)["GLIBC"] == (2, 34)  # so the first half can fail


def test_wrong_version_of_glibc_is_named(tmp_path: Path) -> None:
    done = run(sys.executable, OLD_GLIBC, "2", "glibc", cwd=tmp_path, status=1)
    assert "the version of glibc must be one such as 2.28, not '2'" in done.stderr
    assert not (tmp_path / "glibc").exists()


@pytest.mark.slow
@needs_kernels
@pytest.mark.skipif(not shutil.which("objdump"), reason="no objdump")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="not x86-64")
def test_functions_exist_for_each_kind_of_vectors() -> None:
    """Those that the configuration names, and g++ makes all."""
    config = powerspherical_ext.show_config(mode="dicts")
    assert config
    kernels = config["cpu_kernels"]
    code = run("objdump", "--disassemble", Path(config["path"]) / "_C.so", cwd=ROOT).stdout
    registers = {"AVX-512": "%zmm", "AVX2": "%ymm"}
    found = [name for name, register in registers.items() if code.count(register) > 10000]
    if len(kernels["instruction_sets"]) > 1 or "GCC" in kernels["compiler"]:
        assert kernels["instruction_sets"] == found == list(registers)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CXXFLAGS", '-DX="a', 'CXXFLAGS=-DX="a cannot be split into words: No closing quotation'),
        ("CXX", "true", "exit code 0, but there is no output file"),
        ("POWERSPHERICAL_CUDA", "yes", "POWERSPHERICAL_CUDA must be 0, 1 or unset, not 'yes'"),
        ("CXX", "c--", "CXX=c-- is no program on PATH"),
    ],
)
def test_wrong_setting_is_named(variable: str, value: str, message: str, small_tree: Path) -> None:
    done = call_backend("build_library()", cwd=small_tree, status=1, **{variable: value})
    assert message in done.stderr
    assert not (small_tree / "powerspherical_ext" / "_C.so").exists()


# A build that runs after `failure` has met the replacement of one of the two files.
INTERRUPTED = """
import os
from csrc import build_backend
replace = os.replace
def fail(source, target):
    if target.name == "{name}":
        {failure}
    replace(source, target)
os.replace = fail
build_backend.build_library()
"""
KILLED, DISK_FULL = "os._exit(9)", "raise OSError(28, 'No space left on device')"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["_C.so", "_build_info.json"])
@pytest.mark.parametrize(("failure", "status"), [(KILLED, 9), (DISK_FULL, 1)])
def test_next_build_heals_one_that_failed(
    name: str, failure: str, status: int, small_tree: Path
) -> None:
    call_backend("build_library()", cwd=small_tree)
    second = TRIVIAL + 'const char *version() { return "the second version"; }'
    (small_tree / "csrc" / "probe.cpp").write_text(second)
    failed = INTERRUPTED.format(name=name, failure=failure)
    done = run_python(failed, cwd=small_tree, status=status)
    if failure is DISK_FULL:
        assert "No space left on device" in done.stderr
        assert f"a build writes to {small_tree}, which must be writable" in done.stderr
    call_backend("build_library()", cwd=small_tree)
    assert b"the second version" in (small_tree / "powerspherical_ext" / "_C.so").read_bytes()
    assert [path.name for path in (small_tree / "build").iterdir()] == ["lock"]


@pytest.mark.slow
def test_damaged_files_are_built_again(small_tree: Path) -> None:
    call_backend("build_library()", cwd=small_tree)
    library, info = (small_tree / "powerspherical_ext" / n for n in ("_C.so", "_build_info.json"))
    built, written = library.read_bytes(), info.read_bytes()
    damaged = [(library, content) for content in (b"", built[:4096], built[:-1] + b"!")]
    damaged += [(info, content) for content in (b"", written[:99], b"[]", b"\xff")]
    for file, content in damaged:
        file.write_bytes(content)
        call_backend("build_library()", cwd=small_tree)
        assert library.read_bytes() == built
        assert info.read_bytes() == written


@pytest.mark.slow
@needs_kernels
@pytest.mark.parametrize("content", ["", "[]", '{"compiler": '])
def test_unreadable_build_info_is_a_warning(content: str, tree: Path) -> None:
    package = tree / "powerspherical_ext"
    shutil.copy(ROOT / "powerspherical_ext" / "_C.so", package)
    (package / "_build_info.json").write_text(content)
    done = run_python(SHOW_CONFIG, cwd=tree)
    assert (
        f"<string>:1: RuntimeWarning: {package / '_build_info.json'} is unreadable" in done.stderr
    )
    assert f"This writes it again: pip install --editable {tree}" in done.stderr
    assert "cpu kernels: yes (built by an unknown compiler for unknown processors)" in done.stdout


@pytest.mark.slow
def test_truncated_library_is_not_loaded(small_tree: Path) -> None:
    call_backend("build_library()", cwd=small_tree)
    library = small_tree / "powerspherical_ext" / "_C.so"
    library.write_bytes(library.read_bytes()[:4096])
    done = run_python(SHOW_CONFIG, cwd=small_tree)
    assert f"kernels: {library} is not the file that was built, which had" in done.stderr
    assert "cpu kernels: none" in done.stdout


@pytest.mark.slow
def test_a_library_of_older_sources_is_named(tree: Path) -> None:
    library = tree / "csrc" / "library.cpp"
    for path in [*tree.glob("csrc/cpu/**/*.cpp"), *tree.glob("csrc/**/*.cu")]:
        path.unlink()
    library.write_text(library.read_text().replace('"log_prob(', '"an_older_log_prob('))
    call_backend("build_library()", cwd=tree)
    done = run_python("import powerspherical_ext", cwd=tree, status=1)
    assert "ImportError: the compiled kernels of powerspherical_ext lack log_prob" in done.stderr
    assert f"This builds them again: pip install --editable {tree}" in done.stderr


@pytest.mark.slow
def test_readable_whatever_the_umask(small_tree: Path) -> None:
    code = "import os; os.umask(0o077); from csrc import build_backend as b; b.build_library()"
    run_python(code, cwd=small_tree)
    package = small_tree / "powerspherical_ext"
    modes = {path.stat().st_mode for path in package.glob("_*") if path.is_file()}
    assert modes == {(package / "_library.py").stat().st_mode}


@pytest.mark.slow
def test_builds_at_once_wait_for_each_other(small_tree: Path) -> None:
    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(call_backend, "build_wheel('.')", cwd=small_tree) for _ in range(3)]
        for call in calls:
            call.result()
    assert len(zipfile.ZipFile(only_file(small_tree, "*.whl")).namelist()) > 5


@pytest.mark.slow
def test_library_is_rebuilt_when_and_only_when_something_changed(small_tree: Path) -> None:
    library = small_tree / "powerspherical_ext" / "_C.so"
    call_backend("build_library()", cwd=small_tree)
    first = library.stat().st_ino
    call_backend("build_library()", cwd=small_tree)
    assert library.stat().st_ino == first
    (small_tree / "csrc" / "probe.cpp").write_text(TRIVIAL + "int more() { return 1; }")
    call_backend("build_library()", cwd=small_tree)
    second = library.stat().st_ino
    assert second != first
    call_backend("build_library()", cwd=small_tree, CXXFLAGS="-O1")
    assert library.stat().st_ino != second


@pytest.mark.slow
@pytest.mark.skipif(bool(torch.version.cuda), reason="torch has CUDA")
def test_no_cuda_beside_a_torch_without_it(small_tree: Path) -> None:
    """Whether there is an nvcc or not; and a build says what it compiles."""
    done = call_backend("build_library()", cwd=small_tree, POWERSPHERICAL_CUDA="")
    assert "powerspherical_ext: compiling 1 C++ files: half a minute" in done.stderr
    shown = run_python(SHOW_CONFIG, cwd=small_tree).stdout
    assert "cuda kernels: none (it was installed beside a torch without CUDA" in shown


def test_plan_of_a_build_names_the_shorter_ways() -> None:
    call = "_plan([Path('a.cu'), Path('b.cpp')], ['75-virtual', '90'])"
    plan = run_python(
        f"from csrc.build_backend import *; from csrc import build_backend as b; print(b.{call})",
        cwd=ROOT,
    ).stdout
    assert "1 C++ files and 1 CUDA files for 75-virtual 90" in plan
    assert "POWERSPHERICAL_CUDA=0" in plan
    assert "POWERSPHERICAL_CUDA_ARCHS=90" in plan


@pytest.mark.slow
@needs_nvcc
def test_machine_code_of_each_architecture(tmp_path: Path) -> None:
    """From one PTX, but for architectures with features of their own."""
    (tmp_path / "empty.cu").write_text("__global__ void nothing() {}\n")
    code = "b.cuda_compiler('nvcc', ['75-virtual', '80', '90', '90a'], ['c++'])"
    script = f"from csrc import build_backend as b; print(*{code}, sep=chr(10))"
    command = run_python(script, cwd=ROOT).stdout.splitlines()
    run(*command, "--fatbin", "empty.cu", "-o", "fat", cwd=tmp_path)
    fat = (tmp_path / "fat").read_bytes()
    assert fat.count(b"\x7fELF") == 3
    assert "-gencode=arch=compute_75,code=[sm_80,sm_90,compute_75]" in command


@pytest.mark.slow
@needs_nvcc
def test_cuda_library_loads_into_a_torch_without_cuda(small_tree: Path) -> None:
    cuda = {"POWERSPHERICAL_CUDA": "1", "POWERSPHERICAL_CUDA_ARCHS": "9.0"}
    kernel = "__global__ void kernel() {}\nvoid launch() { kernel<<<1, 1>>>(); }\n"
    (small_tree / "csrc" / "cuda").mkdir(exist_ok=True)
    (small_tree / "csrc" / "cuda" / "probe.cu").write_text(kernel)
    call_backend("build_library()", cwd=small_tree, **cuda)
    shown = run_python(SHOW_CONFIG, "-W", "error", cwd=small_tree).stdout
    assert "cuda kernels: yes (sm_90, PTX for others" in shown

    cuda["POWERSPHERICAL_CUDA_ARCHS"] = "90;35"
    done = call_backend("build_library()", cwd=small_tree, status=1, **cuda)
    assert "POWERSPHERICAL_CUDA_ARCHS=90;35, but" in done.stderr
