"""Handlers of the commands that a person sends to a running session."""
