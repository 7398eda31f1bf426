"""Who proposes: the Researcher protocol, its prompt and tools, and one file per kind of researcher."""
