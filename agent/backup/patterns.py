"""What of a source is protected: include and exclude patterns, and our own files never."""

import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from agent.errors import ConfigInvalid

if TYPE_CHECKING:
    import pathspec

# A star may end anywhere, and each one more multiplies the places to try: with these, what a long
# and hostile name costs stays below a second
MAX_STARS = 3  # of one component of a pattern
MAX_ANY_DEPTH = 2  # components `**` of a pattern


class Patterns:
    """Decides by path.  Patterns are those of .gitignore, on paths below the source.

    What `exclude` matches is left out, a directory with all that is in it.  Where there are
    `include` patterns, files that none of them matches are left out too.
    """

    def __init__(
        self,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        own: Iterable[bytes] = (),
    ) -> None:
        """Take the patterns, and paths below the source that hold Vitrine's own files."""
        self.lines = (tuple(include), tuple(exclude))
        self._include = _compiled(include) if include else None
        self._exclude = _compiled(exclude) if exclude else None
        self._own = frozenset(own)
        self.takes_all = not (self._include or self._exclude or self._own)

    def takes(self, path: bytes, *, is_directory: bool) -> bool:
        """Tell whether what lies at `path` below the source is protected, if its parent is."""
        if self.takes_all:
            return True
        if path in self._own:
            return False
        text = os.fsdecode(path) + ("/" if is_directory else "")
        if self._exclude is not None and self._exclude.match_file(text):
            return False
        return is_directory or self._include is None or self._include.match_file(text)

    def takes_below(self, path: bytes) -> bool:
        """Tell whether the directory at `path`, and every directory above it, is protected."""
        if self.takes_all or not path:
            return True
        steps = path.split(b"/")
        return all(
            self.takes(b"/".join(steps[:count]), is_directory=True)
            for count in range(1, len(steps) + 1)
        )


def own_paths(source: bytes, ours: Iterable[bytes]) -> list[bytes]:
    """Return those of our own absolute paths that lie below `source`, relative to it."""
    root = os.path.realpath(source)
    prefix = root.rstrip(b"/") + b"/"
    real = (os.path.realpath(path) for path in ours)
    return [path[len(prefix) :] for path in real if path.startswith(prefix)]


def _compiled(lines: Sequence[str]) -> "pathspec.GitIgnoreSpec":
    import pathspec  # noqa: PLC0415 - few sources have patterns, and each command would load it

    for line in lines:
        _check_stars(line)
    try:
        return pathspec.GitIgnoreSpec.from_lines(lines)
    except (ValueError, re.error) as error:  # [z-a] is turned into a regular expression as it is
        raise ConfigInvalid(
            f"a pattern is wrong: {error}", hint="patterns are written as in .gitignore"
        ) from error


def _check_stars(line: str) -> None:
    """Raise ConfigInvalid for a pattern that a name could be made for to match it for ever."""
    if line.startswith("#"):
        return
    parts = line.split("/")
    few = all(part.count("*") <= MAX_STARS for part in parts if part != "**")
    if not few or parts.count("**") > MAX_ANY_DEPTH:
        raise ConfigInvalid(
            f"a pattern has more than {MAX_STARS} stars between slashes, "
            f"or `**` more than {MAX_ANY_DEPTH} times",
            hint="write several patterns that say less each",
        )
