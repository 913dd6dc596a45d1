"""A network of one's own for a table: what keepfit knows is offered to the constructor by name."""

from torch import nn


class Wide(nn.Module):
    def __init__(self, features: int, classes: int, width: int = 64):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, classes))

    def forward(self, x):
        return self.body(x)
