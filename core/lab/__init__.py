"""Where experiments run: git worktrees, the sandbox, the runner, the scorer and device telemetry."""
