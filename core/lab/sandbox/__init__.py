"""Sandbox of a run, in tiers A, B and C."""
