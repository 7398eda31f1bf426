"""Tests, laid out as the product is: a folder here for each folder there."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of the repository
