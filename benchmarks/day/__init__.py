"""A day in an hour: a session of short runs whose processes are killed every few seconds."""
