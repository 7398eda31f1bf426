"""Cheats that cross from one process or run to another, and those that compute or know uncounted, by kind.

Each module has `CHEATS`, a list of `Variant`; a module that is put here is run. `Variant.beside` is the change of a
second run, which is starting up while the first is scored. A cheat that succeeded before its defence was made says
so in no comment: its row does. `python -m tests.redteam NAME… --write` writes the rows of docs/integrity.md.
"""
