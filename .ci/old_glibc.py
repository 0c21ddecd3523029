"""Makes what a library must be linked with to run on an older glibc, and prints it for LDFLAGS.

    LDFLAGS="$(python .ci/old_glibc.py 2.28 build/glibc-2.28)" pip install .

The linker writes into a library the version that each function of glibc has where it is linked.
glibc keeps older versions for libraries that ask for them, but a linker takes the newest. So this
program makes stand-ins for libc and libm that have the versions of the older glibc alone. The
compiler is that of the environment variable CXX, or c++.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

CXX = shlex.split(os.environ.get("CXX") or "c++")
# A function of libstdc++ that the headers of GCC 12 call, and that older ones do not have.
OLD_LIBSTDCXX = """#include <new>
extern "C" __attribute__((weak, visibility("hidden"))) void _ZSt28__throw_bad_array_new_lengthv() {
  throw std::bad_array_new_length();
}
"""


def output(*command: object) -> str:
    return subprocess.check_output(list(map(str, command)), text=True)


def stand_in(name: str, newest: tuple[int, ...], folder: Path) -> Path:
    """A library of this name whose symbols have the versions that `newest` of glibc had."""
    real = output(*CXX, f"-print-file-name={name}").strip()
    table = output("readelf", "--dyn-syms", "--wide", real)
    chosen: dict[str, tuple[tuple[int, ...], str]] = {}
    pattern = r"(FUNC|IFUNC|OBJECT|TLS) .* (\w+)@@?GLIBC_([\d.]+)"
    for kind, symbol, version in re.findall(pattern, table):
        numbers = tuple(map(int, version.split(".")))
        if chosen.get(symbol, ((),))[0] < numbers <= newest:
            chosen[symbol] = numbers, "function" if "FUNC" in kind else "object"
    source, script = folder / f"{name}.s", folder / f"{name}.map"
    source.write_text(
        "".join(f".globl {s}\n.type {s},@{kind}\n{s}:\n" for s, (_, kind) in chosen.items())
    )
    nodes = []
    for version in sorted({numbers for numbers, _ in chosen.values()}):
        symbols = " ".join(f"{s};" for s, (numbers, _) in chosen.items() if numbers == version)
        nodes.append(f"GLIBC_{'.'.join(map(str, version))} {{ {symbols} }};\n")
    script.write_text("".join(nodes))
    flags = ["-shared", "-nostdlib", f"-Wl,-soname,{name}", f"-Wl,--version-script={script}"]
    output(*CXX, *flags, "-o", folder / name, source)
    return folder / name


def main(version: str, name: str) -> None:
    if not re.fullmatch(r"\d+\.\d+", version):
        sys.exit(f"the version of glibc must be one such as 2.28, not {version!r}")
    newest = tuple(map(int, version.split(".")))
    folder = Path(name).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    source, compiled = folder / "old_libstdcxx.cpp", folder / "old_libstdcxx.o"
    source.write_text(OLD_LIBSTDCXX)
    output(*CXX, "-O2", "-fPIC", "-c", source, "-o", compiled)
    stand_ins = [stand_in(library, newest, folder) for library in ("libc.so.6", "libm.so.6")]
    print(shlex.join(map(str, (*stand_ins, compiled))))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
