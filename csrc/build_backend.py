"""PEP 517 build backend: compiles csrc into powerspherical_ext/_C.so; setuptools packs the wheel.

The library calls torch's stable C ABI (torch_c.h) and nothing of Python's. So a build needs neither
torch nor a network, and one library serves every Python and every torch >= 2.10.

Environment variables:
    POWERSPHERICAL_KERNELS          0: compile nothing; the package then runs on plain torch
    POWERSPHERICAL_CUDA             0: no CUDA kernels; 1: nvcc must exist; unset: if nvcc exists,
                                    unless the torch that is installed cannot use CUDA
    POWERSPHERICAL_CUDA_ARCHS       such as "80;90", or "75-virtual;90" for machine code of one kind
                                    and PTX of an older one (default: the visible GPUs, else
                                    DEFAULT_ARCHS)
    POWERSPHERICAL_REQUIRE_KERNELS  1: an error, instead of plain torch, if there is no compiler
    CXX, CXXFLAGS, LDFLAGS, CUDA_HOME, CUDAHOSTCXX as in other builds

A build may be killed, or fail, at any time. The library is replaced first, by a rename, and then
BUILD_INFO, which holds a checksum of the library. So a library that does not belong to its
BUILD_INFO, or is damaged, is built again. One build at a time runs in a tree.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 10):  # noqa: UP036  such a Python may run this file, and nothing below
    raise SystemExit("powerspherical_ext needs Python >= 3.10, and this is Python " + sys.version)

import errno
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

try:
    import fcntl
except ImportError:  # on Windows, where nothing is compiled
    fcntl = None  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "csrc"
BUILD = ROOT / "build"
PACKAGE = ROOT / "powerspherical_ext"
LIBRARY, BUILD_INFO = "_C.so", "_build_info.json"  # in PACKAGE

# -ffp-contract=off: every CPU rounds alike, with and without FMA, so a seed gives the same samples.
# The other two let loops with sqrt and comparisons vectorise. Never -ffast-math when linking: that
# would set flush-to-zero for the whole process.
CXX_FLAGS = ["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden"]
CXX_FLAGS += ["-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
# The least x86-64 CPU of the library, unless CXXFLAGS name another. powerspherical_ext/_library.py
# asks whether the CPU has these instructions.
X86_FLAGS = ["-mavx2", "-mfma"]
# GCC takes a fifth less time with -O2 and the vectors of -O3 than with -O3, and another fifth less
# without the passes below. The kernels are as fast: loops that need it are marked UNROLL.
GCC_FLAGS = ["-ftree-vectorize", "-fvect-cost-model=dynamic"]
GCC_FLAGS += ["-fno-gcse", "-fno-rerun-cse-after-loop", "-fno-schedule-insns2"]
GCC_FLAGS += ["-fno-tree-dominator-opts", "-fno-tree-vrp", "--param=max-combine-insns=2"]
NVCC_FLAGS = ["-std=c++17", "-O3", "-Xcompiler=-fPIC,-fvisibility=hidden,-ffp-contract=off"]
# Machine code for the GPUs of data centres. For any other GPU from sm_75 on, the driver makes it
# from the PTX when a kernel is first called, and keeps it.
DEFAULT_ARCHS = ["75-virtual", "80", "90", "100"]

# In pip's isolated build purelib is the target environment's site-packages. Where torch is, there
# is setuptools, which it depends on, and nothing needs to be fetched.
SETUPTOOLS = 77  # the first that knows SPDX licences
sys.path.append(sysconfig.get_path("purelib"))
try:
    import setuptools
    from setuptools import build_meta
    from setuptools.command.bdist_wheel import bdist_wheel
    from setuptools.command.egg_info import egg_info

    if int(setuptools.__version__.split(".")[0]) < SETUPTOOLS:
        raise ImportError(f"setuptools >= {SETUPTOOLS} wanted, found {setuptools.__version__}")
    no_setuptools = None
except ImportError as error:
    no_setuptools, build_meta = error, None
    bdist_wheel = egg_info = object


class PlatformWheel(bdist_wheel):  # type: ignore[misc,valid-type]
    """py3-none-<platform> with the library inside, py3-none-any without."""

    def finalize_options(self) -> None:
        self.distribution.has_ext_modules = (PACKAGE / LIBRARY).exists
        super().finalize_options()

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


class LinkedMetadata(egg_info):  # type: ignore[misc,valid-type]
    """README.md with links that hold on PyPI, which has no files beside it."""

    def finalize_options(self) -> None:
        metadata = self.distribution.metadata
        repository = metadata.project_urls["Homepage"]
        metadata.long_description = _with_whole_links(
            metadata.long_description, repository, f"v{metadata.version}"
        )
        super().finalize_options()


def _with_whole_links(text: str, repository: str, tag: str) -> str:
    """Markdown whose links to files of the tree lead to these files in a repository, at a tag."""

    def whole(link: re.Match[str]) -> str:
        start, path = link.groups()
        return f"{start}{repository}/{'raw' if start[0] == '!' else 'blob'}/{tag}/{path}"

    return re.sub(r"(!?\[[^]]*\]\()(?!\w+:|#)(\S+?\))", whole, text)


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    return [f"setuptools>={SETUPTOOLS}"] if no_setuptools else []


get_requires_for_build_sdist = get_requires_for_build_wheel
get_requires_for_build_editable = get_requires_for_build_wheel


def prepare_metadata_for_build_wheel(directory: str, config_settings: Any = None) -> str:
    """The metadata of the package, for which nothing is compiled."""
    return _setuptools().prepare_metadata_for_build_wheel(directory, config_settings)


def prepare_metadata_for_build_editable(directory: str, config_settings: Any = None) -> str:
    return _setuptools().prepare_metadata_for_build_editable(directory, config_settings)


def build_wheel(directory: str, config_settings: Any = None, metadata: Any = None) -> str:
    with _only_build():
        _build_library(PACKAGE)
        for stale in BUILD.glob("lib*"):  # setuptools would pack its files again
            shutil.rmtree(stale)
        return _setuptools().build_wheel(directory, config_settings, metadata)


def build_editable(directory: str, config_settings: Any = None, metadata: Any = None) -> str:
    with _only_build():
        _build_library(PACKAGE)
        return _setuptools().build_editable(directory, config_settings, metadata)


def build_sdist(directory: str, config_settings: Any = None) -> str:
    return _setuptools().build_sdist(directory, config_settings)


def _setuptools() -> Any:
    if no_setuptools:
        _fail(
            f"{no_setuptools}\nbuilding needs setuptools >= {SETUPTOOLS}: "
            f'pip install "setuptools>={SETUPTOOLS}", or install without --no-build-isolation'
        )
    return build_meta


def build_library(package: Path = PACKAGE) -> None:
    """Bring the library and BUILD_INFO of `package` up to date with csrc and the environment."""
    with _only_build():
        _build_library(package)


@contextmanager
def _only_build() -> Iterator[None]:
    """Waits for other builds in this tree, and says what to do where files cannot be written."""
    try:
        BUILD.mkdir(exist_ok=True)
        with open(BUILD / "lock", "w") as lock:  # unlocked at the end of the process at the latest
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT):
            _fail(f"{error}\na build writes to {ROOT}, which must be writable and have room")
        raise


def _build_library(package: Path) -> None:
    cxx = find_cxx()
    if reason := _why_no_kernels(cxx):
        _do_without_kernels(package, reason)
        return
    assert cxx is not None
    nvcc = None if _torch_lacks_cuda() else find_nvcc()
    archs = _cuda_archs(nvcc) if nvcc else []
    version = _output([*cxx, "--version"])
    compilers = {".cpp": cxx_compiler(cxx)}
    if nvcc:
        compilers[".cu"] = [*cuda_compiler(nvcc, archs, cxx), "--threads=0"]
    libraries = [*_libraries(nvcc), *_words("LDFLAGS")]
    info = {
        "compiler": version.partition("\n")[0],
        "instruction_sets": _instruction_sets(compilers[".cpp"]),
        "nvcc": _output([nvcc, "--version"]).splitlines()[-1] if nvcc else None,
        "cuda_archs": archs,
        "missing": {} if nvcc else {"cuda": why_no_nvcc()},
    }
    info["digest"] = _digest(info, compilers, libraries)
    library = package / LIBRARY
    if library.exists() and _read_info(package) == {**info, "library": _fingerprint(library)}:
        return

    sources = [*SOURCES.glob("cuda/*.cu")] if nvcc else []  # first, because they take longest
    sources += [*SOURCES.glob("*.cpp"), *SOURCES.glob("cpu/**/*.cpp")]
    _tell(_plan(sources, archs))
    with _new_folder() as folder:
        objects = [f"{folder}/{i}.o" for i in range(len(sources))]
        _run_all(
            [*compilers[source.suffix], f"-I{SOURCES}", "-c", str(source), "-o", output]
            for source, output in zip(sources, objects, strict=True)
        )
        inputs = [*objects, _stub_torch(cxx, folder), *libraries]
        _run_all([[*cxx, "-shared", "-o", f"{folder}/{LIBRARY}", *inputs]])
        info["library"] = _fingerprint(folder / LIBRARY)
        _install(package, folder / LIBRARY)
        _install_info(package, folder, info)


def _plan(sources: list[Path], archs: list[str]) -> str:
    """What a build is about to do, and how it could do less."""
    cuda = sum(source.suffix == ".cu" for source in sources)
    plan = f"compiling {len(sources) - cuda} C++ files"
    if cuda:
        plan += (
            f" and {cuda} CUDA files for {' '.join(archs)}: a minute or two; "
            "POWERSPHERICAL_CUDA=0 leaves CUDA out, and POWERSPHERICAL_CUDA_ARCHS=90 compiles for "
            "one kind of GPU"
        )
    else:
        plan += ": half a minute"
    return f"{plan}; POWERSPHERICAL_KERNELS=0 compiles nothing, and plain torch is used"


def _tell(message: str) -> None:
    """Tells whoever waits. pip keeps stderr for itself, so the terminal is told, too."""
    line = f"powerspherical_ext: {message}\n"
    sys.stderr.write(line)
    sys.stderr.flush()
    if not sys.stderr.isatty():
        with suppress(OSError), open("/dev/tty", "w") as terminal:  # there is none without a user
            terminal.write("\n" + line)


@contextmanager
def _new_folder() -> Iterator[Path]:
    """A folder for the files of this build; those of builds that were killed are removed."""
    for stale in BUILD.glob("tmp*"):
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        yield Path(folder)


def _install(package: Path, file: Path) -> None:
    """Move a file to the package at once, readable for whoever reads the package."""
    shutil.copymode(package / "_library.py", file)
    os.replace(file, package / file.name)


def _install_info(package: Path, folder: Path, info: dict[str, Any]) -> None:
    (folder / BUILD_INFO).write_text(json.dumps(info, indent=1) + "\n")
    _install(package, folder / BUILD_INFO)


def _read_info(package: Path) -> Any:
    try:
        return json.loads((package / BUILD_INFO).read_text())
    except (OSError, ValueError):  # none, or a damaged one
        return None


def _fingerprint(library: Path) -> dict[str, Any]:
    content = library.read_bytes()
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _why_no_kernels(cxx: list[str] | None) -> str | None:
    if _switch("POWERSPHERICAL_KERNELS") is False:
        return "it was built with POWERSPHERICAL_KERNELS=0"
    if os.name != "posix":
        return f"kernels are built on Linux and macOS, not on {sys.platform}"
    if cxx is None:
        return "no C++ compiler (c++, g++ or clang++) was found when it was installed"
    return None


def _do_without_kernels(package: Path, reason: str) -> None:
    if _switch("POWERSPHERICAL_REQUIRE_KERNELS"):
        _fail(f"{reason}, and POWERSPHERICAL_REQUIRE_KERNELS=1")
    _tell(f"WARNING: no compiled kernels, so the slower plain torch is used: {reason}")
    (package / LIBRARY).unlink(missing_ok=True)
    with _new_folder() as folder:
        _install_info(package, folder, {"missing": {"cpu": reason, "cuda": reason}})


def find_cxx() -> list[str] | None:
    if os.name != "posix":
        return None
    wanted = _words("CXX")
    if wanted and not shutil.which(wanted[0]):
        _fail(f"CXX={wanted[0]} is no program on PATH")
    found = next(filter(None, map(shutil.which, ["c++", "g++", "clang++"])), None)
    return wanted or ([found] if found else None)


def cxx_compiler(cxx: list[str]) -> list[str]:
    """The C++ compiler with all flags of the library."""
    own_flags = _words("CXXFLAGS")
    macros = _macros([*cxx, *own_flags])
    gcc_flags = [] if "__clang__" in macros else GCC_FLAGS
    names_cpu = any(flag.startswith("-march") for flag in own_flags)
    x86_flags = X86_FLAGS if "__x86_64__" in macros and not names_cpu else []
    return [*cxx, *CXX_FLAGS, *gcc_flags, *x86_flags, *own_flags]


def find_nvcc() -> str | None:
    wanted = _switch("POWERSPHERICAL_CUDA")
    if wanted is False:
        return None
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    places = [os.path.join(home, "bin", "nvcc") for home in homes if home]
    places += ["nvcc", "/usr/local/cuda/bin/nvcc"]
    # nvidia-cuda-nvcc of PyPI compiles only together with nvidia-cuda-crt and nvidia-nvvm.
    wheels = sorted(Path(sysconfig.get_path("purelib"), "nvidia").glob("cu[0-9]*"), reverse=True)
    for wheel in wheels:
        if (wheel / "include" / "crt").exists() and (wheel / "nvvm").exists():
            places.append(str(wheel / "bin" / "nvcc"))
    nvcc = next(filter(None, map(shutil.which, places)), None)
    if wanted and not nvcc:
        _fail(f"POWERSPHERICAL_CUDA=1, but there is no nvcc: {', '.join(places)}")
    return nvcc


def _torch_lacks_cuda() -> bool:
    """Whether torch is installed, and is a build for the CPU; POWERSPHERICAL_CUDA=1 overrules."""
    if _switch("POWERSPHERICAL_CUDA"):
        return False
    version = Path(sysconfig.get_path("purelib"), "torch", "version.py")
    return version.exists() and bool(re.search(r"^cuda\b.*= None$", version.read_text(), re.M))


def why_no_nvcc() -> str:
    if _switch("POWERSPHERICAL_CUDA") is False:
        return "it was installed with POWERSPHERICAL_CUDA=0"
    if _torch_lacks_cuda():
        return "it was installed beside a torch without CUDA; POWERSPHERICAL_CUDA=1 compiles them"
    return "no nvcc was found when it was installed"


def known_archs(nvcc: str) -> list[str]:
    return re.findall(r"sm_(\w+)", _output([nvcc, "--list-gpu-code"]))


def _cuda_archs(nvcc: str) -> list[str]:
    known = known_archs(nvcc)
    variable = os.environ.get("POWERSPHERICAL_CUDA_ARCHS", "").replace(".", "")
    wanted = re.findall(r"[\w-]+", variable)
    if not {arch.removesuffix("-virtual") for arch in wanted} <= set(known):
        _fail(f"POWERSPHERICAL_CUDA_ARCHS={';'.join(wanted)}, but {nvcc} knows {';'.join(known)}")
    if not wanted and shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout
        visible = {major + minor for major, minor in re.findall(r"^(\d+)\.(\d)$", answer, re.M)}
        wanted = sorted(visible, key=int) if visible <= set(known) else []
    return wanted or [a for a in DEFAULT_ARCHS if a.removesuffix("-virtual") in known]


def cuda_compiler(nvcc: str, archs: list[str], cxx: list[str]) -> list[str]:
    # One front end for the oldest architecture, then machine code for each from its PTX: the
    # kernels use nothing newer, and the front end takes as long as ptxas for one architecture. An
    # architecture like "75-virtual" gets PTX alone.
    oldest = min((re.match(r"\d+", arch)[0] for arch in archs), key=int)  # type: ignore[index]
    codes = ",".join([*(f"sm_{arch}" for arch in archs if arch.isdigit()), f"compute_{oldest}"])
    special = [arch for arch in archs if re.fullmatch(r"\d+[a-z]", arch)]  # no general PTX for them
    targets = [f"-gencode=arch=compute_{oldest},code=[{codes}]"]
    targets += [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in special]
    host = os.environ.get("CUDAHOSTCXX") or shlex.join(cxx)
    return [nvcc, f"-ccbin={host}", *NVCC_FLAGS, *targets]


def _libraries(nvcc: str | None) -> list[str]:
    # -z defs: a function that torch_c.h lacks fails to link here, not to load at the user's.
    libraries = ["-Wl,-z,defs", "-ldl"] if sys.platform == "linux" else []
    if libraries and "-g" not in _words("CXXFLAGS"):
        libraries.append("-Wl,-s")
    if nvcc:
        with tempfile.NamedTemporaryFile(suffix=".cu") as empty:
            plan = _output([nvcc, "--dryrun", "-c", empty.name, "-o", os.devnull])
        settings = dict(re.findall(r"^#\$ (TOP|LIBRARIES)=(.*)", plan, re.M))
        libraries += [*shlex.split(settings["LIBRARIES"]), f"-L{settings['TOP']}/lib"]
        libraries += ["-lcudart_static", "-lpthread", "-lrt", "-ldl"]
    return libraries


def _stub_torch(cxx: list[str], folder: Path) -> str:
    """A stand-in for libtorch_cpu that defines the functions of torch_c.h and no others."""
    names = re.findall(r"^[\w ]+ \**(\w*torch_\w+)\(", (SOURCES / "torch_c.h").read_text(), re.M)
    source = folder / "stub.cpp"
    source.write_text("".join(f'extern "C" void {name}() {{}}\n' for name in names))
    if sys.platform == "darwin":
        stub, flag = f"{folder}/libtorch_cpu.dylib", "-Wl,-install_name,@rpath/libtorch_cpu.dylib"
    else:
        stub, flag = f"{folder}/libtorch_cpu.so", "-Wl,-soname,libtorch_cpu.so"
    _run_all([[*cxx, "-shared", "-fPIC", flag, "-o", stub, str(source)]])
    return stub


def _instruction_sets(compiler: list[str]) -> list[str]:
    """What each function of csrc/cpu is compiled for; the library chooses as it is loaded."""
    macros = _macros(compiler)
    names = {"__AVX512F__": "AVX-512", "__AVX2__": "AVX2", "__SSE2__": "SSE2", "__ARM_NEON": "NEON"}
    least = next((name for macro, name in names.items() if macro in macros), "no vectors")
    return ["AVX-512", least] if "SIMD_VERSIONS" in macros else [least]


def _macros(compiler: list[str]) -> set[str]:
    """Those that csrc/cpu/simd.h sees and defines."""
    simd_h = str(SOURCES / "cpu" / "simd.h")
    defined = _output([*compiler, "-E", "-dM", "-x", "c++", simd_h])
    return set(re.findall(r"^#define (\w+)", defined, re.M))


def _digest(*settings: object) -> str:
    digest = hashlib.sha256(repr(settings).encode())
    for path in sorted(SOURCES.rglob("*.*")):
        if path.suffix != ".pyc":
            digest.update(path.relative_to(SOURCES).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _run_all(commands: Iterable[list[str]]) -> None:
    """Run commands each of which writes the file after its -o."""
    commands = list(commands)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for output in pool.map(_output, commands):
            sys.stderr.write(output)
    for command in commands:
        if not os.path.exists(command[command.index("-o") + 1]):
            _fail(f"{shlex.join(command)}\nexit code 0, but there is no output file")


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    if done.returncode:
        hint = "; POWERSPHERICAL_CUDA=0 builds without nvcc" if "nvcc" in command[0] else ""
        _fail(f"{shlex.join(command)}\n{output}exit code {done.returncode}{hint}")
    return output


def _words(variable: str) -> list[str]:
    value = os.environ.get(variable, "")
    try:
        return shlex.split(value)
    except ValueError as error:
        _fail(f"{variable}={value} cannot be split into words: {error}")


def _switch(variable: str) -> bool | None:
    value = os.environ.get(variable, "")
    if value not in ("", "0", "1"):
        _fail(f"{variable} must be 0, 1 or unset, not {value!r}")
    return value == "1" if value else None


def _fail(message: str) -> NoReturn:
    raise SystemExit(f"powerspherical_ext: {message}")
