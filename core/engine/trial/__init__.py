"""One run in the sandbox without a session: what it printed, read and wrote, and what a session would make of it."""
