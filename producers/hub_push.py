"""Write a run's results to the hub: one Parquet file and a card, as one commit.

    push("round1", "hf://me/answers")  ->  (Collected(questions=1328, ...), "https://.../datasets/me/answers")

The data set is created if it does not exist, private. The token is that of `hf auth login` or HF_TOKEN.
"""

import importlib.metadata
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from producers import collect, containers, spool
from producers.answered_rows import Counts
from producers.collect import ANSWERS, Collected, Contents, Exported
from shared.errors import UserError
from shared.ledger import prompt_store, runs, votes
from shared.ledger.runs import Run

_FILE = "data/train-00000-of-00001.parquet"  # the name by which `datasets` finds a split
_REMEDIES = {
    401: "the hub does not accept the token: run `hf auth login`, or set HF_TOKEN",
    403: "the token may not write there: use one with write access, or another OWNER",
    404: "there is no such owner, or the token does not see it",
}
_R = TypeVar("_R")


def push(
    name: str, target: str, wait: bool = False, contents: Contents = ANSWERS
) -> tuple[Collected | Exported, str]:
    """Write a run's results as `collect.collect` does, to a data set of the hub; give its address.

    Raises:
        UserError: as `collect.collect`, or the hub refuses or does not answer.
    """
    owner_and_name = _require(target)
    import huggingface_hub

    run, counts = runs.get_run(name), Counts(golds=True)
    hub: Any = huggingface_hub.HfApi(library_name="votequeue")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, _FILE)
        path.parent.mkdir()
        try:
            done = collect.collect(name, path, wait, contents=contents, counts=counts)
        except UserError as error:
            raise UserError(str(error).replace(str(path), f"{target} (Parquet)")) from None
        Path(folder, "README.md").write_text(_card(run, path, done, counts), encoding="utf-8")
        where = {"repo_id": owner_and_name, "repo_type": "dataset"}
        url = _asked(target, lambda: hub.create_repo(**where, private=True, exist_ok=True))
        message = f"Answers of votequeue run {name}"
        _asked(target, lambda: hub.upload_folder(**where, folder_path=folder, commit_message=message))
    return done, str(url)


def _require(target: str) -> str:
    """Give owner and name; refuse what can be known before the work."""
    wanted = spool.parse_hub(target) if target.startswith(spool.HUB) else None
    if wanted is None or "/" not in wanted.name or wanted.config or wanted.split:
        raise UserError(f"--push {target}: expected hf://OWNER/NAME")
    containers.require_datasets("--push")
    from huggingface_hub import get_token

    if get_token() is None:
        raise UserError(f"--push {target}: there is no token: run `hf auth login`, or set HF_TOKEN")
    return wanted.name


def _asked(target: str, call: Callable[[], _R]) -> _R:
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return call()
    except HfHubHTTPError as error:
        status = error.response.status_code
        said = " ".join((error.server_message or "").split())[:200]
        reason = _REMEDIES.get(status, f"the hub says {status}") + (f" ({said})" if said else "")
    # The HTTP library's errors may quote a request.
    except Exception as error:  # noqa: BLE001
        reason = f"the hub does not answer ({type(error).__name__}): check the network and HF_ENDPOINT"
    raise UserError(f"--push {target}: {reason}")


def _card(run: Run, path: Path, done: Collected | Exported, counts: Counts) -> str:
    from datasets import DatasetInfo, Features
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData
    from pyarrow import parquet

    with parquet.ParquetFile(path) as table:
        rows, schema = table.metadata.num_rows, table.schema_arrow
    size = path.stat().st_size
    split = {"name": "train", "num_bytes": size, "num_examples": rows, "dataset_name": None}
    info = DatasetInfo(
        features=Features.from_arrow_schema(schema),
        splits={"train": split},
        download_size=size,
        dataset_size=size,
    )
    data = DatasetCardData(tags=["votequeue"])
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    facts = "\n".join(f"| {name} | {value} |" for name, value in _facts(run, done, counts) if value)
    return f"---\n{data.to_yaml()}\n---\n\n# {run.name}\n\n| | |\n|---|---|\n{facts}\n"


def _facts(run: Run, done: Collected | Exported, counts: Counts) -> Iterator[tuple[str, Any]]:
    yield "run", run.name
    yield "votequeue", importlib.metadata.version("votequeue")
    if isinstance(done, Exported):
        yield "models", ", ".join(sorted({model for _, model in run.services}))
        return
    models = {source.model for source in votes.count_sources(run.name)} - {None}
    yield "models", ", ".join(sorted(map(str, models)))
    yield "prompt", prompt_store.of_votes(run.options.get("prompt")).name
    yield "questions", done.questions
    yield "abstained", done.abstained
    if known := counts.labelled:
        share = f"{counts.right / known:.1%}"
        yield "accuracy", f"{share} ({counts.right} of {known} questions with a known answer)"
