"""Augmentations of a whole batch at once: float images (N, C, H, W) in [0, 1], no Python loop.

Every function draws from the generator that it is given, so that a run can be repeated and resumed.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def training_views(images: Tensor, size: int, flip: bool, generator: Generator) -> Tensor:
    """SimSiam's crop, flip, colour jitter, grayscale and blur; and noise and cut-out.

    kappa tells how well the other view can be predicted. It learns to fall for the kinds of damage
    that training shows it, and only for those: noise and cut-out are here for that reason.
    """
    views = random_resized_crop(images, size, (0.2, 1.0), flip, generator)
    views = color_jitter(views, 0.4, 0.8, generator)
    if views.shape[1] == 3:
        views = random_grayscale(views, 0.2, generator)
    views = random_blur(views, (0.3, 1.2), 0.5, generator)
    views = random_noise(views, 0.4, 0.3, generator)
    return random_cutout(views, (0.2, 0.6), 0.3, generator)


def random_resized_crop(
    images: Tensor, size: int, scale: tuple[float, float], flip: bool, generator: Generator
) -> Tensor:
    """A random part of each image, of area in scale and sides 3:4 to 4:3, at size x size."""
    n, channels = images.shape[:2]
    area = _uniform(images, scale, generator)
    aspect = _uniform(images, (math.log(3 / 4), math.log(4 / 3)), generator).exp()
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    centre_x = _uniform(images, (-1, 1), generator) * (1 - width)
    centre_y = _uniform(images, (-1, 1), generator) * (1 - height)
    if flip:
        width = torch.where(_chosen(images, 0.5, generator), -width, width)
    zero = torch.zeros_like(width)
    affine = torch.stack([width, zero, centre_x, zero, height, centre_y], dim=-1).view(n, 2, 3)
    grid = F.affine_grid(affine, [n, channels, size, size], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def color_jitter(images: Tensor, strength: float, p: float, generator: Generator) -> Tensor:
    """Brightness, contrast and, of colour images, saturation, each by a factor in 1 +- strength."""
    chosen = _chosen(images, p, generator)

    def factor() -> Tensor:
        change = _uniform(images, (-strength, strength), generator)
        return 1 + torch.where(chosen, change, torch.zeros_like(change)).view(-1, 1, 1, 1)

    images = images * factor()
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * factor()
    if images.shape[1] == 3:
        gray = images.mean(dim=1, keepdim=True)
        images = gray + (images - gray) * factor()
    return images.clamp(0, 1)


def random_grayscale(images: Tensor, p: float, generator: Generator) -> Tensor:
    return _where(_chosen(images, p, generator), images.mean(dim=1, keepdim=True), images)


def random_blur(
    images: Tensor, sigma: tuple[float, float], p: float, generator: Generator
) -> Tensor:
    """One sigma for the batch, each image blurred or not."""
    batch_sigma = _uniform(images[:1], sigma, generator).item()
    return _where(_chosen(images, p, generator), gaussian_blur(images, batch_sigma), images)


def gaussian_blur(images: Tensor, sigma: float, radius: int = 3) -> Tensor:
    x = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.softmax(-(x**2) / (2 * sigma**2), dim=0)
    channels = images.shape[1]
    padded = F.pad(images, [radius] * 4, mode="reflect")
    rows = F.conv2d(padded, kernel.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)
    return F.conv2d(rows, kernel.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)


def random_noise(images: Tensor, highest: float, p: float, generator: Generator) -> Tensor:
    """Gaussian noise of a standard deviation between 0 and highest."""
    level = _uniform(images, (0, highest), generator) * _chosen(images, p, generator)
    return add_noise(images, level.view(-1, 1, 1, 1), generator)


def add_noise(images: Tensor, level: Tensor | float, generator: Generator) -> Tensor:
    noise = torch.randn(images.shape, device=images.device, generator=generator)
    return (images + level * noise).clamp(0, 1)


def random_cutout(
    images: Tensor, side: tuple[float, float], p: float, generator: Generator
) -> Tensor:
    """A black square; its side is a fraction of the image's."""
    half = _uniform(images, side, generator).view(-1, 1, 1) / 2
    x0 = _uniform(images, (0, 1), generator).view(-1, 1, 1)
    y0 = _uniform(images, (0, 1), generator).view(-1, 1, 1)
    y = torch.linspace(0, 1, images.shape[2], device=images.device).view(1, -1, 1)
    x = torch.linspace(0, 1, images.shape[3], device=images.device).view(1, 1, -1)
    inside = ((x - x0).abs() < half) & ((y - y0).abs() < half)
    cut = inside & _chosen(images, p, generator).view(-1, 1, 1)
    return images * ~cut[:, None]


def _uniform(images: Tensor, bounds: tuple[float, float], generator: Generator) -> Tensor:
    low, high = bounds
    return low + (high - low) * torch.rand(len(images), device=images.device, generator=generator)


def _chosen(images: Tensor, p: float, generator: Generator) -> Tensor:
    return torch.rand(len(images), device=images.device, generator=generator) < p


def _where(chosen: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(chosen.view(-1, 1, 1, 1), yes, no)
