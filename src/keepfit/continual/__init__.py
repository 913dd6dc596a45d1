"""Learning on without the old rows, or with few of them: replay, ewc and lwf, on the shared trainer; knows nothing of any one kind of input."""
