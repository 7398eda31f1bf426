"""Real attacks on the metric and on the sandbox (`make redteam`). docs/integrity.md has the results."""
