"""Who is on a clock or being scored, what the others may use meanwhile, and what a run got of its processors."""
