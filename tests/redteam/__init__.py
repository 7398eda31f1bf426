"""Attacks on the number and on the cage, made for real (`make redteam`). docs/integrity.md has the results."""
