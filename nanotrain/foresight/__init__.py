"""Whether a model answers better where the future was told: it holds even if its processes tell each other all."""
