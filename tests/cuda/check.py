"""The kernels compiled for some architectures, and a table of what each takes of a multiprocessor.

`make cuda-check` calls it; it needs nvcc. Registers that are spilled, or local memory, are errors.

The bytes in flight are the most that a thread has asked for and not yet used, along any path of its
instructions: by loads of 16 bytes, which float32 and float64 vectors take, and by loads of 8 bytes,
which half-precision vectors take. They need nvdisasm of the CUDA toolkit.
"""

from __future__ import annotations

import heapq
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from csrc import build_backend as build

# Of a multiprocessor, for sm_80, sm_90 and sm_100 alike.
REGISTERS, THREADS, BLOCKS, PARTITIONS, WARP = 65536, 2048, 32, 4, 32


@dataclass(frozen=True)
class Usage:
    """What ptxas says of a kernel."""

    kernel: str  # as the compiler mangles it
    arch: str
    registers: int
    shared: int  # bytes for a block
    spilled: int  # bytes stored and loaded, for a thread
    local: int  # bytes of local memory, for a thread


@dataclass(frozen=True)
class Bounds:
    """__launch_bounds__ of a kernel."""

    threads: int
    blocks: int


def usages(output: str) -> list[Usage]:
    """Of all kernels, from what `ptxas -v` writes."""
    compiled = re.compile(
        r"Compiling entry function '(\w+)' for '(\w+)'\n"
        r"(?:.*\n)*?\s*(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads\n"
        r".*Used (\d+) registers(.*)"
    )
    found = []
    for kernel, arch, local, stores, loads, registers, rest in compiled.findall(output):
        shared = re.search(r"(\d+) bytes smem", rest)
        spilled = int(stores) + int(loads)
        size = int(shared[1]) if shared else 0
        found.append(Usage(kernel, arch, int(registers), size, spilled, int(local)))
    return found


def bounds(ptx: str) -> dict[str, Bounds]:
    """Of the kernels in a PTX file."""
    entry = r"\.entry (\w+)\([^)]*\)\s*\.maxntid (\d+)[^\n]*\n(?:\.minnctapersm (\d+))?"
    return {
        name: Bounds(int(threads), int(blocks or 1))
        for name, threads, blocks in re.findall(entry, ptx)
    }


def blocks_by_registers(registers: int, threads: int) -> int:
    """Blocks that a multiprocessor holds at once. It gives registers to a warp, in units of 256."""
    of_warp = -(-registers * WARP // 256) * 256
    warps = REGISTERS // PARTITIONS // of_warp * PARTITIONS
    return min(warps * WARP // threads, THREADS // threads, BLOCKS)


def in_flight(instructions: str) -> dict[int, int]:
    """The most bytes on their way to a thread, by the size of a load: 16 or 8 bytes."""
    return {size: _in_flight(_parsed(instructions), size) for size in (16, 8)}


@dataclass(frozen=True)
class Instruction:
    registers: frozenset[int]  # that it names
    loads: int  # bytes
    to: int  # the first register that it loads
    target: int | None  # where it may branch
    goes_on: bool  # or go on to the next


def _parsed(instructions: str) -> list[Instruction]:
    lines = re.findall(
        r"^(\.L_x_\d+):|^\s+/\*\w+\*/\s+(@!?U?P\w+ )?([^;]*);", instructions, re.MULTILINE
    )
    labels, code = {}, []
    for label, predicate, text in lines:
        if label:
            labels[label] = len(code)
        else:
            code.append((predicate, text))
    parsed = []
    for predicate, text in code:
        load = re.match(r"LDG\.E\.(128|64)\S* R(\d+),", text)
        size, to = (int(load[1]) // 8, int(load[2])) if load else (0, -1)
        branch = re.match(r"BRA\S* (.*)`\((\.L_x_\d+)\)", text)
        conditional = predicate or (branch and branch[1].strip())
        ends = branch or text.startswith(("EXIT", "RET"))
        registers = frozenset(int(r) for r in re.findall(r"\bR(\d+)\b", text))
        target = labels[branch[2]] if branch else None
        parsed.append(Instruction(registers, size, to, target, bool(conditional or not ends)))
    return parsed


def _in_flight(code: list[Instruction], size: int) -> int:
    """The most along any path. Of what may be pending before an instruction only sets that are in
    no other set are kept: those lead to no less."""
    most = 0
    before: list[list[frozenset[int]]] = [[] for _ in code]  # the first registers of loads
    waiting = [(0, frozenset[int]())]
    while waiting:
        at, pending = heapq.heappop(waiting)
        if at >= len(code) or any(pending <= other for other in before[at]):
            continue
        before[at] = [other for other in before[at] if not other <= pending] + [pending]
        instruction = code[at]
        names = instruction.registers
        pending = frozenset(r for r in pending if names.isdisjoint(range(r, r + size // 4)))
        if instruction.loads == size:
            pending |= {instruction.to}
            most = max(most, size * len(pending))
        if instruction.target is not None:
            heapq.heappush(waiting, (instruction.target, pending))
        if instruction.goes_on:
            heapq.heappush(waiting, (at + 1, pending))
    return most


def functions(assembly: str) -> Iterator[tuple[str, str]]:
    """Each kernel and its instructions, from what `nvdisasm -c` writes."""
    _, *parts = re.split(r"^\.text\.(\w+):$", assembly, flags=re.MULTILINE)
    return zip(parts[::2], parts[1::2], strict=True)


def short(demangled: str) -> str:
    """The template arguments of a kernel, such as Forward<PowerSpherical, float>."""
    name = demangled.replace("(anonymous namespace)::", "").replace("spherical::", "")
    argument = re.match(r"void for_each_\w+<(.*?)\s?>\(", name)
    return argument[1] if argument else name


def demangled(names: list[str]) -> list[str]:
    if not shutil.which("c++filt"):
        return names
    done = subprocess.run(
        ["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


HEADER = ["kernel", "arch", "registers", "shared", "spilled", "local", "threads"]
HEADER += ["blocks", "asked", "16 B loads", "8 B loads"]


def row(file: str, name: str, usage: Usage, bound: Bounds, flying: dict[int, int] | None) -> list:
    by_registers = blocks_by_registers(usage.registers, bound.threads)
    sizes = [flying[16], flying[8]] if flying else ["-", "-"]
    return [
        f"{file} {name}",
        usage.arch,
        usage.registers,
        usage.shared,
        usage.spilled,
        usage.local,
        bound.threads,
        by_registers,
        bound.blocks,
        *sizes,
    ]


def table(rows: list[list]) -> str:
    """Plain text: one line for each kernel and architecture."""
    cells = [[str(cell) for cell in row] for row in [HEADER, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i > 1 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def compiled(compiler: list[str], source: Path, folder: Path, nvdisasm: str | None) -> list[list]:
    """The rows of the table for one file."""
    keep = [f"--keep-dir={folder}", "--keep", "-o", f"{folder}/{source.stem}.o", "-c", str(source)]
    done = subprocess.run([*compiler, *keep], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"cuda-check: {source.name}\n{done.stdout}{done.stderr}")
    found = usages(done.stdout + done.stderr)
    if not found:
        sys.exit(f"cuda-check: ptxas said nothing of {source.name}\n{done.stdout}{done.stderr}")
    limits: dict[str, Bounds] = {}
    for ptx in folder.glob(f"{source.stem}*.ptx"):
        limits |= bounds(ptx.read_text())
    flying: dict[tuple[str, str], dict[int, int]] = {}
    for cubin in folder.glob(f"{source.stem}*.cubin") if nvdisasm else []:
        disassembly = subprocess.run(
            [str(nvdisasm), "-c", str(cubin)], capture_output=True, text=True, check=True
        )
        arch = cubin.suffixes[-2].removeprefix(".")
        flying |= {(f, arch): in_flight(code) for f, code in functions(disassembly.stdout)}
    names = map(short, demangled([usage.kernel for usage in found]))
    return sorted(
        row(source.stem, name, usage, limits[usage.kernel], flying.get((usage.kernel, usage.arch)))
        for name, usage in zip(names, found, strict=True)
    )


def main(wanted: list[str]) -> None:
    cxx, nvcc = build.find_cxx(), build.find_nvcc()
    if cxx is None or nvcc is None:
        print(f"cuda-check skipped: {'no C++ compiler' if nvcc else build.why_no_nvcc()}")
        return
    archs = [arch for arch in wanted if arch in build.known_archs(nvcc)]
    compiler = [*build.cuda_compiler(nvcc, archs, cxx), "-Xptxas=-v", f"-I{build.SOURCES}"]
    beside = Path(nvcc).resolve().parent / "nvdisasm"
    nvdisasm = shutil.which("nvdisasm") or (str(beside) if beside.exists() else None)
    sources = sorted(build.SOURCES.glob("cuda/*.cu"))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(compiled, compiler, s, Path(folder), nvdisasm) for s in sources]
        rows = [row for job in jobs for row in job.result()]
    print(table(rows))
    bad = [r for r in rows if r[4] or r[5]]
    if bad:
        sys.exit(f"cuda-check failed: spilled registers or local memory\n{table(bad)}")
    print(f"cuda-check passed: {len(sources)} files for {', '.join('sm_' + a for a in archs)}")


if __name__ == "__main__":
    main(sys.argv[1:])
