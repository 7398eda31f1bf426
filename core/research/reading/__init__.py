"""Sources for a researcher: code files, papers and arXiv."""
