"""Execution of runs: worktrees, sandbox, runner, scorer and devices."""
