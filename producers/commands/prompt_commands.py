"""The `prompts` commands: parse, call, print.

    votequeue prompts preview test.jsonl --examples solved.jsonl --prompt en

As in `cli`, each command imports its dependencies when it runs.
"""

from typing import Annotated, Any

import typer

from producers.commands import options
from producers.commands.options import Json
from producers.enqueue import option_checks
from shared.errors import UserError
from shared.options import Reading, Sampling

app = typer.Typer(help="List, show and preview the prompts of `enqueue infer`.", no_args_is_help=True)


@app.command("list")
def list_prompts(json: Json = False) -> None:
    """List the built-in prompts, and the prompt files stored with runs."""
    from producers.enqueue import prompt_choice
    from producers.reports import render

    listed = prompt_choice.listed()
    if json:
        return render.as_json(listed)
    rows = [[prompt.name, prompt.digest[:12], prompt.source] for prompt in listed]
    return render.table(rows, ["name", "digest", "source"])


@app.command("show")
def show_file(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="prompt's name or digest, or a TOML file")],
    json: Json = False,
) -> None:
    """Print a prompt file; a file of your own is checked first."""
    from producers.enqueue import prompt_choice
    from producers.reports import render

    prompt = prompt_choice.find(name)
    if json:
        return render.as_json({"name": prompt.name, "digest": prompt.digest, "text": prompt.text})
    return render.text(prompt.text.removesuffix("\n"))


@app.command("preview")
@options.flags_of(Reading, into="reading")
def preview(
    data: Annotated[str, typer.Argument(metavar="DATA", help="data set (a file, - or hf://NAME)")],
    *,
    examples: Annotated[
        str | None, typer.Option(metavar="FILE|RUN", help="solved questions: a data set, or a run")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE", help="a prompt's name, or a TOML file", show_default="by the data's language"
        ),
    ] = None,
    num_examples: Annotated[
        int | None,
        typer.Option(min=0, help="solved examples in the prompt", show_default="VOTEQUEUE_NUM_EXAMPLES"),
    ] = None,
    prompt_style: Annotated[
        str | None,
        typer.Option(
            help="completion (the prompt as a text) or chat (as turns)", show_default="VOTEQUEUE_PROMPT_STYLE"
        ),
    ] = None,
    examples_as: Annotated[
        str | None,
        typer.Option(help=Sampling.model_fields["examples_as"].description, show_default="turns"),
    ] = None,
    reading: dict[str, Any],
    json: Json = False,
) -> None:
    """Print the prompt of the first question exactly as a worker sends it, and its tokens on stderr."""
    given = {"num_examples": num_examples, "prompt_style": prompt_style, "examples_as": examples_as}
    sampling = option_checks.sampling({name: value for name, value in given.items() if value is not None})
    read = option_checks.filled(Reading, {}, reading)
    from producers import console
    from producers.enqueue import inputs
    from producers.enqueue import preview as previewing
    from producers.reports import render

    style = sampling.prompt_style
    if style == "auto":
        raise UserError("--prompt-style auto depends on the worker's model: name completion or chat")
    file = inputs.find_file(data)
    count, shown_as = sampling.num_examples, sampling.examples_as
    shown = previewing.preview(file, examples, prompt, count, read, style, shown_as)
    if json:
        return render.as_json(shown)
    render.text(shown.text.removesuffix("\n"))
    how = f"tokenizer of {shown.tokenizer}" if shown.tokenizer else "estimated: no tokenizer on this machine"
    parts = f"head {shown.head}, examples {shown.solved}, question {shown.question}"
    console.note(
        f"prompt {shown.prompt} ({shown.digest[:12]}), question {shown.key}, data in {shown.language}"
    )
    console.note(f"{console.count(shown.tokens, 'token')} ({parts}; {how})")
    if shown.style == "chat":
        console.note("the model's chat template adds its own marks and tokens to the turns")
    stops = ", ".join(map(repr, shown.stop)) or "the end of the model's turn"
    console.note(f"votes end at {stops}; their letters are read by the reader {shown.reader}")
    if shown.examples:
        console.note("the examples are the first ones here; a worker chooses the most similar ones")
    return None
