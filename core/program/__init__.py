"""program.md: settings in TOML, then prose for the researcher"""
