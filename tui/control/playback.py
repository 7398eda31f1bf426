"""Actions on a recording that is played: hold, step, speed, jump"""

from __future__ import annotations

from core.record.errors import UsageError
from tui.host import Host
from tui.replay.recording import SPEEDS, Recording

JUMP_SHARE = 1 / 20  # of the recording, forward or backward


def _recording(host: Host) -> Recording:
    source = host.view.source
    assert isinstance(source, Recording)  # or the action would have been refused
    return source


def play(host: Host) -> None:
    recording = _recording(host)
    if recording.ended:
        _jump(host, 0.0)
        recording.playing = True
    else:
        recording.playing = not recording.playing
    recording.version += 1


def step(host: Host) -> None:
    _recording(host).step()


def faster(host: Host) -> None:
    _set_speed(host, next((s for s in SPEEDS if s > _recording(host).speed), SPEEDS[-1]))


def slower(host: Host) -> None:
    _set_speed(host, next((s for s in reversed(SPEEDS) if s < _recording(host).speed), SPEEDS[0]))


def _set_speed(host: Host, speed: float) -> None:
    recording = _recording(host)
    recording.speed, recording.version = speed, recording.version + 1
    host.tell(f"{speed:g} seconds of the session each second", "accent", 2.0)


def forward(host: Host) -> None:
    _jump(host, _recording(host).position + _recording(host).length * JUMP_SHARE)


def backward(host: Host) -> None:
    _jump(host, _recording(host).position - _recording(host).length * JUMP_SHARE)


def start_over(host: Host) -> None:
    _jump(host, 0.0)


def next_keep(host: Host) -> None:
    _jump_to_keep(host, _recording(host).next_keep(), "no later experiment is kept in this recording")


def previous_keep(host: Host) -> None:
    _jump_to_keep(host, _recording(host).previous_keep(), "no earlier experiment is kept in this recording")


def _jump_to_keep(host: Host, position: float | None, none: str) -> None:
    if position is None:
        host.tell(none, "warn")
    else:
        _jump(host, position)


def seek(host: Host) -> None:
    def written(text: str, *_: object) -> None:
        try:
            _jump(host, _recording(host).position_of(text))
        except UsageError as error:
            host.tell(str(error).replace("\n", " "), "warn")

    host.write("seek", "seek to (#12, 1h20m, 40%)", written)


def _jump(host: Host, position: float) -> None:
    recording = _recording(host)
    if position >= recording.position:
        recording.seek(position)
    else:
        # In the background: waiting here for a screen to close would block the messages that close it.
        host.start(host.show_again(lambda: recording.seek(position)))
