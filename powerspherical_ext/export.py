"""Programs that leave torch: ONNX, and other exporters that know the operations of torch alone.

``torch.onnx.export(model, inputs, dynamo=True)`` needs nothing of this module: it finds the
decompositions in torch's own table. Other exporters take them from `decompositions`.

In the exported program the density, the divergences, the moments, the samplers and the VI-SimSiam
loss are operations of torch, without a loop that depends on a value: each sampler makes as many
proposals as it ever would. ``marginal_t`` and ``fit`` do not decompose.

A sampler draws by Philox from a seed and an offset, as the kernels do. In the program both are
random integers that it draws itself; onnxruntime seeds them by ``onnxruntime.set_seed``, and draws
each as one of 2^24 numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._decompositions import DECOMPOSITIONS

__all__ = ["decompositions"]


def decompositions() -> dict[Any, Callable[..., Any]]:
    """The raw ops of this package as functions of torch operations.

    Returns:
        A table for ``torch.export.ExportedProgram.run_decompositions``. It is empty where the
        package runs without kernels, because programs then hold no raw ops.

    Example:
        >>> import torch
        >>> from powerspherical_ext import SphericalCauchy
        >>> class Density(torch.nn.Module):
        ...     def forward(self, x, loc, concentration):
        ...         return SphericalCauchy(loc, concentration).log_prob(x)
        >>> x = torch.eye(3)
        >>> program = torch.export.export(Density(), (x, x, torch.full((3,), 0.5)))
        >>> program = program.run_decompositions(decompositions())
        >>> any("powerspherical_ext" in str(node.target) for node in program.graph.nodes)
        False
    """
    return dict(DECOMPOSITIONS)
