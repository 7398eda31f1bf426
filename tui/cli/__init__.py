"""The command line: a parser that teaches, and one file for each family of commands."""
