"""What train_vi_simsiam.py prints at its end."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import fill

from .knn import NEIGHBOURS


def report(results: dict) -> str:
    """Tables, and what they say in a few lines."""
    name = next(iter(results["fifths"]))
    lines = [
        fill(line, 95, initial_indent="  - ", subsequent_indent="    ")
        for line in conclusions(results, name)
    ]
    return "\n".join([tables(results), "", f"What {name} tells", *lines])


def conclusions(results: dict, name: str) -> Iterator[str]:
    """Of the confidence of that name, as a rule kappa, beside the best of the norms."""
    if "kappa" in results:
        below = {k: row["below_clean"] for k, row in results["kappa"].items() if k != "clean"}
        words = ", ".join(f"{kind} {share:.0%}" for kind, share in below.items())
        yield f"damage: share of the images whose kappa it lowers: {words}"
    shares = results["fifths"]
    highest, lowest = (f"{shares[name][end]:.0%}" for end in ("highest", "lowest"))
    line = (
        f"errors: of all clean and damaged images, kNN is right for {highest} of the fifth with "
        f"the highest {name}, and for {lowest} of the fifth with the lowest"
    )
    norms = [key for key in shares if key != name]
    if norms:
        best = max(norms, key=lambda norm: results["auroc"][norm]["pooled"])
        line += (
            f" (by the {best}, which costs nothing: {shares[best]['highest']:.0%} and "
            f"{shares[best]['lowest']:.0%})"
        )
    yield line
    if "calibration" in results:
        ece = results["calibration"]["ece"]
        yield (
            "augmentations: without any label, kappa predicts the cosine of two views of an image "
            f"to within {ece:.3f} on average"
        )


def tables(results: dict) -> str:
    knn = results["knn"]
    lines = [
        f"kNN accuracy ({NEIGHBOURS} neighbours): clean {knn['clean']:.3f}, "
        f"all damages pooled {knn['pooled']:.3f}",
        "",
        "AUROC of a confidence        clean   pooled",
    ]
    for name, row in results["auroc"].items():
        if name != "chance_sd":
            lines.append(f"  {name:<24} {row['clean']:7.3f}  {row['pooled']:7.3f}")
    chance = results["auroc"]["chance_sd"]
    lines.append(f"  {'chance':<19} 0.5 +- {chance['clean']:.3f}    {chance['pooled']:.3f}")
    if "kappa" not in results:
        return "\n".join(lines)

    lines += ["", "kappa of the same image      mean       sd  below clean      kNN"]
    for name, row in results["kappa"].items():
        below = "" if name == "clean" else f"{row['below_clean']:.0%}"
        lines.append(
            f"  {name:<22} {row['mean']:8.1f} {row['sd']:8.1f} {below:>12} {knn[name]:8.3f}"
        )
    calibration = results["calibration"]
    lines += [
        "",
        "calibration by tenths, no label used (views as in training)",
        "  expected cosine  " + "".join(f" {value:6.3f}" for value in calibration["predicted"]),
        "  observed cosine  " + "".join(f" {value:6.3f}" for value in calibration["observed"]),
        f"  expected calibration error {calibration['ece']:.3f}",
    ]
    return "\n".join(lines)
