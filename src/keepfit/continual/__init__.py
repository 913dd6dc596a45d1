"""Learning on with few of the old rows or none: replay, ewc and lwf, on the shared trainer; knows nothing of any one input."""

VERSION = 1
