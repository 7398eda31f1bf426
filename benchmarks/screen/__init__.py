"""Benchmarks of the screen in a pseudo-terminal or tmux, and the terminals that they use."""
