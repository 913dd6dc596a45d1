"""The story, one file per chapter: pure functions from a section and earlier results to a result."""
