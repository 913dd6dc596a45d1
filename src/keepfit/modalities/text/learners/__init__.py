"""One file per network for texts; the only place with heavy imports."""
