"""Recorded sessions, played."""
