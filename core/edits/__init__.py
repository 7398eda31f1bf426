"""Changes of text: applied, matched, parsed, compared, and held to the rules of program.md. Pure."""
