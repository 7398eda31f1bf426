"""config.toml: errors with line, reason and hint; changes of one value; and the saved layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli

from core.record.errors import SettingsError
from tui.user_settings import Settings, change, config_path, read, remember, remembered

MINE = """\
# my own
[screen]
theme = "dark"  # at night
bell = true

[keys]
pause = ["P", "space"]
"""


def test_the_config_file_is_in_the_platform_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config_path() == tmp_path / "autoresearch-tui" / "config.toml"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config_path() == tmp_path / ".config" / "autoresearch-tui" / "config.toml"


def test_the_config_file_is_read_and_its_absence_means_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    assert read(path)[0] == Settings()
    path.write_text(MINE)
    assert read(path)[0] == Settings(theme="dark", bell=True, keys={"pause": ("P", "space")})


@pytest.mark.parametrize(
    "text,line,words",
    [
        ('[screen]\ntheme = "pink"\n', 2, ("pink", "blue-orange")),
        ("[screen]\nbell = 3\n", 2, ("3", "true or false")),
        ("[screen]\n\nthema = 1\n", 3, ("thema", "did you mean `theme`?")),
        ("[screem]\n", 1, ("screem",)),
        ("[screen\n", 1, ("not TOML",)),
        ("\n[keys]\npause = 7\n", 3, ("7", "a key in quotes")),
        ("[keys]\npause = ['']\n", 2, ("a key in quotes",)),
        ("[replay]\nspeed = -1\n", 2, ("-1", "more than 0")),
    ],
)
def test_errors_are_reported_with_their_line(tmp_path: Path, text: str, line: int, words: tuple[str, ...]) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read(path)
    said = str(caught.value)
    assert f"config.toml:{line}:" in said and "hint:" in said
    assert all(word in said for word in words), said
    with pytest.raises(SettingsError):
        change(path, "screen.bell", True)
    assert path.read_text() == text, "a file that does not read was written"


def test_changing_one_value_keeps_comments(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "config.toml"
    change(path, "screen.theme", "light")
    change(path, "replay.speed", 20.0)
    change(path, "keys.stop", ("ctrl+x", '"', "\\"))
    assert read(path)[0] == Settings(theme="light", replay_speed=20.0, keys={"stop": ("ctrl+x", '"', "\\")})
    path.write_text(MINE)
    change(path, "screen.bell", False)
    change(path, "screen.title", False)
    change(path, "keys.pause", None)
    assert "# my own" in path.read_text() and "# at night" in path.read_text()
    assert tomli.loads(path.read_text()) == {"screen": {"theme": "dark", "bell": False, "title": False}, "keys": {}}
    with pytest.raises(SettingsError):
        change(path, "screen.theme", "pink")
    assert read(path)[0].theme == "dark"


def test_a_value_over_several_lines_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    text = '[keys]\npause = [\n  "P",\n]\n'
    path.write_text(text)
    with pytest.raises(SettingsError, match="edit the file"):
        change(path, "keys.pause", ("Q",))
    assert path.read_text() == text


def test_the_layout_is_saved(state_folder: Path) -> None:
    assert remembered("layout") == {}
    remember("layout", {"hidden": ["diff"]})
    remember("board", {"sort": "newest"})
    assert remembered("layout") == {"hidden": ["diff"]} and remembered("board") == {"sort": "newest"}
    (state_folder / "screen.json").write_text("{broken")
    assert remembered("layout") == {}
