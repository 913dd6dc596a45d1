"""A small convolutional network that learns from scratch on small pictures, from 8 to a few hundred pixels."""

from __future__ import annotations

from torch import Tensor, nn

# Above this side the picture is halved before the stages: their cost grows with the area, and what they see of it shrinks.
LARGEST_BEFORE_STAGES = 40
# A stage halves its map only while at least 4 x 4 places are left, so that 8-pixel pictures keep some of their layout.
SMALLEST_TO_HALVE = 7


class Residual(nn.Module):
    """Adds what its layers make of a map to the map itself, so that deeper stages are no harder to train (arXiv 1512.03385)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv_norm_relu(channels, channels), conv_norm_relu(channels, channels))

    def forward(self, maps: Tensor) -> Tensor:
        """[n, c, h, w] in and out."""
        return maps + self.layers(maps)


class SmallCnn(nn.Module):
    """Pictures [n, channels, height, width] (float32) to scores [n, outputs]; outputs is 1 for a number.

    A stem and three stages of 2, 4 and 8 times its width; strides follow from the shorter side. Any size is taken, but
    the network is built for the one it is told.
    """

    def __init__(
        self, channels: int, outputs: int, height: int, width: int, width_factor: float = 1.0, dropout: float = 0.1
    ) -> None:
        super().__init__()
        first = max(8, round(24 * width_factor / 8) * 8)
        side, layers = min(height, width), list[nn.Module]()
        stride = 2 if side > LARGEST_BEFORE_STAGES else 1
        layers.append(conv_norm_relu(channels, first, stride))
        side = -(-side // stride)
        while side > LARGEST_BEFORE_STAGES:
            layers.append(nn.MaxPool2d(3, 2, 1))
            side = -(-side // 2)
        for place, deep in enumerate((1, 1, 0)):
            stride = 2 if side >= SMALLEST_TO_HALVE else 1
            side = -(-side // stride)
            wide = first * 2**place
            layers += [conv_norm_relu(wide, 2 * wide, stride), *(Residual(2 * wide) for _ in range(deep))]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))
        self.head = nn.Linear(8 * first, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pictures: Tensor) -> Tensor:
        """[n, channels, height, width] to [n, outputs]."""
        return self.head(self.features(pictures))


def conv_norm_relu(given: int, made: int, stride: int = 1) -> nn.Sequential:
    """3 x 3 convolution, batch norm and ReLU; the norm has the bias."""
    return nn.Sequential(nn.Conv2d(given, made, 3, stride, 1, bias=False), nn.BatchNorm2d(made), nn.ReLU())
