"""csrc/torch_c.h says the same as the headers of the installed torch."""

import subprocess
from pathlib import Path

import pytest
import torch

CSRC = Path(__file__).parents[2] / "csrc"
TORCH_HEADERS = Path(torch.__file__).parent / "include"


def compile_beside_torch(declarations: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    source = tmp_path / "both.cpp"
    source.write_text(
        "#include <torch/csrc/stable/c/shim.h>\n"
        "#include <torch/csrc/inductor/aoti_torch/c/shim.h>\n"
        f'#include "{declarations}"\n'
    )
    command = ["c++", "-std=c++17", "-fsyntax-only", f"-I{TORCH_HEADERS}", str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_declarations_agree_with_the_installed_torch(tmp_path: Path) -> None:
    done = compile_beside_torch(CSRC / "torch_c.h", tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("ours", "changed"),
    [
        ("int64_t *ret", "int32_t *ret"),
        ("(AtenTensorHandle tensor, const void **ret)", "(AtenTensorHandle tensor)"),
        ("AOTITorchError torch_parallel_for", "void torch_parallel_for"),
    ],
)
def test_a_wrong_declaration_is_a_compile_error(ours: str, changed: str, tmp_path: Path) -> None:
    text = (CSRC / "torch_c.h").read_text()
    assert ours in text
    wrong = tmp_path / "torch_c.h"
    wrong.write_text(text.replace(ours, changed, 1))
    done = compile_beside_torch(wrong, tmp_path)
    assert done.returncode != 0
    assert "error:" in done.stderr
