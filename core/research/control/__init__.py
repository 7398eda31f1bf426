"""Researcher `control`: classical optimization over the constants of the code."""
