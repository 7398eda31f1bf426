"""Attacks on the number and on the sandbox, made for real (`make redteam`). docs/integrity.md has the results."""
