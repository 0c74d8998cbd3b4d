"""A registry: the entries of a plug point by name, ours and those of installed packages.

    PROVIDERS["tencent"]  ->  Provider("tencent", ...)

A package names an entry of its own as an entry point of the registry's group. To find those, the metadata of
every installed package are read, so that waits for a name that is not ours, or for a listing.
"""

import functools
import importlib.metadata
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

log = logging.getLogger(__name__)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Entry = TypeVar("_Entry", bound=_Named)


class Registry(Mapping[str, _Entry]):
    """The entries of a plug point, all of one kind; ``built_in`` are ours."""

    def __init__(self, group: str, kind: type[_Entry], built_in: Iterable[_Entry]) -> None:
        self.built_in = {entry.name: entry for entry in built_in}
        self._group, self._kind = group, kind

    @functools.cached_property
    def entries(self) -> dict[str, _Entry]:
        """All entries; no package replaces one of ours."""
        return {entry.name: entry for entry in self._installed()} | self.built_in

    def __getitem__(self, name: str) -> _Entry:
        return self.built_in[name] if name in self.built_in else self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def _installed(self) -> Iterator[_Entry]:
        for entry_point in importlib.metadata.entry_points(group=self._group):
            try:
                entry = entry_point.load()
            except Exception as error:  # noqa: BLE001  another package's fault must not stop every command
                entry = error
            if isinstance(entry, self._kind):
                yield entry
            else:
                what = f"{self._kind.__name__.lower()} {entry_point.name}"
                log.warning("%s of an installed package cannot be loaded: %r", what, entry)
