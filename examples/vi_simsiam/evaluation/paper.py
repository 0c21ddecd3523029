"""The figures of Nakamura, Okada and Taniguchi (2023), by its tables. ResNet-18 on ImageNet100,
unless another data set is named; accuracies are fractions here."""

from __future__ import annotations

LINEAR = {  # Tables 2 and 9, by epochs
    "simsiam": "50: .411, 100: .639, 200: .785, 500: .816",
    "vi-simsiam": "50: .639, 100: .738, 200: .763, 500: .775",
    "dino": "200: .763",
}
LINEAR_CIFAR10 = {  # Table 6
    "simsiam": "100: .774, 200: .860, 500: .920",
    "vi-simsiam": "100: .899, 200: .930, 500: .928",
}
AUROC = {  # Figs. 4 and 5, clean test images: (kNN, linear)
    ("vi-simsiam", "kappa"): (".76", ".72"),
    ("dino", "negative entropy"): ("", ".67"),
}
RIGHT_AND_WRONG = {("vi-simsiam", "kappa"): "890.5 ± 140.5, 805.1 ± 131.2"}  # Table 4
AUGMENTATIONS = {  # Table 3, kappa of VI-SimSiam
    "clean": "852.6 ± 143.7",
    "blur": "836.1 ± 148.0",
    "colour jitter": "843.9 ± 144.6",
    "grayscale": "846.1 ± 140.5",
    "crop 0.05-1": "812.3 ± 159.1",
}
CROPS = {  # Table 5, linear, at 100, 200 and 500 epochs
    "whole image": ".733, .767, .775",
    "crop of highest kappa": ".735, .774, .776",
}
CROPS_KAPPA = "868, 811, 848 -> 918, 852, 893"
ENTROPY_AND_KAPPA = ".5459"  # Fig. 6; the paper gives no sign
FEW_LABELS = {  # Table 8, 100 epochs: 1 % and 10 %
    "scratch": (".108 ± .004", ".368 ± .006"),
    "simsiam": (".338 ± .015", ".646 ± .005"),
    "vi-simsiam": (".535 ± .005", ".688 ± .000"),
}
TRANSFER = {  # Table 7, 100 epochs: Flowers, Food, DTD, Aircraft, SUN397, Pet, Cars
    "simsiam": ".148 .467 .357 .104 .395 .405 .085",
    "vi-simsiam": ".645 .484 .518 .162 .464 .500 .137",
}
PAIRS = {"simsiam": "higher (Fig. 11)", "vi-simsiam": "lower (Fig. 11)"}
