"""The launch screen: readiness of this machine, a form for a new session, and sessions to open"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import Screen
from textual.widgets import Input, Static

from core.client.live import Client
from core.program.program import Program
from core.record.errors import AutoresearchError, SessionBusy, UncommittedChanges
from core.session.options import EngineOptions
from core.session.paths import SessionPaths
from core.session.trial_record import trial_result
from core.views import clean, one_line
from tui.host import Host, host_of
from tui.launch_form import Form, Readiness, examine, fresh_name, read_program
from tui.paint.theme import Look
from tui.replay.demo import ARCHIVE, SPEED, unpack_demo
from tui.screens.base import size_of
from tui.screens.data_card import DataCard
from tui.screens.dialogs import Confirm, ConfirmQuestion
from tui.screens.session_picker import LOOK_SECONDS, Glance, glances
from tui.screens.settings import SettingsCard
from tui.screens.trial_card import TrialCard
from tui.session_view import SessionView
from tui.widgets.choice import Choice, Menu

FIELDS: tuple[tuple[str, str, str], ...] = (
    ("session", "Session", "branch autoresearch/NAME"),
    ("model", "Model", "empty: its own default"),
    ("script", "Script", "proposals as JSON lines"),
    ("slots", "Slots", "such as cpu:2 or gpu:0,1"),
    ("run_budget", "Time budget", "of a run, such as 5m or 400 steps"),
    ("experiments", "Experiments", "at most; empty: no limit"),
    ("hours", "Hours", "stop after this time"),
    ("usd", "Dollars", "stop when this is spent"),
)
TOO_SMALL = "autoresearch: this terminal is too small to start from. q quits."
FOOT = " enter start or open   ↑↓ move   ←→ researcher   t try   , settings   esc quit"
START, TRY, DATA = "Start", "Try", "Data"
TRIED = {  # how the present program.md was tried
    None: "one run without a session (not tried yet)",
    True: "one run without a session (it worked)",
    False: "one run without a session (it showed a fault)",
}
DATA_NOTES = {None: "prepare them now, for the GPU", True: "prepared", False: "not prepared yet"}
DEMO = "Watch the demo"
DEVICE_CHECK = "device check"  # the finding that is told also when all was well
MAX_SESSIONS_LISTED = 6
RESUMABLE = ("stopped", "crashed", "paused")  # states that an engine can resume from
REQUIRED = (  # findings without which no session starts
    "python", "git", "disk", "program.md", "repository", "run command", "score command", "prepare command", "packages",
    "worktree",
)  # fmt: skip


class LaunchScreen(Screen[None]):
    """A form and a menu: up and down move, enter starts a session or opens the chosen row."""

    AUTO_FOCUS = "#menu"
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self, look: Look) -> None:
        super().__init__()
        self.look = look
        self.ready: Readiness | None = None
        self.starting = False
        self.small = False
        self.faults: tuple[str, ...] = ()
        self._first: dict[str, str] = {}  # what the fields said at first
        self._warned = False  # an esc has been asked for again

    @property
    def host(self) -> Host:
        return host_of(self)

    def compose(self) -> ComposeResult:
        project = self.host.project
        self._program = read_program(project)
        self._known: dict[Path, tuple[object, Glance]] = {}
        self._glances = glances(project, self._known)[:MAX_SESSIONS_LISTED]
        yield Static(TOO_SMALL, id="launch-words", markup=False)
        yield Static("", id="launch-head", markup=False)
        with VerticalScroll(id="launch-form", can_focus=False):
            yield Static(self._about(), id="launch-about", markup=False)
            yield Choice(self.look, "Researcher", id="researcher")
            for name, label, hint in FIELDS:
                with Horizontal(classes="field", id=f"field-{name}"):
                    yield Static(label, classes="label", markup=False)
                    self._first[name] = self._default(name)
                    line = Input(self._first[name], placeholder="", compact=True, id=name)
                    line.cursor_blink = False
                    yield line
                    yield Static(hint, classes="hint", markup=False)
            # After a crash the first session, not a new one, is the likely choice.
            cut_off = bool(self._glances) and self._glances[0].label == "crashed"
            rows = self._menu()
            first = _opens(self._glances[0]) if cut_off else rows[0][0]
            yield Menu(self.look, rows, at=[name for name, _ in rows].index(first), id="menu")
            yield Static("", id="launch-message", markup=False)
            yield Static("checking this machine …", id="launch-findings", markup=False)
        yield Static(FOOT, id="launch-foot", markup=False)

    def on_mount(self) -> None:
        self._show_fields()
        self._head()
        if isinstance(self._program, str):
            self._forbid("program.md")
        self._fit()
        self.run_worker(self._keep_looking())
        if self.host.settings_error:
            self.say(f"{self.look.glyph('no')} {self.host.settings_error}")
        # Not a worker: Textual would cancel it a second time while the doctor's process ends.
        self._examining = asyncio.create_task(self._examine())
        self._examining.add_done_callback(self._examined)

    async def on_unmount(self) -> None:
        self._examining.cancel()
        await asyncio.gather(self._examining, return_exceptions=True)

    def _examined(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self.app._handle_exception(error)

    def on_resize(self) -> None:
        self._fit()

    def _fit(self) -> None:
        """Show the form, or a sentence where it does not fit."""
        self.small = size_of(*self.app.size) == "words"
        for name in ("head", "form", "foot"):
            self.query_one(f"#launch-{name}").display = not self.small
        self.query_one("#launch-words").display = self.small
        if self.small:
            self.set_focus(None)
        elif self.focused is None:
            self.set_focus(self.query_one(Menu))

    # -- what is shown ------------------------------------------------------------------------------------------

    def _about(self) -> str:
        program = self._program
        where = clean(str(self.host.project))
        if isinstance(program, str):
            return f"Project       {one_line(where)}\n\n{clean(program)}\n"
        metric = f"{one_line(program.metric.name)} {program.metric.arrow}"
        metric += " (self-reported)" * program.metric.self_reported
        edits = one_line(", ".join(program.edit))
        return f"Project       {one_line(where)}\nEdits         {edits}      metric {metric}"

    def _default(self, name: str) -> str:
        program = self._program
        if name == "session":
            return fresh_name(self.host.project)
        if not isinstance(program, Program):
            return ""
        values = {"experiments": program.budget.experiments, "hours": program.budget.hours, "usd": program.budget.usd}
        value = values.get(name)
        return "" if value is None else f"{value:g}"

    def _menu(self) -> list[tuple[str, str]]:
        tried = trial_result(self.host.project)
        rows = [(START, "a new session with the settings above")]
        rows += [(_opens(g), self._line_of(g)) for g in self._glances]
        rows.insert(0 if tried is None and not self._glances else len(rows), (TRY, TRIED[tried]))
        if ARCHIVE.is_file():
            rows.append((DEMO, "a recorded session of nanotrain, faster than real time"))
        return [*rows, ("Quit", "")]

    def _line_of(self, g: Glance) -> str:
        sign = self.look.glyph("no" if g.word == "unreadable" else g.word)
        more = "" if g.alive or g.label not in RESUMABLE else " (R resumes it)"
        return f"{sign} {g.label}{more}   {g.words}"

    async def _keep_looking(self) -> None:
        """Keep the states of the listed sessions up to date."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self.is_current:
                found = await asyncio.to_thread(glances, self.host.project, self._known)
                lines = {_opens(g): self._line_of(g) for g in found}
                for menu in self.query(Menu):  # none once the screen is left
                    menu.set_notes(lines)

    def _forbid(self, *faults: str) -> None:
        """Disable the start and the trial; the faults are described elsewhere on the screen."""
        self.faults = faults
        menu = self.query_one(Menu)
        for index, (name, _) in enumerate(menu.rows):
            if name in (START, TRY):
                menu.disable(index, f"not yet: fix {' and '.join(faults)} first")

    def _head(self) -> None:
        ready = self.ready
        parts = [" autoresearch"]
        if ready and not ready.error:
            parts += [one_line(ready.device), f"sandbox {ready.sandbox}"]
        self.query_one("#launch-head", Static).update("     ".join(parts))

    def _show_fields(self) -> None:
        """Show only the fields that the chosen researcher uses."""
        chosen = self.query_one("#researcher", Choice).value
        self.query_one("#field-model").display = chosen not in ("control", "scripted", "human", "")
        self.query_one("#field-script").display = chosen == "scripted"
        self.query_one("#field-usd").display = chosen not in ("control", "scripted", "human", "")

    async def _examine(self) -> None:
        self.ready = ready = await examine(self.host.project)
        if not self.query("#launch-findings"):
            return  # the screen was left meanwhile
        findings = self.query_one("#launch-findings", Static)
        if ready.error:
            findings.update(f"{self.look.glyph('no')} {ready.error}")
            return
        self._head()
        chosen = ready.default or next((name for name, ok, _ in ready.researchers if ok), "")
        notes = [(name, "not ready: " * (not ok) + one_line(note)) for name, ok, note in ready.researchers]
        self.query_one("#researcher", Choice).offer(notes, chosen)
        if not (slots := self.query_one("#slots", Input)).value:
            slots.placeholder = ",".join(ready.slots)
        if isinstance(self._program, Program) and not self.query_one("#run_budget", Input).value:
            self.query_one("#run_budget", Input).placeholder = str(self._program.run_budget(ready.kind))
        if isinstance(self._program, Program) and ready.kind == "cuda" and self._program.prepare("cuda"):
            self.query_one(Menu).insert(START, DATA, DATA_NOTES[None])
        self._show_fields()
        if faults := [f.name for f in ready.findings if f.ok is False and f.name in REQUIRED]:
            self._forbid(*faults)
        findings.update("\n".join(self._finding_lines(ready)))

    def _finding_lines(self, ready: Readiness) -> list[str]:
        """Problems first, each with its hint; then the names of what is ready."""
        lines = []
        above = {"program.md"} if isinstance(self._program, str) else set()
        shown = [f for f in ready.findings if not f.name.startswith("researcher ") and f.name not in above]
        for finding in [f for f in shown if f.ok is not True]:
            sign = self.look.glyph("no" if finding.ok is False else "note")
            hint = f"   hint: {one_line(finding.hint)}" if finding.hint else ""
            lines.append(f"{sign} {one_line(finding.name)}: {one_line(finding.detail)}{hint}")
        well = [f for f in shown if f.ok]
        told = [f"{self.look.glyph('ok')} {f.name}: {one_line(f.detail)}" for f in well if f.name == DEVICE_CHECK]
        names = ", ".join(one_line(f.name) for f in well if f.name != DEVICE_CHECK)
        return [*lines, *told, f"{self.look.glyph('ok')} ready: {names}"]

    def say(self, text: str) -> None:
        self.query_one("#launch-message", Static).update(clean(text))

    # -- keys ---------------------------------------------------------------------------------------------------

    def _written(self) -> bool:
        """Whether a person has written something in the form."""
        return any(self.query_one(f"#{name}", Input).value != self._first[name] for name, _, _ in FIELDS)

    async def on_key(self, event: events.Key) -> None:
        writing = isinstance(self.focused, Input)
        warned, self._warned = self._warned, False
        if event.key == "escape" and self._written() and not warned:  # it may come from the terminal
            self._warned = True
            self.set_focus(self.query_one(Menu))
            self.say("esc once more quits, and what you have written here is gone")
        elif event.key in ("escape", "ctrl+c") or (event.key == "q" and not writing):
            self._leave()
        elif self.small:
            pass
        elif event.key == "comma" and not writing:
            self.app.push_screen(SettingsCard(self._no_session(), self.host))
        elif event.key == "t" and not writing:
            self._try()
        elif event.key in ("down", "tab"):
            self.focus_next()
        elif event.key in ("up", "shift+tab"):
            self.focus_previous()
        else:
            return
        event.stop()
        event.prevent_default()

    def on_choice_changed(self) -> None:
        self._show_fields()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._start()

    def on_menu_chosen(self, message: Menu.Chosen) -> None:
        row = self.query_one(Menu).rows[message.index][0]
        if row == START:
            self._start()
        elif row == TRY:
            self._try()
        elif row == DATA:
            card = DataCard(self._no_session(), self.host.project, self._tried_options())
            self.app.push_screen(card, self._data_prepared)
        elif row == "Quit":
            self._leave()
        elif row == DEMO:
            self.run_worker(self._demo())
        else:
            self.host.attach(next(g.paths for g in self._glances if _opens(g) == row))

    async def _demo(self) -> None:
        self.say("unpacking the demo …")
        try:
            paths = await asyncio.to_thread(unpack_demo)
        except AutoresearchError as error:
            self.say(f"{self.look.glyph('no')} {error}")
            return
        if paths is not None:
            self.host.play(paths, SPEED)

    def _try(self) -> None:
        """Try program.md with the slots and the time budget of the form."""
        if self.starting or self.small or self.faults:
            return
        card = TrialCard(self._no_session(), self.host.project, self._tried_options())
        self.app.push_screen(card, self._tried)

    def _tried_options(self) -> EngineOptions:
        """The slots and the time budget of the form."""
        form = self._form()
        return EngineOptions(
            slots=form.slots.strip().replace(" ", "") or None, run_budget=form.run_budget.strip() or None
        )

    def _data_prepared(self, there: bool | None) -> None:
        if there is not None and self.query("#menu"):
            menu = self.query_one(Menu)
            menu.set_notes({DATA: DATA_NOTES[there]})
            menu.choose(START if there else DATA)

    def _tried(self, works: bool | None) -> None:
        if works is not None and self.query("#menu"):
            menu = self.query_one(Menu)
            menu.set_notes({TRY: TRIED[works]})
            menu.choose(START if works else TRY)

    def _leave(self) -> None:
        """Go back to the screen below, or end the app."""
        if len(self.app.screen_stack) > 1:
            self.app.pop_screen()
        else:
            self.app.exit(0)

    # -- starting -----------------------------------------------------------------------------------------------

    def _form(self) -> Form:
        values = {name: self.query_one(f"#{name}", Input).value for name, _, _ in FIELDS}
        return Form(**values, researcher=self.query_one("#researcher", Choice).value)

    def _start(self, from_head: bool = False) -> None:
        if self.starting or self.small:
            return
        if self.faults:
            self.say(f"{self.look.glyph('no')} not yet: fix {' and '.join(self.faults)} first")
            return
        form = self._form()
        try:
            options = form.options(from_head)
        except AutoresearchError as error:
            self.say(f"{self.look.glyph('no')} {error}")
            return
        self.starting = True
        self.say("starting the engine …")
        paths = SessionPaths(self.host.project, form.session.strip())
        self.run_worker(lambda: self._launch(paths, options), thread=True)

    def _launch(self, paths: SessionPaths, options: EngineOptions) -> None:
        """Runs in a thread: the engine takes seconds to answer on a slow disk."""
        from core.client import start_engine

        try:
            start_engine(paths, options)
        except AutoresearchError as error:
            self.app.call_from_thread(self._refused, paths, error)
        else:
            self.app.call_from_thread(self.host.attach, paths)

    def _refused(self, paths: SessionPaths, error: AutoresearchError) -> None:
        self.starting = False
        self.say(f"{self.look.glyph('no')} {error}")
        if isinstance(error, UncommittedChanges):
            words = f"{error.what}\n\nRun from HEAD without these changes? They stay in your checkout as they are."
            self._confirm("uncommitted changes", words, "run from HEAD", lambda: self._start(from_head=True))
        elif isinstance(error, SessionBusy):
            words = f"{error.what}.\n\nAttach to it?"
            self._confirm("session in use", words, "attach", lambda: self.host.attach(paths))

    def _confirm(self, title: str, words: str, yes: str, then: Callable[[], None]) -> None:
        card = Confirm(self._no_session(), ConfirmQuestion(title, words, (("y", yes),), "no"))
        self.app.push_screen(card, lambda answer: then() if answer == "y" else None)

    def _no_session(self) -> SessionView:
        """A view for cards, as no session is open."""
        return SessionView(Client(SessionPaths(self.host.project, "none")), self.look, self.host.clock)


def _opens(g: Glance) -> str:
    """The name of the row that opens a session."""
    return f"Open {one_line(g.paths.name)}"
