"""The terminal itself: escape codes, hang-up, late errors."""
