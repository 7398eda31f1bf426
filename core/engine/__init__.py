"""The loop and the daemon: commands in, events out."""
