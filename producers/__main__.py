"""The command line as a script: `python -m producers status round1`."""

import sys

from producers import cli

sys.exit(cli.main())
