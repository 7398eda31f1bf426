"""Tests of the check of a device."""
