"""Measurements of this server, as scripts: ``python -m benchmarks``."""
