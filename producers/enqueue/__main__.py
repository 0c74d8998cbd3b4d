"""The `enqueue` commands as a script: `python -m producers.enqueue infer data.jsonl`."""

import sys

from producers import cli

sys.exit(cli.main(["enqueue", *sys.argv[1:]]))
