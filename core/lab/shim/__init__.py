"""The process beside each run: standard library only, started in milliseconds."""
