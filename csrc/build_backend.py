"""PEP 517 build backend: compiles csrc into powerspherical_ext/_C.so, then setuptools packs the wheel.

The library calls torch's stable C ABI alone (torch_c.h), and Python's not at all. So a build needs
neither torch nor a network, and one library serves every Python and every torch >= 2.10.

Environment variables:
    POWERSPHERICAL_CUDA             0: no CUDA kernels; 1: fail without nvcc; unset: where nvcc is
    POWERSPHERICAL_CUDA_ARCHS       such as "80;90" (default: the visible GPUs, else DEFAULT_ARCHS)
    POWERSPHERICAL_REQUIRE_KERNELS  1: fail, rather than install plain torch, without a C++ compiler
    CXX, CXXFLAGS, LDFLAGS, CUDAHOSTCXX, CUDA_HOME  as in other builds
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "csrc"
LIBRARY = ROOT / "powerspherical_ext" / "_C.so"
BUILD_INFO = ROOT / "powerspherical_ext" / "_build_info.json"

# -ffp-contract=off: x86-64-v3 and v4 clones of a function then round alike, so that samples are
# the same on every CPU. The other two let loops with sqrt and comparisons vectorise.
CXX_FLAGS = [
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wall",
    "-Wextra",
]
NVCC_FLAGS = ["-std=c++17", "-O3", "-Xcompiler=-fPIC,-fvisibility=hidden,-ffp-contract=off"]
DEFAULT_ARCHS = ["75", "80", "90", "100", "120"]

# Inside pip's isolated build this is the target environment's own site-packages; torch depends on
# setuptools, so a machine with torch needs no network. Elsewhere the front end fetches it.
SETUPTOOLS = 77  # the first with SPDX licence expressions
sys.path.append(sysconfig.get_path("purelib"))
try:
    import setuptools
    from setuptools import build_meta
    from setuptools.command.bdist_wheel import bdist_wheel

    if int(setuptools.__version__.split(".")[0]) < SETUPTOOLS:
        raise ImportError(f"setuptools >= {SETUPTOOLS} wanted, found {setuptools.__version__}")
    MISSING = None
except ImportError as error:
    MISSING, build_meta, bdist_wheel = error, None, object


class PlatformWheel(bdist_wheel):  # type: ignore[misc,valid-type]
    """py3-none-<platform> with the library, py3-none-any without."""

    def finalize_options(self) -> None:
        self.distribution.has_ext_modules = LIBRARY.exists
        super().finalize_options()

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    return [f"setuptools>={SETUPTOOLS}"] if MISSING else []


get_requires_for_build_sdist = get_requires_for_build_wheel
get_requires_for_build_editable = get_requires_for_build_wheel


def build_wheel(directory: str, config_settings: Any = None, metadata: Any = None) -> str:
    build_library()
    for stale in (ROOT / "build").glob("lib*"):  # setuptools would pack what an older build left
        shutil.rmtree(stale)
    return _setuptools().build_wheel(directory, config_settings, metadata)


def build_editable(directory: str, config_settings: Any = None, metadata: Any = None) -> str:
    build_library()
    return _setuptools().build_editable(directory, config_settings, metadata)


def build_sdist(directory: str, config_settings: Any = None) -> str:
    return _setuptools().build_sdist(directory, config_settings)


def _setuptools() -> Any:
    if MISSING:
        raise MISSING
    return build_meta


def build_library() -> None:
    """Bring LIBRARY and BUILD_INFO up to date with csrc, the compilers and the environment."""
    cxx = _find_cxx()
    if cxx is None:
        _build_nothing()
        return
    nvcc = _find_nvcc()
    archs = _cuda_archs(nvcc) if nvcc else []
    compile_cxx = [*cxx, *CXX_FLAGS, *shlex.split(os.environ.get("CXXFLAGS", ""))]
    compile_cuda = [*_nvcc_command(nvcc, archs, cxx)] if nvcc else []
    link = [*_link_flags(nvcc), *shlex.split(os.environ.get("LDFLAGS", ""))]
    info = {
        "compiler": _output([*cxx, "--version"]).splitlines()[0],
        "nvcc": _output([nvcc, "--version"]).strip().splitlines()[-1] if nvcc else None,
        "cuda_archs": archs,
        "reason": None,
    }
    info["digest"] = _digest([info, compile_cxx, compile_cuda, link])
    if LIBRARY.exists() and BUILD_INFO.exists() and json.loads(BUILD_INFO.read_text()) == info:
        return

    sources = [*SOURCES.glob("cuda/*.cu")] if nvcc else []  # first, because they take longest
    sources += [*SOURCES.glob("*.cpp"), *SOURCES.glob("cpu/*.cpp")]
    with tempfile.TemporaryDirectory(dir=LIBRARY.parent, prefix=".build-") as folder:
        commands, objects = [], []
        for source in sources:
            objects.append(f"{folder}/{len(objects)}.o")
            compiler = compile_cuda if source.suffix == ".cu" else compile_cxx
            commands.append([*compiler, f"-I{SOURCES}", "-c", str(source), "-o", objects[-1]])
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_output, commands))
        stub = _stub_torch(cxx, folder)
        _output([*cxx, "-shared", "-o", f"{folder}/_C.so", *objects, stub, *link])
        BUILD_INFO.write_text(json.dumps(info, indent=1) + "\n")
        os.replace(f"{folder}/_C.so", LIBRARY)


def check_cuda(wanted: list[str]) -> None:
    """Compile csrc/cuda for each architecture; any register spill or local memory is an error."""
    cxx, nvcc = _find_cxx(), _find_nvcc()
    if cxx is None or nvcc is None:
        print("cuda-check skipped: no " + ("C++ compiler" if nvcc else "nvcc"))
        return
    archs = [arch for arch in wanted if arch in _known_archs(nvcc)]
    strict = "-Xptxas=-v,-warn-spills,-warn-lmem-usage,-Werror"
    for source in sorted(SOURCES.glob("cuda/*.cu")):
        command = [*_nvcc_command(nvcc, archs, cxx), strict, f"-I{SOURCES}", "-c", str(source)]
        print(_output([*command, "-o", os.devnull]))
    print(f"cuda-check passed: sm {' '.join(archs)}")


def _build_nothing() -> None:
    reason = "no C++ compiler (c++, g++ or clang++) was found when it was installed"
    if _switch("POWERSPHERICAL_REQUIRE_KERNELS"):
        raise SystemExit(f"powerspherical_ext: {reason}, and POWERSPHERICAL_REQUIRE_KERNELS is set")
    print(f"WARNING: powerspherical_ext: {reason}: plain torch is used instead", file=sys.stderr)
    LIBRARY.unlink(missing_ok=True)
    BUILD_INFO.write_text(json.dumps({"reason": reason}) + "\n")


def _find_cxx() -> list[str] | None:
    wanted = shlex.split(os.environ.get("CXX", ""))
    if wanted:
        if shutil.which(wanted[0]) is None:
            raise SystemExit(f"powerspherical_ext: CXX={wanted[0]!r}: no such program")
        return wanted
    found = next(filter(None, map(shutil.which, ["c++", "g++", "clang++"])), None)
    return [found] if found and os.name == "posix" else None


def _find_nvcc() -> str | None:
    if _switch("POWERSPHERICAL_CUDA") is False:
        return None
    roots = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    wheels = Path(sysconfig.get_path("purelib"), "nvidia").glob("cu*")  # nvidia-cuda-nvcc of PyPI
    candidates = [f"{root}/bin/nvcc" for root in [*roots[:2], *sorted(wheels)] if root]
    candidates += ["nvcc", f"{roots[2]}/bin/nvcc"]
    nvcc = next(filter(None, map(shutil.which, candidates)), None)
    if nvcc is None and _switch("POWERSPHERICAL_CUDA"):
        raise SystemExit(f"powerspherical_ext: POWERSPHERICAL_CUDA=1, but no nvcc: {candidates}")
    return nvcc


def _known_archs(nvcc: str) -> list[str]:
    return re.findall(r"sm_(\w+)", _output([nvcc, "--list-gpu-code"]))


def _cuda_archs(nvcc: str) -> list[str]:
    known = _known_archs(nvcc)
    wanted = re.findall(r"[^;,\s]+", os.environ.get("POWERSPHERICAL_CUDA_ARCHS", "").replace(".", ""))
    unknown = [arch for arch in wanted if arch not in known]
    if unknown:
        raise SystemExit(
            f"powerspherical_ext: POWERSPHERICAL_CUDA_ARCHS has {unknown}; {nvcc} knows {known}"
        )
    if not wanted and shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout
        wanted = sorted(set(re.findall(r"\d+", answer.replace(".", ""))), key=int)
        if not set(wanted) <= set(known):
            wanted = []
    return wanted or [arch for arch in DEFAULT_ARCHS if arch in known]


def _nvcc_command(nvcc: str, archs: list[str], cxx: list[str]) -> list[str]:
    targets = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in archs]
    newest = max((re.sub(r"\D", "", arch) for arch in archs), key=int)  # 90a has no portable PTX
    targets.append(f"-gencode=arch=compute_{newest},code=compute_{newest}")
    host = os.environ.get("CUDAHOSTCXX") or cxx[0]
    return [nvcc, f"-ccbin={host}", *NVCC_FLAGS, "--threads=0", *targets]


def _link_flags(nvcc: str | None) -> list[str]:
    """Linux: an undefined symbol is an error here, not in front of the user."""
    flags = ["-Wl,-z,defs", "-Wl,-s", "-ldl"] if sys.platform == "linux" else []
    if nvcc:
        with tempfile.NamedTemporaryFile(suffix=".cu") as empty:
            plan = _output([nvcc, "--dryrun", "-c", empty.name, "-o", os.devnull])
        folders = shlex.split(re.search(r"^#\$ LIBRARIES=(.*)", plan, re.M)[1])
        top = re.search(r"^#\$ TOP=(.*)", plan, re.M)[1]
        flags += [*folders, f"-L{top}/lib", "-lcudart_static", "-lpthread", "-lrt", "-ldl"]
    return flags


def _stub_torch(cxx: list[str], folder: str) -> str:
    """A stand-in for libtorch_cpu that defines the functions of torch_c.h, and nothing else."""
    names = re.findall(r"^\w+ \**(\w*torch_\w+)\(", (SOURCES / "torch_c.h").read_text(), re.M)
    source = Path(folder, "stub.cpp")
    source.write_text("".join(f'extern "C" void {name}() {{}}\n' for name in names))
    if sys.platform == "darwin":
        stub, name = f"{folder}/libtorch_cpu.dylib", "-Wl,-install_name,@rpath/libtorch_cpu.dylib"
    else:
        stub, name = f"{folder}/libtorch_cpu.so", "-Wl,-soname,libtorch_cpu.so"
    _output([*cxx, "-shared", "-fPIC", name, "-o", stub, str(source)])
    return stub


def _digest(settings: Any) -> str:
    digest = hashlib.sha256(repr(settings).encode())
    for path in sorted(SOURCES.rglob("*.*")):
        if path.suffix != ".pyc":
            digest.update(path.relative_to(SOURCES).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _switch(name: str) -> bool | None:
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        raise SystemExit(f"powerspherical_ext: {name} must be 0, 1 or unset, got {value!r}")
    return value == "1" if value else None


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"powerspherical_ext: {shlex.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout or done.stderr



if __name__ == "__main__":
    check_cuda(sys.argv[1:])
