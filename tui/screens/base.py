"""What every screen of the app shares: keys that come from the action registry, and the five-hertz flush."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from textual import events
from textual.widgets import Input

from tui.actions import Action
from tui.paint.canvas import Pane
from tui.paint.keyboard import KeyScreen
from tui.screens.reading.opener import open_reading
from tui.widgets.prompt import How, Prompt
from tui.widgets.status import Footer, Hint

if TYPE_CHECKING:
    from tui.app import Cockpit

MOST_UNWRITTEN = 3  # paintings on their way to the terminal; Textual blocks at thirty
REST_SECONDS = 60.0  # how often the readings of a session at rest are looked at
RESTING = 5  # of so many looks at a session at rest one is taken: only its files could have grown
FLUSH_SECONDS = 0.2  # data travels five times a second; keys paint at once


Size = Literal["full", "tabs", "words"]


def size_of(width: int, height: int) -> Size:
    """Which of the three sizes a terminal gets."""
    if width < 40 or height < 10:
        return "words"
    return "tabs" if width < 100 or height < 30 else "full"


class ActionScreen(KeyScreen[None]):
    """A screen whose keys mean what `tui.actions` says for its `PLACE`; `act_<name>`, here or in the app, does it."""

    PLACE: ClassVar[str] = ""
    AUTO_FOCUS = None
    prompt: Prompt
    _seen: tuple[object, ...] = ()
    _ticks = 0
    _seq = -1

    @property
    def cockpit(self) -> Cockpit:
        return cast("Cockpit", self.app)

    def on_mount(self) -> None:
        self.set_interval(FLUSH_SECONDS, self._tick)

    def _tick(self) -> None:
        self._ticks += 1
        model = self.cockpit.model
        seq, still = model.state.seq, model.at_rest or model.connection.status == "dead"
        if seq == self._seq and still and self._ticks % RESTING:
            return
        self._seq = seq
        if self._clogged():
            return  # a slow link: let what is on its way arrive before more is painted
        if self.is_current or (self.app.screen.is_modal and self.app.screen_stack[-2:-1] == [self]):
            self.follow()

    def _clogged(self) -> bool:
        """Whether the terminal has not taken in the last paintings yet."""
        writer = getattr(self.app._driver, "_writer_thread", None)
        return writer is not None and writer._queue.qsize() > MOST_UNWRITTEN

    def follow(self) -> None:
        """Read what is new; paint only where something is."""
        model = self.cockpit.model
        seen: tuple[object, ...] = (model.source.version, int(self.cockpit.clock()))
        if model.connection.status == "dead":
            seen = (model.source.version, 0)
        elif model.at_rest:  # readings flicker; a screen left open over a link for the night need not
            trouble = model.pulse.trouble if model.pulse else ""
            seen = (model.state.seq, trouble, int(self.cockpit.clock() / REST_SECONDS))
        if seen != self._seen:
            self.flush()
        else:
            self.flush_streams()
        self._seen = seen

    def flush(self) -> None:
        """Read what is new and paint all that changed."""

    def flush_streams(self) -> None:
        """The same for what grows beside the log: reasoning and output."""

    def poll_and_flush(self, panes: Sequence[Pane]) -> None:
        """Let panes take in what is new, and paint those that did."""
        for pane in panes:
            before = pane.revision()
            pane.poll()
            if pane.revision() != before:
                pane.flush()
        footer = self.query_one(Footer)
        if footer.expire(self.cockpit.clock()):
            footer.flush()

    def line(self) -> Input | None:
        return self.prompt.line if self.prompt.display else None

    async def write(self, line: Input, event: events.Key) -> None:
        if not self.prompt.special(event.key):
            await super().write(line, event)

    def written(self, purpose: str, text: str, how: How, pane: Pane | None) -> None:
        """A person has sent or left a line that nobody else waits for."""

    @property
    def page(self) -> int | None:
        """The experiment that this screen is about, if it is about one."""
        return None

    def listed(self) -> list[Action]:
        """The actions of this screen, for a live session or for a recording."""
        return list(self.cockpit.registry.for_place(self.PLACE, self.cockpit.model.replaying))

    async def command(self, event: events.Key) -> None:
        keys = {event.key, event.character}
        action = next((a for a in self.listed() if keys & set(a.keys)), None)
        if action is not None:
            await self.do(action)
        else:
            await self.app._check_bindings(event.key)

    async def do(self, action: Action) -> None:
        """Do it, or say why not. A screen that was left meanwhile (all was replaced) does nothing more."""
        if self not in self.app.screen_stack:
            return
        self.cockpit.model.page = self.page
        reason = action.reason(self.cockpit.model)
        if reason is not None:
            self.say(f"{action.title}: {reason}", "warn")
            return
        method = getattr(self, f"act_{action.name}", None) or self.cockpit.doing(action.name)
        await method()

    # -- panes --------------------------------------------------------------------------------------------------

    @property
    def focused_pane(self) -> Pane:
        """The one that keys move in."""
        raise NotImplementedError

    def _turn(self, step: int) -> None:
        """To the next pane (1) or the one before (-1), round the end."""
        raise NotImplementedError

    async def act_next_pane(self) -> None:
        self._turn(1)

    async def act_previous_pane(self) -> None:
        self._turn(-1)

    async def act_down(self) -> None:
        self.focused_pane.move(1)

    async def act_up(self) -> None:
        self.focused_pane.move(-1)

    async def act_page_down(self) -> None:
        self.focused_pane.page(1)

    async def act_page_up(self) -> None:
        self.focused_pane.page(-1)

    async def act_top(self) -> None:
        self.focused_pane.home()

    async def act_bottom(self) -> None:
        self.focused_pane.end()

    # -- the screens for reading --------------------------------------------------------------------------------

    async def act_lineage(self) -> None:
        await open_reading(self, "lineage")

    async def act_failures(self) -> None:
        await open_reading(self, "failures")

    async def act_costs(self) -> None:
        await open_reading(self, "costs")

    async def act_logs(self) -> None:
        await open_reading(self, "logs")

    async def act_compare(self) -> None:
        await open_reading(self, "compare")

    # -- the footer ---------------------------------------------------------------------------------------------

    def say(self, text: str, role: str = "text", seconds: float = 4.0) -> None:
        """Answer in the footer for some seconds."""
        footer = self.query_one(Footer)
        footer.say(text, role, seconds, self.cockpit.clock())

    def hints(self) -> Sequence[Hint]:
        """The footer: what works here, in its order. Nothing does while a card is in front."""
        if self.app.screen.is_modal:
            return []
        model = self.cockpit.model
        model.page = self.page
        listed = sorted((a for a in self.listed() if a.footer), key=lambda a: a.footer)
        return [(a.shown, a.titled(model), a.reason(model) is None, a.name) for a in listed]

    def on_screen_suspend(self) -> None:
        self.query_one(Footer).flush()

    def on_screen_resume(self) -> None:
        self.query_one(Footer).flush()

    async def on_footer_picked(self, message: Footer.Picked) -> None:
        found = next((a for a in self.listed() if a.name == message.action), None)
        if found is not None:
            await self.do(found)
