"""The terminal outside the screen: escape codes, hang-up, errors of closed screens."""
