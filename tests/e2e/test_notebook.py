"""The notebook of the documents, executed as it is, with a real worker on a model that knows nothing."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from producers import Client
from producers.reports.inference_report import Figures
from tests.e2e.conftest import Start
from tests.integration import run_fixtures

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
ENGINE = {"kv_cache_gib": 1, "max_model_len": 2048}


@pytest.fixture
def notebook() -> Any:
    found = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(found)
    return found


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebook_is_kept_without_outputs(notebook: Any) -> None:
    assert [cell for cell in code(notebook) if cell.outputs or cell.execution_count] == []


@pytest.mark.slow
@pytest.mark.usefixtures("on_broker")
def test_the_notebook_runs_from_start_to_end(
    home: Path, weights: Path, notebook: Any, start_worker: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kernel is a process of its own; it writes nothing into the user's home.
    own = {"VOTEQUEUE_MAX_TOKENS": "64", "VOTEQUEUE_MAX_ATTEMPTS": "2", "PYTHONPATH": str(ROOT)}
    own |= {name: str(home / name) for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR")}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    start_worker("infer", model=weights, **ENGINE).await_ready()
    where = {"metadata": {"path": str(home)}}
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources=where).execute()

    printed = [output.get("text", "") for cell in code(notebook) for output in cell.outputs]
    assert "vots: there is no such option; did you mean votes?\n" in printed
    assert any("points, McNemar's p" in text for text in printed)
    report = Client().report("notebook")
    assert isinstance(report, Figures)
    assert (report.open, report.dead) == (0, 0)
    answers = run_fixtures.read(home / "var" / "notebook" / "answers.jsonl")
    assert all(question["answer"] for entry in answers for question in entry["questions"])
