"""The row of the URL benchmark, under its names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ._inputs import vector
from .agreement import cropped_has_bigger_uncertainty, entropy_correlation
from .bootstrap import ConfidenceInterval, bootstrap
from .ranking import auroc, known_and_unknown
from .retrieval import recall_at_1
from .selective import augrc, risk_coverage

__all__ = ["URLReport", "url_report"]


class URLReport(dict[str, ConfidenceInterval]):
    """The figures by name; as text, a table of them.

    Example:
        >>> print(URLReport(r1=ConfidenceInterval(0.5, 0.4, 0.6, torch.tensor([0.4, 0.6]))))
        metric               value [interval]
        r1                   0.500 [0.400, 0.600]
    """

    def __str__(self) -> str:
        lines = [f"{name:<20} {interval}" for name, interval in self.items()]
        return "\n".join(["metric               value [interval]", *lines])


def url_report(
    embeddings: Any,
    labels: Any,
    score: Any,
    *,
    score_cropped: Any = None,
    score_out: Any = None,
    soft_labels: Any = None,
    level: float = 0.95,
    n_resamples: int = 1000,
    generator: torch.Generator | None = None,
) -> URLReport:
    r"""How good a representation is, and how good its uncertainty, as the URL benchmark reports it.

    .. code-block:: text

        r1                   R@1, the mean of recall_at_1
        auroc_correct        R-AUROC, the AUROC of the score for these retrievals
        augrc_correct        augrc of the same             (not in URL)
        aurc_correct         risk_coverage(...).aurc       (not in URL)
        croppedHasBiggerUnc  with score_cropped
        auroc_ood            with score_out
        rcorr_entropy        with soft_labels
        min_unc, avg_unc, max_unc: of minus the score

    Each has a percentile interval by :func:`bootstrap`. The retrievals are computed once, among
    all samples. A bootstrap has no interval for the extremes min_unc and max_unc: both ends are the
    value itself.

    Args:
        embeddings: (N, d); the length of a row does not matter.
        labels: (N,) integers.
        score: (N,), higher is more confident: kappa, or minus URL's uncertainty.
        score_cropped: (N,), of a crop of each image.
        score_out: (M,), of images out of distribution.
        soft_labels: (N, C), see :func:`entropy_correlation`.
        level, n_resamples, generator: see :func:`bootstrap`.

    Returns:
        A dictionary of :class:`ConfidenceInterval`; ``print`` shows a table.

    Raises:
        ValueError: as the functions that it calls.

    Example:
        >>> x = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.2, 1.0]]
        >>> report = url_report(x, [0, 0, 1, 2], [9.0, 8.0, 3.0, 8.5], n_resamples=10)
        >>> report["r1"].estimate, report["auroc_correct"].estimate
        (0.5, 0.75)

    Source:
        Kirchhof, Mucsanyi, Oh and Kasneci, "URL: A Representation Learning Benchmark for
        Transferable Uncertainty Estimates", NeurIPS 2023.
    """
    score = vector(score, "score")
    correct = recall_at_1(embeddings, labels)

    def interval(statistic: Callable[..., Any], *data: Any) -> ConfidenceInterval:
        options = {"level": level, "n_resamples": n_resamples, "generator": generator}
        return bootstrap(statistic, *data, **options)  # type: ignore[arg-type]

    def point(value: torch.Tensor) -> ConfidenceInterval:
        return ConfidenceInterval(value.item(), value.item(), value.item(), value.reshape(1))

    report = URLReport(
        r1=interval(lambda right: right.double().mean(), correct),
        auroc_correct=interval(auroc, score, correct),
        augrc_correct=interval(augrc, score, correct),
        aurc_correct=interval(lambda s, right: risk_coverage(s, right).aurc, score, correct),
    )
    if score_cropped is not None:
        cropped = vector(score_cropped, "score_cropped")
        report["croppedHasBiggerUnc"] = interval(cropped_has_bigger_uncertainty, score, cropped)
    if score_out is not None:
        report["auroc_ood"] = interval(auroc, *known_and_unknown(score, score_out))
    if soft_labels is not None:
        report["rcorr_entropy"] = interval(entropy_correlation, score, soft_labels)
    report["min_unc"], report["max_unc"] = point(-score.max()), point(-score.min())
    report["avg_unc"] = interval(lambda s: -s.mean(), score)
    return report
