"""Researcher `command`: coding agents with a command line."""
