"""Attacks on the sandbox and the shim, a module for each kind; a module that is put here is run.

Each module has `ATTACKS`, a list of `Escape`, which a run executes in every tier that works here. An attack prints
STOLEN when it got what it must not get, as `attempt` of the prelude does. `slow` ones are `make redteam`'s only: all
that take more than half a second, and all but one of those that show the same defence. Then
`python -m tests.redteam --write-attacks` writes the table of docs/integrity.md.
"""
