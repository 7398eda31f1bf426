"""Cards of a running session: its guidance, its queue, and its researcher, budgets and slots"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from core.record import commands
from core.record.commands import Command, Reply
from core.record.errors import UsageError
from core.record.state import who
from tui.host import host_of
from tui.launch_form import Readiness, examine, number
from tui.paint.cells import brief
from tui.screens.dialogs import Confirm, ConfirmQuestion
from tui.screens.row_dialog import DialogRow, RowsCard
from tui.session_view import SessionView
from tui.widgets.prompt import UnsentText

Ask = Callable[[Command, Callable[[Reply], None]], None]  # sends a command and passes on its answer


class SteeringCard(RowsCard[None]):
    """A card that sends commands and shows the engine's answers."""

    def __init__(self, view: SessionView, ask: Ask) -> None:
        super().__init__(view)
        self._ask = ask

    def send(self, command: Command) -> None:
        self._ask(command, self.answered)

    def answered(self, reply: Reply) -> None:
        self.say(reply.message, "good" if reply.accepted else "warn")


class FollowingCard(SteeringCard):
    """A card of what changes by itself, too."""

    def __init__(self, view: SessionView, ask: Ask) -> None:
        super().__init__(view, ask)
        self._version = -1

    def on_mount(self) -> None:
        self.set_interval(0.2, self._look_again)

    def _look_again(self) -> None:
        if self.view.source.version != self._version:
            self._version = self.view.source.version
            self.again()


class QueueCard(FollowingCard):
    """The proposals that wait for a slot, in the order of their turn, and those that are being made."""

    TITLE_TEXT = "queue"
    HELP: ClassVar[str] = "J and K move it   d deletes   enter opens   esc closes"
    EMPTY: ClassVar[str] = "no proposal waits for a slot"

    def rows(self) -> list[DialogRow]:
        state, at_row = self.view.state, self.row.name if self.row else ""
        found = []
        for place, waiting in enumerate(state.queue, 1):
            x = state.experiments[waiting]
            where = f"{x.phase}, on {who(x.parent)}, by {x.researcher}"
            found.append(DialogRow(str(waiting), f"{place}. #{waiting}", where, x.hypothesis, "text"))
        self.at = next((at for at, row in enumerate(found) if row.name == at_row), self.at)  # it may have moved
        return found

    def chosen(self, row: DialogRow) -> None:
        self.dismiss(None)
        host_of(self).open_experiment(int(row.name))

    def key(self, row: DialogRow | None, character: str, key: str) -> None:
        if row is None:
            return
        step = {"shift+down": 1, "shift+up": -1}.get(key) or {"J": 1, "K": -1}.get(character)
        if step is not None:
            self._move(int(row.name), step)
        elif character == "d" or key == "delete":
            self._delete(int(row.name), row.hint)

    def _move(self, waiting: int, step: int) -> None:
        queue = self.view.state.queue
        place = queue.index(waiting) + 1 + step if waiting in queue else 0
        if 1 <= place <= len(queue):
            self.send(commands.MoveWaiting(waiting, place))

    def _delete(self, waiting: int, hypothesis: str) -> None:
        def answered(answer: str | None) -> None:
            if answer == "y":
                self.send(commands.DeleteWaiting(waiting))

        title, words = f"take #{waiting} out of the queue?", f"It ends as skipped, without a run: {brief(hypothesis)}"
        host_of(self).push(Confirm(self.view, ConfirmQuestion(title, words, (("y", "delete"),))), answered)


class GuidanceCard(FollowingCard):
    """Queued and standing guidance; its text can be changed until a proposal has used it."""

    TITLE_TEXT = "guidance"
    HELP: ClassVar[str] = "enter changes the text   d withdraws   i adds   esc closes"
    EMPTY: ClassVar[str] = "no guidance is queued or standing: i adds some"

    def __init__(self, view: SessionView, ask: Ask, more: Callable[[], None]) -> None:
        super().__init__(view, ask)
        self._more = more

    def rows(self) -> list[DialogRow]:
        found = []
        for place, g in enumerate(sorted(self.view.state.in_force(), key=lambda g: (g.taken_by is not None, g.id)), 1):
            kind = "idea" if g.idea else "standing" if g.standing else "once"
            where = f"{kind}, number {place} in the queue" if g.taken_by is None else f"{kind}, since #{g.taken_by}"
            found.append(DialogRow(str(g.id), f"{g.id}", where, g.text, "warn" if g.taken_by is None else "dim"))
        return found

    def chosen(self, row: DialogRow) -> None:
        number = int(row.name)
        if (guidance := self.view.state.guidance.get(number)) is None:
            return
        if guidance.taken_by is not None:
            self.say(f"#{guidance.taken_by} has used it: withdraw it (d) and write it again (i)", "warn")
            return
        label = "new text; enter changes, esc closes"
        self.ask(label, guidance.text, lambda text: self._reword(number, text), f"guidance {number}")

    def _reword(self, number: int, text: str) -> None:
        def answered(reply: Reply) -> None:
            if not reply.accepted and text:
                host_of(self).drafts[f"guidance {number}"] = UnsentText(text)
            self.answered(reply)

        self._ask(commands.EditGuidance(number, text) if text else commands.Withdraw(number), answered)

    def key(self, row: DialogRow | None, character: str, key: str) -> None:
        if character in ("d", "W") or key == "delete":
            if row is not None:
                self.send(commands.Withdraw(int(row.name)))
        elif character in ("i", ":"):
            self.dismiss(None)
            self._more()


class ChangeCard(SteeringCard):
    """Researcher, model, budgets and slots; each change takes effect with the next experiment."""

    TITLE_TEXT = "change this session"
    HELP: ClassVar[str] = "enter changes   ←→ another researcher   esc closes"

    def __init__(self, view: SessionView, ask: Ask) -> None:
        super().__init__(view, ask)
        self._ready: Readiness | None = None
        self._picked = ""

    def on_mount(self) -> None:
        self.run_worker(self._examine())
        self.set_interval(0.5, self.again)

    async def _examine(self) -> None:
        self._ready = await examine(self.view.paths.project)
        self.again()

    def rows(self) -> list[DialogRow]:
        state = self.view.state
        shown = self._picked or state.researcher
        role, words = ("warn", "enter confirms") if self._picked else ("text", "enter changes it")

        def limit(name: str) -> str:
            value = state.budget.get(name)
            return "no limit" if value is None else f"{value:g}"

        return [
            DialogRow("researcher", "Researcher", shown, self._about(shown) or words, role),
            DialogRow("model", "Model", state.model or "its default", "of the researcher, by its own name"),
            DialogRow("slots", "Slots", ",".join(state.slots), self._offered() or "such as cpu:2 or gpu:0,1"),
            DialogRow("experiments", "Experiments", limit("experiments"), f"{state.total} begun so far"),
            DialogRow("hours", "Hours", limit("hours"), f"{self.view.elapsed / 3600:.1f} so far"),
            DialogRow("usd", "Dollars", limit("usd"), f"${self.view.usd:.2f} so far" + " or more" * state.usd_unknown),
        ]

    def _about(self, name: str) -> str:
        if self._ready is None:
            return "checking this machine …"
        ok, note = next(((ok, note) for n, ok, note in self._ready.researchers if n == name), (True, ""))
        return note if ok else f"not ready: {note}"

    def _offered(self) -> str:
        return f"here: {', '.join(self._ready.slots)}" if self._ready and self._ready.slots else ""

    def key(self, row: DialogRow | None, character: str, key: str) -> None:
        step = {"left": -1, "right": 1, "space": 1}.get(key)
        if step is None or row is None or row.name != "researcher":
            return
        names = [name for name, _, _ in self._ready.researchers] if self._ready else []
        if names:
            now = self._picked or self.view.state.researcher
            at = names.index(now) if now in names else 0
            self._picked = names[(at + step) % len(names)]
            self.again()

    def chosen(self, row: DialogRow) -> None:
        if row.name == "researcher":
            name = self._picked or self.view.state.researcher
            if name == "scripted":
                self.ask("the script: a file of JSON lines", "", self._scripted, "script")
            else:
                self.send(commands.ChangeResearcher(name))
            return
        texts = {"model": self.view.state.model or "", "slots": ",".join(self.view.state.slots)}
        value = self.view.state.budget.get(row.name)
        text = texts.get(row.name, "" if value is None else f"{value:g}")
        self.ask(f"{row.label.lower()}: enter changes, esc cancels", text, lambda new: self._new(row.name, new))

    def _scripted(self, text: str) -> None:
        path = Path(text).expanduser().absolute()
        if not text or not path.is_file():
            self.say(f"there is no file {text!r}", "warn")
            return
        self.send(commands.ChangeResearcher("scripted", script=str(path)))

    def _new(self, name: str, text: str) -> None:
        if not text:
            self.say("nothing was changed", "dim")
            return
        if name == "model":
            self.send(commands.ChangeResearcher(self.view.state.researcher, model=text))
        elif name == "slots":
            self.send(commands.ChangeSlots(text.replace(" ", "")))
        else:
            try:
                value = number(name, text)
            except UsageError as error:
                self.say(str(error), "warn")
                return
            if name == "experiments":
                self.send(commands.ChangeBudget(experiments=None if value is None else int(value)))
            elif name == "hours":
                self.send(commands.ChangeBudget(hours=value))
            else:
                self.send(commands.ChangeBudget(usd=value))

    def answered(self, reply: Reply) -> None:
        if reply.accepted:
            self._picked = ""
        super().answered(reply)
