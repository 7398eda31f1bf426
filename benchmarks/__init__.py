"""Benchmarks of the product, run by hand; `python -m benchmarks` lists them."""
