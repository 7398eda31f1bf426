"""Check of a device: what driver, torch and sandbox tiers make of it, and a shortened run of the project on it."""
