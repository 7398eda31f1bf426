"""The engine of a session: commands in, events out."""
