"""Replay of a recorded session in the app."""
