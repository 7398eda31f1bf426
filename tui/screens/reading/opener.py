"""Opening the screens for reading, from wherever a person is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.screen import Screen

    from tui.screens.base import ActionScreen


async def open_reading(screen: ActionScreen, name: str) -> None:
    """Show a screen by its place's name; from one for reading to another, in its stead."""
    from tui.screens.reading.reader import ReadingScreen

    made = _made(screen, name)
    if made is None:
        return
    if isinstance(screen, ReadingScreen) and screen.PLACE not in ("detail", "compare"):
        if screen.is_current:  # else it has been left, and what stands in its place is no page to be replaced
            screen.app.switch_screen(made)
    else:
        screen.app.push_screen(made)


def _made(screen: ActionScreen, name: str) -> Screen[None] | None:
    model = screen.cockpit.model
    if name == "lineage":
        from tui.screens.reading.experiment_lists import LineageScreen

        return LineageScreen(model)
    if name == "failures":
        from tui.screens.reading.experiment_lists import FailuresScreen

        return FailuresScreen(model)
    if name == "costs":
        from tui.screens.reading.costs import CostsScreen

        return CostsScreen(model)
    if name == "logs":
        from tui.screens.reading.logs import LogsScreen

        return LogsScreen(model)
    return _compared(screen)


def _compared(screen: ActionScreen) -> Screen[None] | None:
    """The two newest marks; one mark and what is shown; or what is shown and the best."""
    from tui.screens.reading.compare import CompareScreen

    model = screen.cockpit.model
    pair = model.compared()
    return None if pair is None else CompareScreen(model, *pair)
