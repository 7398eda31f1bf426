"""What a run is confined by: tiers A, B and C."""
