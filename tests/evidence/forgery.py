"""What the owner of a log can do to it: rows changed in place, or all of it written again so that it fits itself."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from core.session import chain
from core.session.log import Log

Row = dict[str, Any]  # seq, time, experiment, body (as JSON)


def forge(database: Path, change: Callable[[list[Row]], list[Row]], *, whole: bool = False) -> None:
    """Rewrite the rows of a log. `whole`: renumber and chain them again, and fold the State again, as an engine would
    have written it; else only the rows that differ are touched.
    """
    with closing(sqlite3.connect(database)) as db:
        rows = [
            {"seq": seq, "time": time, "experiment": experiment, "body": json.loads(body)}
            for seq, time, experiment, body in db.execute("SELECT * FROM events ORDER BY seq")
        ]
        rows = change(rows)
        db.execute("DELETE FROM events")
        if whole:
            for number, row in enumerate(rows, 1):
                row["seq"] = number
            db.execute("DELETE FROM chain")
        for row in rows:
            body = json.dumps(row["body"], ensure_ascii=False, separators=(",", ":"))
            db.execute("INSERT INTO events VALUES (?,?,?,?)", (row["seq"], row["time"], row["experiment"], body))
        if whole:
            tip = chain.START
            for found in list(chain.rows_after(db, 0)):
                tip = chain.link(tip, found)
                db.execute("INSERT INTO chain VALUES (?,?)", (found[0], tip))
            db.execute("DELETE FROM head")
            db.execute("DELETE FROM experiments")
        db.commit()
    if whole:
        Log.append_to(database).close()  # writes the State


def of_type(rows: list[Row], name: str) -> list[Row]:
    return [row for row in rows if row["body"]["type"] == name]


def better(rows: list[Row]) -> list[Row]:
    """The kept experiment's run gave a better number."""
    scored = [row for row in of_type(rows, "run_finished") if row["body"]["metric"] is not None]
    run = next(row for row in scored if row["experiment"] == 1)
    run["body"]["metric"] -= 0.25
    return rows
