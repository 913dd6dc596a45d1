"""One file per learner; the only place with heavy imports."""
