"""Options of all examples: numbers within bounds, devices, and errors of one line."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from typing import NoReturn

import torch

from .distributed import stop


def check_device(device: str, parser: Parser) -> None:
    if device == "cpu":
        return
    if device != "cuda":
        parser.error(f"--device must be cpu or cuda, got {device}")
    if not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU here")
    gpus, processes = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if processes > gpus:
        parser.error(f"--device cuda: {processes} processes need a GPU each, and there are {gpus}")


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        stop(message)


def number(
    low: float, high: float = math.inf, *, above: bool = False
) -> Callable[[str], int | float]:
    """A number from low (``above`` it) to high; a whole number where low is an int."""
    kind, words = (int, "a whole number") if isinstance(low, int) else (float, "a number")
    wanted = f"must be {words} {'above' if above else 'from'} {low}"
    wanted += f" to {high}" if high < math.inf else "" if above else " on"

    def parse(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if math.isinf(value) or not (low < value if above else low <= value) or value > high:
            raise argparse.ArgumentTypeError(f"{wanted}, got {text}")
        return value

    return parse
