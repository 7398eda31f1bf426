"""The device of a run, and the warm-up on it."""
