"""Benchmarks of the engine: what it costs at rest, at work and to start."""
