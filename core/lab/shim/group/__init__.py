"""What holds all processes of a command together: its control group, and its keeper."""
