"""Time, memory and strength of nanotrain: training, scoring and preparing its text."""
