"""What a researcher may read: code, papers and arXiv."""
