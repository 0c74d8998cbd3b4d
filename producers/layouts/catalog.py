"""The registry of layouts: ours, those of installed packages, and the user's `--map`.

    recognise({"passage": None, "question": "……", "options": [...], "label": "A"})  ->  Flat("agieval", ...)

A package adds a layout as an entry point of the group `votequeue.formats`.
"""

from typing import Any

from producers.layouts import agieval, arc, ceval, logiqa, lsat, mapping, mmlu, race, votequeue_entries
from producers.layouts.types import Layout
from shared.errors import UserError
from shared.options import Reading
from shared.registry import Registry

ENTRY_POINTS = "votequeue.formats"
_MODULES = (votequeue_entries, agieval, ceval, mmlu, arc, logiqa, lsat, race)

FORMATS: Registry[Layout] = Registry(
    ENTRY_POINTS,
    # The registry only compares with it.
    Layout,  # type: ignore[type-abstract]
    [layout for module in _MODULES for layout in module.LAYOUTS],
)
OWN = FORMATS.built_in[votequeue_entries.NAME]


def chosen(reading: Reading) -> Layout | None:
    """Return the layout that the user named or described; ``None``: it is to be recognised.

    Raises:
        UserError: there is no such layout, or the options contradict each other.
    """
    if reading.map:
        if reading.format not in (None, mapping.NAME):
            raise UserError(f"--format {reading.format} and --map exclude each other: choose one")
        return mapping.of_arguments(reading.map, reading.answers or "letter")
    if reading.answers is not None:
        raise UserError("--answers requires --map, which says where the answers are")
    if reading.format is None:
        return None
    if reading.format not in FORMATS:
        raise UserError(f"--format {reading.format}: there are {', '.join(FORMATS)}, and --map for any other")
    return FORMATS[reading.format]


def recognise(row: Any) -> Layout | None:
    """Return the layout of a row if it is beyond doubt, else ``None``."""
    layouts = [layout for layout in FORMATS.values() if layout.recognises(row)]
    return layouts[0] if len(layouts) == 1 else None


def unknown(place: str, row: Any) -> UserError:
    """Describe rows whose layout is not beyond doubt."""
    layouts = [layout.name for layout in FORMATS.values() if layout.recognises(row)]
    what = f"has rows of {len(row)} cells" if isinstance(row, list) else "has rows without fields"
    if isinstance(row, dict):
        what = f"has the fields {', '.join(name or '(no name)' for name in list(row)[:8])}"
    which = f"fits several layouts ({', '.join(layouts)})" if layouts else "is in no known layout"
    return UserError(
        f"{place} {which}: it {what}; name the layout with --format ({', '.join(FORMATS)}), or say with "
        "--map where question, options and answer are"
    )


def of_record(record: dict[str, Any] | None) -> Layout:
    """Return the layout that a ledger's rows are in; ``None`` stands for votequeue's own.

    Raises:
        UserError: the package that brought it is not installed here.
    """
    if record is None:
        return OWN
    if "fields" in record:
        return mapping.of_fields(record["fields"], record["answers"])
    if record["format"] not in FORMATS:
        raise UserError(f"the layout {record['format']!r} is not installed here: install its package")
    return FORMATS[record["format"]]
