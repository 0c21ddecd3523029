"""The table of `make cuda-check`, from what ptxas, nvcc and nvdisasm have written."""

from __future__ import annotations

from pathlib import Path

import check
import pytest
from check import Bounds, Usage

# Of log_prob.cu with a bound that its backward kernel cannot keep, and of scalar_function.cu.
PTXAS = (Path(__file__).parent / "ptxas.txt").read_text()

EXPECTED = [  # registers, shared memory, spilled bytes and local memory
    ("sm_90", 98, 1280, 0, 0),
    ("sm_90", 64, 1408, 284 + 488, 128),
    ("sm_90", 74, 1280, 0, 0),
    ("sm_90", 80, 1408, 0, 0),
    ("sm_90", 68, 0, 0, 0),
]
NAMES = [
    "Backward<PowerSpherical, double>",
    "Backward<PowerSpherical, float>",
    "Forward<PowerSpherical, double>",
    "Forward<PowerSpherical, float>",
    "Element<PowerSpherical, float>",
]

PTX = """
\t// .globl\tkernel
.visible .entry kernel(
\t.param .align 8 .b8 kernel_param_0[64]
)
.maxntid 256, 1, 1
.minnctapersm 3
{
}
.entry another(
\t.param .u64 another_param_0
)
.maxntid 128, 1, 1
{
"""

# Of three loads of 16 bytes the first is used before the third. Then one path loads 8 bytes, and
# uses them; the other loads them twice.
SASS = """
.text.kernel:
        /*0010*/                   LDG.E.128 R40, desc[UR8][R10.64] ;
        /*0020*/              @!P0 LDG.E.128 R44, desc[UR8][R10.64+0x10] ;
        /*0030*/                   IADD3 R48, R10, 0x1, RZ ;
        /*0040*/                   FADD R0, R43, R10 ;
        /*0050*/                   LDG.E.128.CONSTANT R52, desc[UR8][R10.64] ;
        /*0060*/                   FADD R0, R44, R52 ;
        /*0070*/              @!P4 BRA `(.L_x_1) ;
        /*0080*/                   LDG.E.64 R2, desc[UR8][R10.64] ;
        /*0090*/                   FADD R0, R2, R3 ;
        /*00a0*/                   BRA `(.L_x_2) ;
.L_x_1:
        /*00b0*/                   LDG.E.64 R2, desc[UR8][R10.64] ;
.L_x_2:
        /*00c0*/                   LDG.E.64 R4, desc[UR8][R10.64] ;
        /*00d0*/               @P0 BRA `(.L_x_1) ;
        /*00e0*/                   EXIT ;
.text.another:
        /*0010*/                   LDG.E R2, desc[UR8][R10.64] ;
        /*0020*/                   EXIT ;
        /*0030*/                   LDG.E.64 R2, desc[UR8][R10.64] ;
"""


def test_usages() -> None:
    found = [(u.arch, u.registers, u.shared, u.spilled, u.local) for u in check.usages(PTXAS)]
    assert found == EXPECTED
    names = [check.short(name) for name in check.demangled([u.kernel for u in check.usages(PTXAS)])]
    if names[0] != check.usages(PTXAS)[0].kernel:  # where there is c++filt
        assert names == NAMES


def test_bounds() -> None:
    assert check.bounds(PTX) == {"kernel": Bounds(256, 3), "another": Bounds(128, 1)}


def test_bytes_in_flight() -> None:
    found = {name: check.in_flight(code) for name, code in check.functions(SASS)}
    assert found == {"kernel": {16: 32, 8: 16}, "another": {16: 0, 8: 0}}


@pytest.mark.parametrize(
    ("registers", "threads", "blocks"),
    [(32, 256, 8), (64, 256, 4), (80, 256, 3), (81, 256, 2), (128, 256, 2), (255, 256, 1)],
)
def test_blocks_by_registers(registers: int, threads: int, blocks: int) -> None:
    """By hand: four partitions of 16384 registers each, given to warps in units of 256."""
    assert check.blocks_by_registers(registers, threads) == blocks


def test_table() -> None:
    usage, bound = Usage("_Z1f", "sm_90", 80, 1408, 0, 0), Bounds(256, 3)
    rows = [
        check.row("log_prob", "Forward<A, float>", usage, bound, {16: 64, 8: 8}),
        check.row("kl", "Element<A, B>", usage, bound, None),
    ]
    head, first, second = (line.split("  ") for line in check.table(rows).splitlines())
    cells = [[cell.strip() for cell in line if cell] for line in (head, first, second)]
    assert cells[0] == check.HEADER
    numbers = ["sm_90", "80", "1408", "0", "0", "256", "3", "3"]
    assert cells[1] == ["log_prob Forward<A, float>", *numbers, "64", "8"]
    assert cells[2] == ["kl Element<A, B>", *numbers, "-", "-"]
