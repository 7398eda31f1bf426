"""The clients: the command line and the full-screen app."""
