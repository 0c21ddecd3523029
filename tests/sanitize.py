"""The CPU kernels under sanitizers: accesses outside of a tensor, undefined behaviour, data races.

`make sanitize` builds the library twice, in folders of its own below build/sanitize: for the
address and undefined-behaviour sanitizers, and for the thread sanitizer. It runs the tests below on
each.
`make sanitize-fast` runs fewer of them. It needs GCC with the runtimes of its sanitizers; one whose
runtime is missing is skipped.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from csrc import build_backend  # noqa: E402

# -O1: the code that is checked should be what was written. -g: reports name lines.
FLAGS = ["-O1", "-g", "-fno-omit-frame-pointer"]
OPTIONS = "halt_on_error=1:exitcode=66:print_stacktrace=1"
SANITIZERS = {
    # No leaks, since Python has its own. A tensor too large for memory is an error of torch.
    "address": (
        "address,undefined",
        {
            "ASAN_OPTIONS": f"{OPTIONS}:detect_leaks=0:allocator_may_return_null=1",
            "UBSAN_OPTIONS": OPTIONS,
        },
    ),
    # Of the libraries in the process, ours alone tells the sanitizer what it reads and writes.
    "thread": ("thread", {"TSAN_OPTIONS": f"{OPTIONS}:allocator_may_return_null=1"}),
}
RUNTIMES = {"address": "libasan.so", "thread": "libtsan.so"}

FUZZ = "tests/ops/test_fuzz.py"
FAST = [FUZZ, "tests/ops/test_raw_ops.py"]
TESTS = {
    "address": [
        "tests/ops",
        "tests/distributions/test_constraints.py",
        "tests/distributions/test_moments.py",
    ],
    "thread": [FUZZ, "tests/ops/test_layouts.py", "tests/ops/test_rsample.py"],
}
EXAMPLES = {"fast": "30", "full": "1000"}  # of each op, see test_fuzz.py


def compiler() -> list[str]:
    return shlex.split(os.environ.get("CXX", "")) or ["c++"]


def runtime(sanitizer: str) -> list[str]:
    """The libraries that must be loaded before Python; none if there are none."""
    found = []
    for name in (RUNTIMES[sanitizer], "libstdc++.so.6"):
        command = [*compiler(), f"-print-file-name={name}"]
        path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if not os.path.isabs(path):
            return []
        found.append(path)
    return found


def build(sanitizer: str) -> Path:
    """A folder with the package, and the library compiled for a sanitizer."""
    folder = build_backend.BUILD / "sanitize" / sanitizer
    package = folder / "powerspherical_ext"
    package.mkdir(parents=True, exist_ok=True)
    for path in package.iterdir():
        if path.is_symlink():
            path.unlink()
    built = (build_backend.LIBRARY, build_backend.BUILD_INFO, "__pycache__")
    for path in build_backend.PACKAGE.iterdir():
        if path.name not in built:
            (package / path.name).symlink_to(path)

    flags = [*FLAGS, f"-fsanitize={SANITIZERS[sanitizer][0]}"]
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


def check(sanitizer: str, fast: bool) -> int:
    """Run tests in a process that the sanitizer watches."""
    preload = runtime(sanitizer)
    if not preload:
        print(f"sanitize: {sanitizer} skipped, {compiler()[0]} has no {RUNTIMES[sanitizer]}")
        return 0
    print(f"sanitize: {sanitizer}", flush=True)
    environ = {
        **os.environ,
        **SANITIZERS[sanitizer][1],
        "LD_PRELOAD": " ".join(preload),
        "OMP_NUM_THREADS": "1",  # torch's own threads are not what is tested
        "POWERSPHERICAL_REQUIRE_KERNELS": "1",
        "POWERSPHERICAL_FUZZ_EXAMPLES": EXAMPLES["fast" if fast else "full"],
    }
    folder = build(sanitizer)
    tests = [*(FAST if fast else TESTS[sanitizer]), "-m", "not slow", "-q"]
    tests += ["-p", "no:cacheprovider"]
    tests.append("--capture=sys")  # the report of a sanitizer goes to the terminal
    command = [sys.executable, __file__, "--in", str(folder), *tests]
    return subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode


def run_tests(folder: str, arguments: list[str]) -> int:
    """Run pytest on the package in a folder."""
    import pytest

    sys.path.insert(0, folder)
    import powerspherical_ext

    assert powerspherical_ext.__file__.startswith(folder)
    return pytest.main(arguments)


def main() -> None:
    if sys.argv[1:2] == ["--in"]:
        sys.exit(run_tests(sys.argv[2], sys.argv[3:]))
    if sys.platform != "linux" or shutil.which(compiler()[0]) is None:
        print("sanitize skipped: it needs Linux, and GCC")
        return
    failed = [sanitizer for sanitizer in SANITIZERS if check(sanitizer, "--fast" in sys.argv)]
    if failed:
        sys.exit(f"sanitize: {' and '.join(failed)} failed")


if __name__ == "__main__":
    main()
