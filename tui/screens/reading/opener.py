"""Opening of the screens for reading: lineage, failures, costs, logs and comparison"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.screens.base import ActionScreen
    from tui.screens.reading.reader import ReadingScreen


def open_lineage(screen: ActionScreen) -> None:
    from tui.screens.reading.lineage import LineageScreen

    _show(screen, LineageScreen(screen.host.view))


def open_failures(screen: ActionScreen) -> None:
    from tui.screens.reading.failures import FailuresScreen

    _show(screen, FailuresScreen(screen.host.view))


def open_costs(screen: ActionScreen) -> None:
    from tui.screens.reading.costs import CostsScreen

    _show(screen, CostsScreen(screen.host.view))


def open_logs(screen: ActionScreen) -> None:
    from tui.screens.reading.logs import LogsScreen

    _show(screen, LogsScreen(screen.host.view))


def open_compare(screen: ActionScreen) -> None:
    """Compare the two newest marks; or one mark and what is shown; or what is shown and the best."""
    from tui.screens.reading.compare import CompareScreen

    if (pair := screen.host.view.compared()) is not None:
        _show(screen, CompareScreen(screen.host.view, *pair))


def _show(screen: ActionScreen, made: ReadingScreen) -> None:
    """Push the screen; in place of a list, costs or logs, which are left."""
    if screen.PLACE in ("main", "detail", "compare"):
        screen.app.push_screen(made)
    elif screen.is_current:  # else it was left, and the screen in its place must stay
        screen.app.switch_screen(made)
