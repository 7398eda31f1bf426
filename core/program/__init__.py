"""program.md: read, checked, and refused with line, reason and hint."""
