"""git's own files of a repository, read where no git is started: the app looks at them while it draws"""

from __future__ import annotations

from pathlib import Path


def git_folders(project: Path) -> tuple[Path, Path] | None:
    """(git's folder of the checkout, that of its branches): two in a linked worktree. None outside a repository.
    Raises OSError.
    """
    top = next((place for place in (project, *project.parents) if (place / ".git").exists()), None)
    if top is None:
        return None
    folder = top / ".git"
    if folder.is_file():
        folder = top / _path_in(folder).removeprefix("gitdir:").strip()
    common = folder / "commondir"
    return folder, folder / _path_in(common).strip() if common.is_file() else folder


def packed_refs(common: Path) -> dict[str, str]:
    """The commit of each ref that has no file of its own, or had none once. Raises OSError."""
    packed = common / "packed-refs"
    lines = packed.read_text(errors="replace").splitlines() if packed.is_file() else []
    return {ref: commit for commit, _, ref in (line.partition(" ") for line in lines) if commit[:1] not in ("#", "^")}


def _path_in(file: Path) -> str:
    return file.read_text(errors="surrogateescape")
