"""What of a finished run counts: its time, its neighbours, what it may have read."""
