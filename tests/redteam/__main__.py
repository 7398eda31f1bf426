"""`python -m tests.redteam [NAME…]`: every cheat and honest variant, as a table; `--write` puts it in the docs."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests import ROOT
from tests.redteam.arena import Arena, Honest, Outcome, Variant, fault_of, progress
from tests.redteam.cheats.prior_knowledge import memorised
from tests.redteam.patches import BUILD, RESULT
from tests.redteam.variants import CHEATS, ESCAPES, HONEST

DOCS = ROOT / "docs" / "integrity.md"
REFERENCE = Variant("reference", "the unchanged code", (), "scored", slices=("val", "hidden"))
SHOWN = 110  # characters of a reason
NEAR, MOST_NEAR = 0.25, 3  # beside the nearest limit, those are named of which a variant used this share
Row = tuple[Variant, Outcome, str]


async def reference(arena: Arena, seeds: tuple[int, ...] = (1, 2, 3)) -> tuple[Honest, Outcome]:
    """Repeats of the unchanged code, of which the first is kept."""
    outcomes = await asyncio.gather(*(arena.meet(REFERENCE, seed, keep=seed == seeds[0]) for seed in seeds))
    for one in outcomes:
        if one.ended != "scored":
            raise SystemExit(f"the unchanged code was {one.ended}: {one.reason}\n{one.output[-2000:]}")
    values = [one.metrics["val"] for one in outcomes]
    hidden = statistics.mean(one.metrics["hidden"] - one.metrics["val"] for one in outcomes)
    return Honest(values[0], statistics.stdev(values), values[0] + hidden), outcomes[0]


def acts_when_scored(variant: Variant) -> bool:
    """Whether a cheat changes only what the model answers, so that it may have the weights of the unchanged code."""
    return {place for place, _ in variant.edits} <= {RESULT, BUILD} and variant.expected in ("rejected", "worthless")


class Scoreboard:
    """Prints a line for each variant that has ended, with a count."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.wrong, self.started = total, 0, 0, time.monotonic()

    def say(self, row: Row) -> None:
        variant, outcome, wrong = row
        self.done += 1
        self.wrong += bool(wrong)
        told = f"{outcome.metric:.4f}" if outcome.metric is not None else outcome.reason
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        count = f"{self.done:3}/{self.total} {minutes:2}:{seconds:02}"
        progress(f"{count} {'WRONG' if wrong else 'ok   '} {variant.name:38} {outcome.ended:9} {told[:SHOWN]}")
        if wrong:
            progress(f"{' ' * len(count)} {wrong}")


async def fight(
    arena: Arena, variants: list[Variant], honest: Honest, trained: Outcome, board: Scoreboard
) -> list[Row]:
    """Run all variants: idle ones first, then the newest. An error of the arena gives a wrong row."""

    async def one(variant: Variant) -> Row:
        try:
            outcome = await arena.meet(variant, weights_of=trained if acts_when_scored(variant) else None)
        except Exception as error:
            outcome = Outcome("fault", f"the arena could not run it: {type(error).__name__}: {error}")
        row = variant, outcome, fault_of(variant, outcome, honest)
        board.say(row)
        return row

    rows = await asyncio.gather(*(one(variant) for variant in sorted(reversed(variants), key=lambda v: not v.idle)))
    return sorted(rows, key=lambda row: variants.index(row[0]))


def cell(row: Row) -> str:
    _, outcome, wrong = row
    if wrong:
        return f"**{wrong}**"
    if outcome.ended == "scored":
        others = "".join(f", {name} {value:.3f}" for name, value in outcome.metrics.items() if name != "val")
        return f"scored {outcome.metric:.5g}{others}"
    return f"{outcome.ended}: {outcome.reason[:SHOWN]}"


def nearest(outcome: Outcome) -> str:
    """The limit of which a variant used the most, and others of which it used much."""
    near = sorted(((share, name) for name, share in outcome.shares.items()), reverse=True)[:MOST_NEAR]
    return ", ".join(f"{name} {share:.0%}" for n, (share, name) in enumerate(near) if share >= NEAR or not n)


def table(rows: list[Row], near: bool = False, old: Mapping[str, str] | None = None) -> str:
    """The rows as a table, with the limits that each came `near`; of those that did not run, the `old` lines."""
    new = {}
    for row in rows:
        cells = [row[0].name, row[0].does, cell(row).replace("|", "/"), *([nearest(row[1])] if near else [])]
        new[row[0].name] = f"| {' | '.join(cells)} |"
    head = ["variant", "what it does", "what became of it", *(["limits it came near"] if near else [])]
    lines = filter(None, {**(old or {}), **new}.values())
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines])


def written(name: str) -> dict[str, str]:
    """The lines of a table of docs/integrity.md by variant."""
    part = DOCS.read_text().split(f"<!-- {name} -->\n", 1)[1].split(f"<!-- end of {name} -->", 1)[0]
    return {line.split("|")[1].strip(): line for line in part.splitlines()[2:] if line.startswith("|")}


def attacks() -> str:
    """The table of attacks on the sandbox. test_sandbox_escapes.py, run before, asserts that each fails."""
    lines = ["| attack | what it does | how its run ends |", "|---|---|---|"]
    for one in ESCAPES:
        how = "gets nothing, and ends by itself" if one.ended == ("done",) else " or ".join(one.ended)
        told = f": {one.because.split('|')[0]}" if one.because else ""
        lines.append(f"| {one.name} | {one.does} | {how}{told} |")
    return "\n".join(lines)


def write(name: str, text: str) -> None:
    """Put `text` between the markers of docs/integrity.md."""
    page = DOCS.read_text()
    head, rest = page.split(f"<!-- {name} -->\n", 1)
    tail = rest.split(f"<!-- end of {name} -->", 1)[1]
    DOCS.write_text(f"{head}<!-- {name} -->\n{text}\n<!-- end of {name} -->{tail}")


async def main(options: argparse.Namespace) -> int:
    if options.write_attacks:
        write("escapes", attacks())
        return 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="autoresearch-red-", dir="/var/tmp") as folder:
        arena = await Arena(Path(folder), options.tier).open()
        cheats = [*CHEATS, *memorised(arena.prepared)]
        wanted = options.names
        honest, trained = await reference(arena)
        progress(f"unchanged: {honest.metric:.4f}, sigma {honest.sigma:.4f}, second slice {honest.hidden:.4f}")
        groups = {"cheats": cheats, "honest": HONEST}
        if wanted:
            groups = {name: [v for v in some if v.name in wanted] for name, some in groups.items()}
        board = Scoreboard(sum(map(len, groups.values())))
        rows = {name: await fight(arena, some, honest, trained, board) for name, some in groups.items()}
        await arena.close()
    broken = [row for some in rows.values() for row in some if row[2]]
    took = time.monotonic() - started
    for name, some in rows.items():
        print(table(some, near=name == "honest"), end="\n\n")
    print(f"{sum(map(len, rows.values()))} variants in {took:.0f} s; {len(broken)} not as they must be")
    if options.write:
        if not wanted:
            counts = f"{len(cheats)} cheats, {len(HONEST)} honest variants, {len(ESCAPES)} attacks on the sandbox."
            scale = f"The unchanged code scores {honest.metric:.3f} here, sigma {honest.sigma:.4f}"
            write("figures", f"{counts} {scale}; a gain under {honest.margin:.3f} is noise.")
        for (name, some), known in zip(rows.items(), (cheats, HONEST), strict=True):
            old = written(name)
            write(name, table(some, name == "honest", {v.name: old.get(v.name, "") for v in known if wanted}))
        write("escapes", attacks())
    return 1 if broken else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.redteam", description="Attack the number.")
    parser.add_argument("names", nargs="*", help="only these variants")
    parser.add_argument("--tier", choices=["A", "B"], help="the sandbox's tier (default: the best that works here)")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/integrity.md")
    parser.add_argument("--write-attacks", action="store_true", help="write its table of attacks, and run nothing")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(arguments())))
