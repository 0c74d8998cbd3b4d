"""Run the programs of a round's votes, and ask once more for those that fail.

"```python\\nprint(2 + 3)\\n```"  ->  program_in(...)  ->  "print(2 + 3)"  ->  Execution("5\\n")
"""

import re

# A fenced block, which may lack its end where the vote was cut off.
_BLOCK = re.compile(r"^[ \t]*```[ \t]*(\w*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)
_PYTHON = ("python", "py", "python3")


def program_in(text: str) -> str:
    """Find the program in a reply: its Python blocks together, else its first block, else all of it."""
    blocks = _BLOCK.findall(text)
    programs = [body for language, body in blocks if language.lower() in _PYTHON]
    return "\n".join(programs or [body for _, body in blocks[:1]] or [text]).strip("\n")
