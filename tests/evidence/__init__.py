"""Tests of core/evidence: what is forged in a real session, and what `verify` says of it."""
