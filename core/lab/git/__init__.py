"""The project's git repository, worked on by plumbing alone."""
