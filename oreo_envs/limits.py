"""How much is read of files that others made, and what is said where that is too much.

Knows: the limits, their defaults, the environment variables that raise them. Does not know: kinds of files.
"""

from __future__ import annotations

import fnmatch
import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

PREFIX = "OREO_MAX_"
"""What the names of the environment variables begin with: ``OREO_MAX_DEPTH``."""

_FREE = 64 << 20
"""Bytes that any file may unpack to, however small it is."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is read at most.

    Attributes:
        unpacked_bytes: that packed, Parquet and Arrow files, read together, may unpack to.
        expansion: times its own size that a file may unpack to; the first 64 MiB are not counted.
        members: of an archive; files and folders of a folder.
        part_bytes: bytes, or characters, of one row, of one member of an archive, of one document.
        depth: of lists and objects inside one another.
        aliased: values that the aliases (``*NAME``) of a YAML document stand for, those inside one another multiplied.
    """

    unpacked_bytes: int = 4 << 30
    expansion: int = 200
    members: int = 200_000
    part_bytes: int = 64 << 20
    depth: int = 100
    aliased: int = 10_000

    @classmethod
    def now(cls) -> Limits:
        """Return the limits, as the environment variables ``OREO_MAX_...`` have them.

        Raises:
            ValueError: one of these is no whole number above 0.
        """
        found: dict[str, int] = {}
        for field in fields(cls):
            name = f"{PREFIX}{field.name.upper()}"
            text = os.environ.get(name, "")
            if text and not (text.isascii() and text.isdigit() and len(text) < 20 and int(text)):
                raise ValueError(f"{name} must be a whole number above 0, got {text!r:.80}")
            found |= {field.name: int(text)} if text else {}
        return cls(**found)


def raised(name: str) -> str:
    """Say how a limit is raised, by its name in ``Limits``."""
    return f"if it is what you think it is, raise {PREFIX}{name.upper()}"


class Allowance:
    """How many bytes files may unpack to: all together, and each for what it weighs."""

    def __init__(self, limit: int | None = None) -> None:
        """Allow ``limit`` bytes, of None those of the limits."""
        self.limits = Limits.now()
        self._mend = raised("unpacked_bytes")
        if limit is not None:
            self._mend = "if it is what you think it is, raise max_unpacked_bytes"
        self.limit, self.used = self.limits.unpacked_bytes if limit is None else limit, 0
        self._name, self._weight, self._before = "", 0, 0

    def begin(self, name: str, weight: int) -> None:
        """Count what comes for a file of so many bytes."""
        self._name, self._weight, self._before = name, weight, self.used

    @property
    def _of_file(self) -> int:
        return _FREE + self.limits.expansion * self._weight

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return max(0, min(self.limit - self.used, self._of_file - (self.used - self._before)))

    def take(self, count: int) -> None:
        """Count bytes that the file unpacked to.

        Raises:
            ValueError: more than the limits.
        """
        self.look_ahead(count)
        self.used += count

    def look_ahead(self, count: int) -> None:
        """Count nothing, but refuse what a file says it unpacks to.

        Raises:
            ValueError: more than the limits.
        """
        if self.used + count > self.limit:
            raise ValueError(f"{self._name}: unpacks to more than {self.limit:,} bytes; {self._mend}")
        if count > self.left:
            raise ValueError(
                f"{self._name}: unpacks to more than {self._of_file:,} bytes, {self.limits.expansion} times the "
                f"{self._weight:,} that it has and {_FREE:,}; {raised('expansion')}"
            )


def read_document(file: Path) -> bytes:
    """Return what a file of others holds that is read at once.

    Raises:
        ValueError: it is longer than a part may be.
        OSError: it cannot be read.
    """
    limit = Limits.now().part_bytes
    with file.open("rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{file}: more than {limit:,} bytes, the most that is read of one; {raised('part_bytes')}")
    return content


class TooDeepError(ValueError):
    """Lists and objects lie deeper inside one another than is read."""

    def __init__(self, depth: int) -> None:
        """Name the limit."""
        super().__init__(f"lists and objects more than {depth} deep inside one another; {raised('depth')}")


def read_json(text: str | bytes, depth: int | None = None) -> Any:
    """Read JSON that others wrote.

    Args:
        text: all of it.
        depth: that lists and objects may have inside one another; None: of the limits.

    Raises:
        TooDeepError: it is deeper.
        ValueError: it is no JSON.
    """
    limit = Limits.now().depth if depth is None else depth
    try:
        value = json.loads(text)
    except RecursionError:
        raise TooDeepError(limit) from None
    opened = text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    if opened > limit:
        require_shallow(value, limit)
    return value


def require_shallow(value: Any, depth: int) -> None:
    """Refuse a value of JSON that is deeper than ``depth``; it costs as much as there are values.

    Raises:
        TooDeepError: it is.
    """
    layer = [value]
    for _ in range(depth + 1):
        nested = [each for each in layer if isinstance(each, dict | list)]
        if not nested:
            return
        layer = [child for each in nested for child in (each.values() if isinstance(each, dict) else each)]
    raise TooDeepError(depth)


def read_yaml(text: str, *, aliases: bool = True) -> Any:
    """Read YAML that others wrote, as data.

    Args:
        text: all of it.
        aliases: whether it may have any (``*NAME``): a few lines of them stand for any number of values.

    Raises:
        ValueError: it is no YAML, is deeper or has more behind its aliases than the limits, or has some at all.
    """
    import yaml

    require_small_yaml(text, aliases=aliases)
    try:
        return yaml.load(text, _loader())
    except (yaml.YAMLError, RecursionError, TypeError) as error:  # an unhashable key
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def require_small_yaml(text: str, *, aliases: bool = True) -> None:
    """Refuse YAML that would unfold to more than the limits, before anything is made of it.

    Raises:
        ValueError: it would; of what is no YAML whoever reads it tells.
    """
    import yaml

    limits = Limits.now()
    sizes: dict[str, int] = {}
    opened: list[tuple[str | None, int]] = []  # the anchor of each collection, and the values counted before it
    count = aliased = 0
    try:
        for event in yaml.parse(text, _loader()):
            if isinstance(event, yaml.CollectionStartEvent):
                opened.append((event.anchor, count))
                if len(opened) > limits.depth:
                    raise TooDeepError(limits.depth)
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, before = opened.pop()
                sizes |= {} if anchor is None else {anchor: count - before}
            elif isinstance(event, yaml.AliasEvent):
                if not aliases:
                    raise ValueError("it has aliases (*NAME)")
                if any(anchor == event.anchor for anchor, _ in opened):
                    raise ValueError(f"*{event.anchor} stands inside what it stands for")
                count += sizes.get(event.anchor, 1) - 1
                aliased += sizes.get(event.anchor, 1)
                if aliased > limits.aliased:
                    raise ValueError(
                        f"its aliases (*NAME) stand for more than {limits.aliased:,} values; {raised('aliased')}"
                    )
            count += isinstance(event, yaml.NodeEvent)
    except yaml.YAMLError:
        return


def _loader() -> Any:
    """Return PyYAML's reader of plain data, that in C where there is one: it takes a tenth of the time."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def files_below(folder: Path, pattern: str = "*", *, depth: int | None = None) -> list[Path]:
    """Return the files in a folder and the folders inside it, sorted.

    Args:
        folder: where.
        pattern: of their names.
        depth: how many folders inside one another are looked into, the first among them; None: all.

    Raises:
        ValueError: there is more than the limit in it.
    """
    most, count = Limits.now().members, 0
    found = []
    for root, folders, names in os.walk(folder):
        count += len(folders) + len(names)
        if count > most:
            raise ValueError(
                f"{folder}: more than {most:,} files and folders in it; give the folder that is meant, or raise "
                f"{PREFIX}MEMBERS"
            )
        found += [Path(root, name) for name in names if fnmatch.fnmatchcase(name, pattern)]
        if depth is not None and len(Path(root).relative_to(folder).parts) + 1 >= depth:
            folders.clear()
    return sorted(path for path in found if path.is_file())
