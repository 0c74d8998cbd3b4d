"""Find the program in a model's reply, and tell whether it computes anything.

program_in("```python\\nprint(2 + 3)\\n```")  ->  "print(2 + 3)"
"""

import ast
import re

# A fenced block, which may lack its end where the vote was cut off.
_BLOCK = re.compile(r"^[ \t]*```[ \t]*(\w*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)
_PYTHON = ("python", "py", "python3")
_COMPUTING = (
    *(ast.BinOp, ast.BoolOp, ast.Compare, ast.Subscript, ast.If, ast.IfExp),
    *(ast.For, ast.While, ast.comprehension, ast.AugAssign),
)


def program_in(text: str) -> str:
    """Find the program in a reply: its Python blocks together, else its first block, else all of it."""
    blocks = _BLOCK.findall(text)
    programs = [body for language, body in blocks if language.lower() in _PYTHON]
    return "\n".join(programs or [body for _, body in blocks[:1]] or [text]).strip("\n")


def is_constant(program: str) -> bool:
    """Tell whether a program computes nothing: it prints what is written in it, as ``print("B")`` does."""
    try:
        nodes = list(ast.walk(ast.parse(program)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False  # the executor's Python accepts it
    calls = [node.func for node in nodes if isinstance(node, ast.Call)]
    prints = all(isinstance(call, ast.Name) and call.id == "print" for call in calls)
    return prints and not any(isinstance(node, _COMPUTING) for node in nodes)
