"""Augmentations of a whole batch at once: float images (N, C, H, W) in [0, 1], no Python loop.

Every function draws from the Random that it is given, so that a run can be repeated and resumed.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LARGE, SMALL = (0.2, 1.0), (0.05, 0.2)  # the part of the image's area that a crop has


class Random:
    """Random numbers for a batch that is spread over processes.

    Every process draws the numbers of the whole batch from the same seed and keeps those of its own
    images, so that an image is augmented alike whatever the number of processes is.
    """

    def __init__(
        self, device: torch.device | str, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.device, self.rank, self.world_size = device, rank, world_size
        self.generator = torch.Generator(device).manual_seed(seed)

    def uniform(self, n: int, bounds: tuple[float, float]) -> Tensor:
        """One number for each of the n images of this process."""
        low, high = bounds
        return low + (high - low) * self._own(torch.rand, (n,))

    def chosen(self, n: int, p: float) -> Tensor:
        return self._own(torch.rand, (n,)) < p

    def normal(self, shape: torch.Size) -> Tensor:
        return self._own(torch.randn, tuple(shape))

    def shared(self, bounds: tuple[float, float]) -> Tensor:
        """One number for all images of all processes, of shape (1,)."""
        low, high = bounds
        return low + (high - low) * torch.rand(1, device=self.device, generator=self.generator)

    def _own(self, draw, shape: tuple[int, ...]) -> Tensor:
        n, *rest = shape
        whole = draw((self.world_size * n, *rest), device=self.device, generator=self.generator)
        return whole[self.rank * n : (self.rank + 1) * n]


def multi_crop(
    images: Tensor, size: int, flip: bool, n_small: int, damage: bool, random: Random
) -> list[Tensor]:
    """Two large views of all images, (2N, C, size, size), and n_small small ones.

    The small views have 3/7 of the large ones' side, as 96 pixels are of 224.
    """
    views = [torch.cat([training_views(images, size, flip, random, damage) for _ in range(2)])]
    if n_small:
        small = max(8, round(size * 3 / 7))
        parts = [training_views(images, small, flip, random, damage, SMALL) for _ in range(n_small)]
        views.append(torch.cat(parts))
    return views


def training_views(
    images: Tensor,
    size: int,
    flip: bool,
    random: Random,
    damage: bool = True,
    scale: tuple[float, float] = LARGE,
) -> Tensor:
    """SimSiam's crop, flip, colour jitter, grayscale and blur; and with damage noise and cut-out.

    kappa tells how well the other view can be predicted. It learns to fall for the kinds of damage
    that training shows it, and only for those: noise and cut-out are here for that reason.
    """
    views = random_resized_crop(images, size, scale, flip, random)
    views = color_jitter(views, 0.4, 0.8, random)
    if views.shape[1] == 3:
        views = random_grayscale(views, 0.2, random)
    if size < 64:
        views = random_blur(views, (0.3, 1.2), 0.5, random)
    else:
        views = random_blur(views, (0.1, 2.0), 0.5, random, radius=6)
    if not damage:
        return views
    views = random_noise(views, 0.4, 0.3, random)
    return random_cutout(views, (0.2, 0.6), 0.3, random)


def random_resized_crop(
    images: Tensor, size: int, scale: tuple[float, float], flip: bool, random: Random
) -> Tensor:
    """A random part of each image, of area in scale and sides 3:4 to 4:3, at size x size."""
    n, channels = images.shape[:2]
    area = random.uniform(n, scale)
    aspect = random.uniform(n, (math.log(3 / 4), math.log(4 / 3))).exp()
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    centre_x = random.uniform(n, (-1, 1)) * (1 - width)
    centre_y = random.uniform(n, (-1, 1)) * (1 - height)
    if flip:
        width = torch.where(random.chosen(n, 0.5), -width, width)
    zero = torch.zeros_like(width)
    affine = torch.stack([width, zero, centre_x, zero, height, centre_y], dim=-1).view(n, 2, 3)
    grid = F.affine_grid(affine, [n, channels, size, size], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def color_jitter(images: Tensor, strength: float, p: float, random: Random) -> Tensor:
    """Brightness, contrast and, of colour images, saturation, each by a factor in 1 +- strength.

    The hue of colour images turns by a quarter of strength, as a part of the colour circle.
    """
    n = len(images)
    chosen = random.chosen(n, p)

    def factor() -> Tensor:
        change = random.uniform(n, (-strength, strength))
        return 1 + torch.where(chosen, change, torch.zeros_like(change)).view(-1, 1, 1, 1)

    images = images * factor()
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * factor()
    if images.shape[1] == 3:
        gray = images.mean(dim=1, keepdim=True)
        images = turn_hue(gray + (images - gray) * factor(), (factor() - 1) * (math.pi / 2))
    return images.clamp(0, 1)


def turn_hue(images: Tensor, angle: Tensor) -> Tensor:
    """Turns the colours around the gray axis by an angle in radians, (N, 1, 1, 1)."""
    gray = images.mean(dim=1, keepdim=True)
    ahead, behind = images.roll(1, dims=1), images.roll(-1, dims=1)
    across = (ahead - behind) / math.sqrt(3)  # the cross product with the gray axis
    return gray + (images - gray) * angle.cos() + across * angle.sin()


def random_grayscale(images: Tensor, p: float, random: Random) -> Tensor:
    return _where(random.chosen(len(images), p), images.mean(dim=1, keepdim=True), images)


def random_blur(
    images: Tensor, sigma: tuple[float, float], p: float, random: Random, radius: int = 3
) -> Tensor:
    """One sigma for the batch, each image blurred or not."""
    batch_sigma = random.shared(sigma)
    chosen = random.chosen(len(images), p)
    return _where(chosen, gaussian_blur(images, batch_sigma, radius), images)


def gaussian_blur(images: Tensor, sigma: Tensor | float, radius: int = 3) -> Tensor:
    """sigma is a number, or a tensor (1,) on the device, which no GPU has to be waited for."""
    x = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    sigma = torch.as_tensor(sigma, dtype=torch.float64, device=images.device)
    kernel = torch.softmax(-(x**2) / (2 * sigma**2).to(x.dtype), dim=0)
    channels = images.shape[1]
    padded = F.pad(images, [radius] * 4, mode="reflect")
    rows = F.conv2d(padded, kernel.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)
    return F.conv2d(rows, kernel.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)


def random_noise(images: Tensor, highest: float, p: float, random: Random) -> Tensor:
    """Gaussian noise of a standard deviation between 0 and highest."""
    n = len(images)
    level = random.uniform(n, (0, highest)) * random.chosen(n, p)
    return add_noise(images, level.view(-1, 1, 1, 1), random)


def add_noise(images: Tensor, level: Tensor | float, random: Random) -> Tensor:
    return (images + level * random.normal(images.shape)).clamp(0, 1)


def random_cutout(images: Tensor, side: tuple[float, float], p: float, random: Random) -> Tensor:
    """A black square; its side is a fraction of the image's."""
    n = len(images)
    half = random.uniform(n, side).view(-1, 1, 1) / 2
    x0 = random.uniform(n, (0, 1)).view(-1, 1, 1)
    y0 = random.uniform(n, (0, 1)).view(-1, 1, 1)
    y = torch.linspace(0, 1, images.shape[2], device=images.device).view(1, -1, 1)
    x = torch.linspace(0, 1, images.shape[3], device=images.device).view(1, 1, -1)
    inside = ((x - x0).abs() < half) & ((y - y0).abs() < half)
    cut = inside & random.chosen(n, p).view(-1, 1, 1)
    return images * ~cut[:, None]


def _where(chosen: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(chosen.view(-1, 1, 1, 1), yes, no)
