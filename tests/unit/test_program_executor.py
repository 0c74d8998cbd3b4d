"""Programs in the sandbox: ordinary ones, and hostile ones, which end within their limits.

"while True: pass"  ->  Execution("", "time", "feed time limit exceeded: 2.0 s > 2 s")
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from shared.settings import ProgramLimits, Settings
from workers.program_executor import MontyExecutor

SECONDS, MEMORY_MIB = 1.0, 32
PERFECT = """
def is_perfect(n):
    return n > 1 and sum(d for d in range(1, n) if n % d == 0) == n

print([n for n in range(1, 500) if is_perfect(n)])
"""
GRAPH = """
from collections import defaultdict, deque
import itertools, math, re
edges = [("甲", "乙"), ("乙", "丙")]
graph = defaultdict(list)
for a, b in edges:
    graph[a].append(b)
seen, queue = set(), deque(["甲"])
while queue:
    node = queue.popleft()
    if node not in seen:
        seen.add(node)
        queue.extend(graph[node])
print(sorted(seen), math.gcd(12, 18), len(list(itertools.permutations(seen))))
"""
CLASSES = """
class Stack:
    def __init__(self):
        self.items = []
    def push(self, item):
        self.items.append(item)
s = Stack()
s.push(3)
match s.items:
    case [x]:
        print(f"{x:.2f}")
"""
WORKING = [
    ("print(2 + 3)", "5\n"),
    ("def f(n):\n    return 1 if n < 2 else n * f(n - 1)\nprint(f(20))", "2432902008176640000\n"),
    (PERFECT, "[6, 28, 496]\n"),
    (GRAPH, "['丙', '乙', '甲'] 6 6\n"),
    (CLASSES, "3.00\n"),
    ("print('甲', '乙', sep='，')", "甲，乙\n"),
    ("if __name__ == '__main__':\n    print(1)", "1\n"),
    ("import time\ntime.sleep(1000)\nprint('woken')", "woken\n"),
    ("import sys\nprint('error', file=sys.stderr)\nprint('B')", "B\n"),
    # A value at the end is output, as at Python's prompt, unless something is printed.
    ("def solve():\n    return 'B'\nsolve()", "B"),
    ("[1, 2]", "[1, 2]"),
    ("print('A')\n'B'", "A\n"),
    ("x = 3", ""),
    ("", ""),
]

LOOP, ROOM = "time", "memory"
HOSTILE = {
    # files
    "reads a file": ("print(open('/etc/passwd').read())", "PermissionError"),
    "reads a link to itself": ("print(open('/proc/self/environ').read())", "PermissionError"),
    "writes a file": ("open('/tmp/hostile', 'w').write('x')", "PermissionError"),
    "appends to a relative file": ("open('hostile', 'a').write('x')", "PermissionError"),
    "reads with pathlib": ("from pathlib import Path\nprint(Path('/etc/passwd').read_text())", None),
    "writes with pathlib": ("from pathlib import Path\nPath('/tmp/hostile').write_text('x')", None),
    "removes a file": ("import os\nos.remove('/tmp/kept')", None),
    "removes a folder": ("import shutil\nshutil.rmtree('/tmp')", "ModuleNotFoundError"),
    "lists a folder": ("import os\nprint(os.listdir('/'))", None),
    "lists with glob": ("import glob\nprint(glob.glob('/*'))", None),
    "uses a temporary file": ("import tempfile\nprint(tempfile.mkstemp())", "ModuleNotFoundError"),
    "opens a descriptor": ("open(1, 'w').write('A')", None),
    "walks upwards": ("print(open('../../../../etc/passwd').read())", "PermissionError"),
    # the network
    "imports socket": ("import socket\nsocket.create_connection(('127.0.0.1', 80))", "ModuleNotFoundError"),
    "fetches a page": ("import urllib.request\nurllib.request.urlopen('http://127.0.0.1')", None),
    "uses http.client": ("import http.client", None),
    "uses requests": ("import requests\nrequests.get('http://127.0.0.1')", "ModuleNotFoundError"),
    "uses ssl": ("import ssl", "ModuleNotFoundError"),
    # the environment and other processes
    "reads the environment": ("import os\nprint(os.environ['HOME'])", None),
    "reads a variable": ("import os\nprint(os.getenv('PATH'))", None),
    "runs a shell": ("import os\nos.system('touch /tmp/hostile')", None),
    "uses popen": ("import os\nos.popen('id')", None),
    "starts a process": ("import subprocess\nsubprocess.run(['id'])", "ModuleNotFoundError"),
    "forks": ("import os\nos.fork()", None),
    "forks for ever": ("import os\nwhile True:\n    os.fork()", None),
    "kills a process": ("import os, signal\nos.kill(1, 9)", None),
    "ends the process": ("import os\nos._exit(0)", None),
    "aborts": ("import os\nos.abort()", None),
    "starts threads": ("import threading\nthreading.Thread(target=print).start()", "ModuleNotFoundError"),
    "starts more processes": ("import multiprocessing", "ModuleNotFoundError"),
    "calls C": ("import ctypes\nctypes.string_at(0)", "ModuleNotFoundError"),
    "asks for input": ("print(input('password: '))", None),
    # Python's insides
    "lists all classes": ("print(().__class__.__bases__[0].__subclasses__())", None),
    "lists classes by type": ("print(type(()).__mro__[1].__subclasses__())", None),
    "reads globals of a function": ("def f(): pass\nprint(f.__globals__)", None),
    "reads code": ("def f(): pass\nf.__code__ = None", None),
    "imports by name": ("print(__import__('subprocess'))", None),
    "uses importlib": ("import importlib\nimportlib.import_module('subprocess')", None),
    "reads builtins": ("print(__builtins__.__dict__)", None),
    "walks frames": ("import sys\nprint(sys._getframe())", None),
    "lists modules": ("import sys\nprint(sys.modules['os'])", None),
    "uses gc": ("import gc\nprint(gc.get_objects())", None),
    "uses inspect": ("import inspect\nprint(inspect.stack())", None),
    "evals an import": ("eval(\"__import__('subprocess')\")", None),
    "execs an import": ("exec('import subprocess')", "ModuleNotFoundError"),
    "loads a pickle": (
        "import pickle\npickle.loads(b'cos\\nsystem\\n(S\"id\"\\ntR.')",
        "ModuleNotFoundError",
    ),
    "formats an attribute": ("print('{0.__class__.__mro__}'.format(()))", None),
    "compiles": ("print(compile('1', 'x', 'eval'))", None),
    # time
    "loops for ever": ("while True:\n    pass", LOOP),
    "loops and catches": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        LOOP,
    ),
    "loops in finally": ("try:\n    while True: pass\nfinally:\n    while True: pass", LOOP),
    "sums without end": ("print(sum(range(10**12)))", LOOP),
    "searches without end": ("import itertools\nfor x in itertools.count():\n    pass", LOOP),
    "computes fib(60)": ("def f(n): return n if n < 2 else f(n-1) + f(n-2)\nprint(f(60))", LOOP),
    "permutes for ever": ("import itertools\nfor p in itertools.permutations(range(15)): pass", None),
    # memory
    "doubles a list": ("a = [0]\nwhile True:\n    a = a + a", ROOM),
    "doubles and catches": (
        "try:\n    a = [0]\n    while True: a = a + a\nexcept BaseException: pass\nwhile True: pass",
        ROOM,
    ),
    "makes a long text": ("x = 'a' * 10**12", ROOM),
    "makes a long range": ("x = list(range(10**10))", ROOM),
    "nests lists": ("a = []\nwhile True:\n    a = [a, a, [0] * 1000]", ROOM),
    "makes a huge integer": ("x = 2 ** 10**11", ROOM),
    "prints a huge integer": ("print(10 ** 10**9)", ROOM),
    "squares for ever": ("x = 9\nwhile True:\n    x = x * x", None),
    "shifts far": ("x = 1 << 10**12", ROOM),
    "computes a factorial": ("import math\nprint(math.factorial(10**9))", None),
    "replicates bytes": ("x = b'a' * 10**12", ROOM),
    "joins without end": ("s = 'ab'\nwhile True:\n    s = s.join(['x'] * 1000)", None),
    # recursion
    "recurs for ever": ("def f(): return f()\nf()", "RecursionError"),
    "recurs mutually": ("def f(): g()\ndef g(): f()\nf()", "RecursionError"),
    "recurs in repr": ("class A:\n    def __repr__(self): return repr(self)\nprint(A())", None),
    "nests brackets": ("(" * 100_000, "SyntaxError"),
    "nests a list": ("x = " + "[" * 50_000 + "]" * 50_000, "SyntaxError"),
    "nests lambdas": ("x = " + "lambda: " * 20_000 + "1", None),
    # output
    "floods": ("while True:\n    print('A')", "output"),
    "floods and catches": (
        "try:\n    while True: print('A')\nexcept BaseException: pass\nprint('A')",
        "output",
    ),
    "prints one long line": ("print('A' * 10**6)", "output"),
    "ends in a long value": ("'A' * 10**6", "output"),
    # formats and patterns
    "formats widely": ("print('%1000000000d' % 1)", ROOM),
    "formats widely anew": ("print('{:>1000000000}'.format(1))", ROOM),
    "formats in an f-text": ("w = 10**9\nprint(f'{1:{w}}')", ROOM),
    "formats with precision": ("print('%.1000000000f' % 1)", None),
    "backtracks": ("import re\nprint(re.match(r'(a+)+$', 'a' * 60 + 'b').group())", None),
    "backtracks in a search": ("import re\nre.search(r'(x+x+)+y', 'x' * 5000).group()", None),
    "compiles a large pattern": ("import re\nre.compile('(((a{1,999}){1,999}){1,999}){1,999}')", None),
    # failures after a letter
    "prints a letter and fails": ("print('A')\n1 / 0", "ZeroDivisionError"),
    "prints a letter and loops": ("print('A')\nwhile True: pass", LOOP),
    "is no program": ("答案是：A", "SyntaxError"),
}


@pytest.fixture(scope="module")
def executor() -> MontyExecutor:
    limits = ProgramLimits(seconds=SECONDS, memory_mib=MEMORY_MIB)
    return MontyExecutor(Settings(program_limits=limits))


@pytest.mark.parametrize(("program", "output"), WORKING)
def test_what_a_program_prints_is_its_output(executor: MontyExecutor, program: str, output: str) -> None:
    ran = executor.run(program)
    assert (ran.output, ran.failure) == (output, None)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_fails_within_its_limits_and_changes_nothing(
    executor: MontyExecutor, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program, failure = HOSTILE[name]
    begun = threading.active_count()
    ran = executor.run(program)
    assert ran.failure is not None
    assert failure in (None, ran.failure), ran.detail
    assert len(ran.output) <= 10_000
    assert "root:" not in ran.output
    assert not list(tmp_path.iterdir())
    assert not Path("/tmp/hostile").exists()
    assert threading.active_count() <= begun  # those of other tests may end meanwhile
    assert executor.run("print('next')").output == "next\n"


def test_there_are_enough_hostile_programs() -> None:
    assert len(HOSTILE) >= 60


def test_the_same_program_prints_the_same_at_any_time(executor: MontyExecutor) -> None:
    program = "import random, time, datetime\nprint(random.random(), time.time(), datetime.datetime.now())"
    first = executor.run(program)
    time.sleep(0.01)
    assert executor.run(program) == first
    assert first.failure is None


def test_no_program_sees_another(executor: MontyExecutor) -> None:
    executor.run("secret = 'A'")
    assert executor.run("print(secret)").failure == "NameError"


def test_a_killed_process_costs_one_program() -> None:
    before = set(children())
    executor = MontyExecutor(Settings(program_limits=ProgramLimits(seconds=60)))
    results = []
    running = threading.Thread(target=lambda: results.append(executor.run("while True: pass")))
    running.start()
    while not (own := set(children()) - before):
        time.sleep(0.1)
    for child in own:
        os.kill(child, 9)
    running.join()
    assert results[0].failure == "crash"
    assert executor.run("print(1)").output == "1\n"


KILLED = """
import os, threading, time
from shared.settings import Settings
from workers.program_executor import MontyExecutor
executor = MontyExecutor(Settings())
executor.run("print(1)")
threading.Thread(target=executor.run, args=("while True: pass",), daemon=True).start()
time.sleep(0.2)
os.system(f"pgrep -P {os.getpid()} monty")
os.kill(os.getpid(), 9)
"""


def test_the_processes_end_with_a_killed_worker() -> None:
    worker = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=False)
    left = [Path(f"/proc/{pid}") for pid in worker.stdout.split()]
    assert left
    for _ in range(600):
        if not any(is_monty(process) for process in left):
            return
        time.sleep(0.1)
    pytest.fail(f"{left} outlived the worker")


def is_monty(process: Path) -> bool:
    """Tell whether a process is an interpreter that lives."""
    try:
        name, state = (process / "stat").read_text().split()[1:3]
    except OSError:
        return False
    return name == "(monty)" and state != "Z"


@pytest.mark.slow
def test_ten_thousand_programs_leave_the_memory_flat(executor: MontyExecutor) -> None:
    def run(count: int) -> int:
        for at in range(count):
            executor.run(f"x = list(range(2000))\nprint(sum(x) + {at})")
        return sum(memory(process) for process in [os.getpid(), *children()])

    before = run(1000)
    assert run(10_000) < before + (16 << 10)


def children() -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=,comm=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False
    )
    rows = [line.split() for line in listed.stdout.splitlines()]
    return [int(pid) for pid, name in rows if name == "monty"]


def memory(process: int) -> int:
    """Return a process's memory in KiB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
