"""MobileNetV2 (arXiv 1801.04381) without its last layer, with the parameter names that torchvision's weight files use."""

from __future__ import annotations

from torch import Tensor, nn

# Table 2 of the paper: expansion, channels, repeats, stride of the first.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
STEM, FEATURES, SIZE = 32, 1280, 224


class MobileNetV2(nn.Module):
    """Pictures [n, 3, h, w] to features [n, 1280]; any size from 32 pixels."""

    def __init__(self) -> None:
        super().__init__()
        layers, given = [_unit(3, STEM, 3, 2)], STEM
        for expansion, made, repeats, first_stride in STAGES:
            for place in range(repeats):
                layers.append(InvertedResidual(given, made, expansion, 1 if place else first_stride))
                given = made
        self.features = nn.Sequential(*layers, _unit(given, FEATURES, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """[n, 3, h, w] to [n, 1280]: the mean of the last map."""
        return self.features(pictures).mean((2, 3))


class InvertedResidual(nn.Module):
    """Widens, filters each channel by itself, narrows; added to its input where the shapes agree."""

    def __init__(self, given: int, made: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = given * expansion
        layers = [_unit(given, wide, 1)] if expansion > 1 else []
        layers += [_unit(wide, wide, 3, stride, wide), nn.Conv2d(wide, made, 1, bias=False), nn.BatchNorm2d(made)]
        self.conv = nn.Sequential(*layers)
        self.adds = stride == 1 and given == made

    def forward(self, maps: Tensor) -> Tensor:
        """[n, given, h, w] to [n, made, h / stride, w / stride], rounded up."""
        return maps + self.conv(maps) if self.adds else self.conv(maps)


def _unit(given: int, made: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(given, made, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(made), nn.ReLU6())
