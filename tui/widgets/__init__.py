"""The panes and lines that screens are made of. None of them knows the client; they read the SessionView."""
