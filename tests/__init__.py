"""Tests: one folder for each folder of the product."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of the repository
