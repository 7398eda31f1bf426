"""Pictures of the screens, made by the product: `python -m tests.tui.pictures [FOLDER [NAME ... | all]]`.

Without words, those of the documentation, into docs/pictures. PNG where `rsvg-convert` is installed, else SVG.
"""

from __future__ import annotations

import asyncio
import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.cells import cell_len
from textual.pilot import Pilot

from core.record import events as e
from tests.tui.stage import Playing, Stage, build, realistic_diff
from tui.app import Cockpit
from tui.paint.theme import Look

CELL = 12.2  # width of a cell in Textual's export
FONT = "'DejaVu Sans Mono', Menlo, Consolas, monospace"
Step = Callable[[Pilot[int], Playing], Awaitable[None]]


def straighten(svg: str) -> str:
    """The export with spaces and fonts that every renderer agrees on: text starts where its first sign stands."""
    svg = re.sub(r"\s*@font-face \{.*?\}\s*(?=@font-face|\.terminal)", "\n", svg, flags=re.S)
    svg = svg.replace("font-family: Fira Code, monospace", f"font-family: {FONT}").replace(
        "font-size: 20px;", f"font-size: {CELL / 0.60205:.3f}px;"
    )

    def placed(match: re.Match[str]) -> str:
        """Each word, and each sign of a drawing, at its own cell: fonts disagree about widths and spaces."""
        text = html.unescape(match[4]).replace("\xa0", " ")
        out = []
        for piece in re.finditer(r"[\u2500-\u28ff]|[^\s\u2500-\u28ff]+", text):
            x = float(match[2]) + CELL * cell_len(text[: piece.start()])
            out.append(f"{match[1]}{x:g}{match[3]}{html.escape(piece[0])}</text>")
        return "".join(out)

    svg = re.sub(r'(<text class="[^"]*-r\d+" x=")([\d.]+)("[^>]*>)([^<]*)</text>', placed, svg)
    return re.sub(r' textLength="[\d.]+"', "", svg)


async def nothing(pilot: Pilot[int], source: Playing) -> None:
    return None


def keys(*names: str) -> Step:
    async def press(pilot: Pilot[int], source: Playing) -> None:
        for name in names:
            await pilot.press(name)
            await pilot.pause(0.05)

    return press


async def approval(pilot: Pilot[int], source: Playing) -> None:
    number = max(n for n in source.state.live)
    proposal = e.Proposed(
        experiment=number,
        hypothesis="Rotary base 20k: the context is only 64 tokens",
        rationale="A slower base wastes its pairs on positions that never occur.",
        expected=-0.0015,
        kind="architecture",
        diff=realistic_diff(5),
        files=("nanotrain/train.py",),
        added=3,
        removed=2,
        seconds=22.0,
    )
    source.happen(proposal, e.ApprovalRequested(number))


async def lost(pilot: Pilot[int], source: Playing) -> None:
    assert isinstance(pilot.app, Cockpit)
    now = pilot.app.clock()
    source.lose(now - 17, now + 4)


async def steering(pilot: Pilot[int], source: Playing) -> None:
    await keys("i", *"try wider MLPs")(pilot, source)


PICTURES: dict[str, tuple[tuple[int, int], str, Step]] = {
    "main": ((160, 48), "dark", nothing),
    "main-120x36": ((120, 36), "dark", nothing),
    "main-80x24": ((80, 24), "dark", nothing),
    "board-80x24": ((80, 24), "dark", keys("4", "j", "j", "j")),
    "main-ansi": ((160, 48), "ansi", nothing),
    "main-plain": ((120, 36), "plain", nothing),
    "selected": ((160, 48), "dark", keys("4", "j", "j", "j", "j")),
    "experiment": ((120, 36), "dark", keys("4", "j", "j", "j", "enter")),
    "experiment-diff": ((120, 36), "dark", keys("4", "j", "j", "j", "enter", "2")),
    "experiment-runs": ((120, 36), "dark", keys("4", "j", "j", "j", "enter", "3")),
    "experiment-curves": ((120, 36), "dark", keys("4", "j", "j", "j", "j", "enter", "4")),
    "lineage": ((120, 36), "dark", keys("L", "m", "k", "k", "m")),
    "failures": ((120, 36), "dark", keys("X", "j")),
    "costs": ((120, 36), "dark", keys("dollar_sign")),
    "compare": ((120, 36), "dark", keys("4", "j", "j", "j", "j", "m", "j", "j", "m", "c")),
    "logs": ((120, 36), "dark", keys("J", "slash", *"2.9", "enter")),
    "help": ((120, 36), "dark", keys("question_mark")),
    "stop": ((120, 36), "dark", keys("S")),
    "palette": ((120, 36), "dark", keys("ctrl+p")),
    "steer": ((120, 36), "dark", steering),
    "away": ((120, 36), "dark", keys("A")),
    "approval": ((120, 36), "dark", approval),
    "lost": ((120, 36), "dark", lost),
    "reasoning-zoomed": ((120, 36), "dark", keys("1", "z")),
}


IN_THE_DOCS = [
    "main", "main-120x36", "main-80x24", "experiment", "experiment-curves", "lineage", "failures", "costs", "compare",
    "launch",
]  # fmt: skip


async def take(stage: Stage, size: tuple[int, int], look: str, step: Step) -> str:
    source = Playing(stage)
    app = Cockpit(stage.paths.project, stage.paths, source=source, look=Look(look), clock=lambda: stage.now)
    async with app.run_test(size=size) as pilot:
        await pilot.pause(0.7)
        await step(pilot, source)
        await pilot.pause(0.5)
        return straighten(app.export_screenshot(title="autoresearch-tui"))


def small_project(place: Path) -> Path:
    """nanotrain in a repository of its own."""
    here = Path(__file__).parents[2]
    project = place / "nanotrain"
    shutil.copytree(here / "nanotrain", project / "nanotrain", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(here / "program.md", project / "program.md")
    (project / "README.md").write_text("nanotrain\n")
    for words in ("init -q", "add -A", "-c user.name=a -c user.email=a@example.org commit -qm first"):
        subprocess.run(["git", *words.split()], cwd=project, check=True)
    return project


async def take_launch(project: Path) -> str:
    """The launch screen, with what the real doctor says."""
    app = Cockpit(project, None, look=Look())
    async with app.run_test(size=(120, 36)) as pilot:
        for _ in range(200):
            await pilot.pause(0.1)
            if getattr(app.screen, "ready", None) is not None:
                break
        await pilot.pause(0.3)
        svg = straighten(app.export_screenshot(title="autoresearch-tui"))
    return svg.replace(str(project.parent), "~")


def main(folder: Path, only: list[str]) -> None:
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    # Commands on the screens are those of a person in the project's folder with the program on PATH.
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    with tempfile.TemporaryDirectory() as place:
        stage = build(Path(place))
        os.chdir(stage.paths.project)
        wanted = [*PICTURES, "launch"] if only == ["all"] else only or IN_THE_DOCS
        for name in wanted:
            size, look, step = PICTURES.get(name, ((120, 36), "dark", nothing))
            path = folder / f"{name}.svg"
            taken = (
                take_launch(small_project(Path(place) / "own")) if name == "launch" else take(stage, size, look, step)
            )
            path.write_text(asyncio.run(taken))
            if converter := shutil.which("rsvg-convert"):
                png = path.with_suffix(".png")
                width = "1500" if size[0] > 130 else "1400"
                subprocess.run([converter, "-w", width, "-o", str(png), str(path)], check=True)
                path.unlink()
                path = png
            print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures"), sys.argv[2:])
