"""The CPU kernels under sanitizers: accesses outside of a tensor, undefined behaviour, data races.

`make sanitize` builds the library twice, in folders of its own below build/sanitize: for GCC's
address and undefined-behaviour sanitizers, and for its thread sanitizer. It runs tests on each.
`make sanitize-fast` runs fewer of them. A sanitizer whose runtime is missing is skipped.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FAST = ["tests/ops/test_fuzz.py", "tests/ops/test_raw_ops.py"]
FAST_EXAMPLES, EXAMPLES = "30", "1000"  # of each op, see test_fuzz.py


@dataclass(frozen=True)
class Sanitizer:
    name: str
    checks: str  # what -fsanitize takes
    runtime: str  # must be loaded before Python
    options: str  # the variables that the runtime reads
    tests: tuple[str, ...]


SANITIZERS = (
    Sanitizer(
        "address",
        "address,undefined",
        "libasan.so",
        "ASAN_OPTIONS UBSAN_OPTIONS",
        (
            "tests/ops",
            "tests/distributions/test_constraints.py",
            "tests/distributions/test_contract.py",
            "tests/distributions/test_properties.py",
        ),
    ),
    # Ours is the only library in the process that tells the sanitizer what it reads and writes.
    Sanitizer(
        "thread",
        "thread",
        "libtsan.so",
        "TSAN_OPTIONS",
        (*FAST, "tests/ops/test_layouts.py", "tests/ops/test_rsample.py"),
    ),
)


def compiler() -> list[str]:
    return shlex.split(os.environ.get("CXX", "")) or ["c++"]


def preloaded(sanitizer: Sanitizer) -> list[str]:
    """The runtime, and the C++ library whose functions it replaces; none if one is missing."""
    found = []
    for name in (sanitizer.runtime, "libstdc++.so.6"):
        command = [*compiler(), f"-print-file-name={name}"]
        path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if not os.path.isabs(path):
            return []
        found.append(path)
    return found


def build(sanitizer: Sanitizer) -> Path:
    """A folder with the package as it is, and with the library compiled for a sanitizer."""
    from csrc import build_backend

    folder = build_backend.BUILD / "sanitize" / sanitizer.name
    package = folder / "powerspherical_ext"
    package.mkdir(parents=True, exist_ok=True)
    for path in package.iterdir():
        if path.is_symlink():
            path.unlink()
    built = (build_backend.LIBRARY, build_backend.BUILD_INFO, "__pycache__")
    for path in build_backend.PACKAGE.iterdir():
        if path.name not in built:
            (package / path.name).symlink_to(path)

    # -O1 without vectors keeps the accesses that the source has. -g lets reports name its lines,
    # for which GCC need not follow variables: that takes most of the time.
    flags = ["-O1", "-fno-tree-vectorize", "-g", "-fno-var-tracking", "-fno-omit-frame-pointer"]
    flags.append(f"-fsanitize={sanitizer.checks}")
    source = ROOT / "tests" / "cpu" / "threads.cpp"
    content = hashlib.sha256(source.read_bytes()).hexdigest()
    threads = folder / f"threads-{content[:16]}.o"
    if not threads.exists():
        command = [*compiler(), *flags, "-std=c++17", "-fPIC", f"-I{ROOT / 'csrc'}", "-c"]
        subprocess.run([*command, str(source), "-o", str(threads)], check=True)
    os.environ["POWERSPHERICAL_CUDA"] = "0"
    os.environ["CXXFLAGS"] = shlex.join(flags)
    os.environ["LDFLAGS"] = shlex.join([*flags, str(threads)])
    build_backend.build_library(package)
    return folder


def passes(sanitizer: Sanitizer, fast: bool) -> bool:
    """Whether the tests pass in a process that the sanitizer watches."""
    libraries = preloaded(sanitizer)
    if not libraries:
        print(f"sanitize: {sanitizer.name} skipped, {compiler()[0]} has no {sanitizer.runtime}")
        return True
    print(f"sanitize: {sanitizer.name}", flush=True)
    folder = build(sanitizer)
    for report in folder.glob("report.*"):
        report.unlink()
    options = f"halt_on_error=1:exitcode=66:print_stacktrace=1:log_path={folder}/report"
    options += ":allocator_may_return_null=1"  # a tensor too large for memory is an error of torch
    options += ":detect_leaks=0"  # Python never frees some of its memory
    environ = {
        **os.environ,
        **dict.fromkeys(sanitizer.options.split(), options),
        "LD_PRELOAD": " ".join(libraries),
        "OMP_NUM_THREADS": "1",  # torch's own threads are not what is tested
        "POWERSPHERICAL_REQUIRE_KERNELS": "1",
        "POWERSPHERICAL_FUZZ_EXAMPLES": FAST_EXAMPLES if fast else EXAMPLES,
    }
    tests = [*(FAST if fast else sanitizer.tests), "-q", "-m", "not slow", "-p", "no:cacheprovider"]
    command = [sys.executable, __file__, "--run-tests-in", str(folder), *tests]
    status = subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode
    for report in folder.glob("report.*"):
        if status:
            print(report.read_text())
    return status == 0


def run_tests(folder: str, arguments: list[str]) -> int:
    """Run pytest with the package of this folder."""
    import pytest

    sys.path.insert(0, folder)
    import powerspherical_ext

    assert powerspherical_ext.__file__.startswith(folder)
    return pytest.main(arguments)


def main() -> None:
    if sys.argv[1:2] == ["--run-tests-in"]:
        sys.exit(run_tests(sys.argv[2], sys.argv[3:]))
    if sys.platform != "linux" or not shutil.which(compiler()[0]):
        print(f"sanitize skipped: {sys.platform}, {compiler()[0]}; it needs Linux and GCC")
        return
    sys.path.insert(0, str(ROOT))
    failed = [each.name for each in SANITIZERS if not passes(each, fast="--fast" in sys.argv)]
    if failed:
        sys.exit(f"sanitize: {' and '.join(failed)} failed")


if __name__ == "__main__":
    main()
