"""Coding agents with a command line as the researcher."""
