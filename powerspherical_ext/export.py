"""Programs that leave torch: ONNX, and other exporters that know the operations of torch alone.

    program = torch.export.export(model, inputs)
    torch.onnx.export(decompose(program), dynamo=True).save("model.onnx")

In a decomposed program the density, the divergences, the moments, the samplers and the VI-SimSiam
loss are operations of torch. No loop depends on a value: a sampler makes as many proposals as it
ever would, 16, or 48 for von Mises-Fisher on the circle. Gradients, ``marginal_t`` and ``fit`` do
not decompose.

A sampler draws by Philox from a seed and an offset, as the kernels do, and has the same law. The
program draws the two integers itself, by ``torch.randint``. In onnxruntime each is then one of
about 2^24 numbers, which ``onnxruntime.set_seed`` repeats.
"""

from __future__ import annotations

import warnings

from torch.export import ExportedProgram

from ._decompositions import DECOMPOSITIONS

__all__ = ["decompose"]


def decompose(program: ExportedProgram) -> ExportedProgram:
    """The program without the ops of this package, by operations of torch.

    Args:
        program: what ``torch.export.export`` returns, of any module. Batches may be dynamic.

    Returns:
        A program of the same values but for rounding: 1e-6 relative in float32. It computes in the
        dtypes that the kernels compute in, so that most scalar functions of a float32 concentration
        are evaluated in float64.

    Raises:
        TypeError: ``program`` is something else, such as the module itself.

    Example:
        >>> import torch
        >>> from powerspherical_ext import SphericalCauchy
        >>> class Density(torch.nn.Module):
        ...     def forward(self, x, loc, concentration):
        ...         return SphericalCauchy(loc, concentration).log_prob(x)
        >>> x = torch.eye(3)
        >>> program = torch.export.export(Density(), (x, x, torch.full((3,), 0.5)))
        >>> program = decompose(program)
        >>> any("powerspherical_ext" in str(node.target) for node in program.graph.nodes)
        False
    """
    if not isinstance(program, ExportedProgram):
        raise TypeError(
            "decompose: program must be what torch.export.export(module, inputs) returns, got "
            f"{type(program).__name__}"
        )
    with warnings.catch_warnings():  # torch deprecates what its own exporter calls
        warnings.filterwarnings("ignore", ".*treespec", FutureWarning)
        result: ExportedProgram = program.run_decompositions(DECOMPOSITIONS)
    return result
