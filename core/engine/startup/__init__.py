"""Start of an engine: checks before anything is written, preparation, recovery."""
