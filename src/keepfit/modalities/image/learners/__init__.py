"""One file per learner for pictures; the only place with heavy imports."""
