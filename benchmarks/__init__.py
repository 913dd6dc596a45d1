"""Benchmarks: one file per goal, each prints one JSON line. `make bench` runs all."""
