"""./deploy/rentomatic as it is typed: help, statuses, JSON, one at a time, interrupts."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.operations.main import COMMANDS
from deploy.operations.project import lock_file
from deploy.operations.report import Failure
from rentomatic_site.testing import rig


def rentomatic(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["./deploy/rentomatic", *arguments],
        cwd=rig.PROJECT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def test_help_lists_each_command_and_the_statuses():
    done = rentomatic("--help")
    assert done.returncode == 0
    assert set(re.findall(r"^    (\w+)(?:  |$)", done.stdout, re.M)) == set(COMMANDS)
    assert "exit status: 0 done; 1 failed" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_a_help_and_the_common_options(command):
    done = rentomatic(command, "--help")
    assert done.returncode == 0
    assert {"--dry-run", "--json", "--wait"} <= set(re.findall(r"--[\w-]+", done.stdout))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["backup", "--nonsense"],
        ["setup", "two words"],
        ["upgrade"],
        ["upgrade", "18.1"],
        ["restore", "a", "--undo"],
    ],
)
def test_a_wrong_command_line_is_status_2(arguments):
    assert rentomatic(*arguments).returncode == 2


def test_keep_zero_is_refused_before_anything_is_looked_at():
    done = rentomatic("backup", "--keep", "0", "--json")
    assert done.returncode == 2
    result = json.loads(done.stdout)
    assert result["ok"] is False
    assert result["next"] == "./deploy/rentomatic backup --keep 14"


def test_the_program_imports_the_standard_library_only():
    """Nothing but Python is on the host; -S leaves site-packages out, -I what is set around it."""
    script = (
        "import sys; sys.path.insert(0, '.'); import importlib; "
        "from deploy.operations.main import COMMANDS; "
        "[importlib.import_module(f'deploy.operations.{name}') for name in COMMANDS]"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", script], cwd=rig.PROJECT, check=True)


def test_of_two_commands_one_works_and_the_other_is_told_who(tmp_path):
    with lock_file(tmp_path / "lock", "rollout"):
        with (
            pytest.raises(
                Failure, match=rf"rollout \(process {os.getpid()}, since .*nothing was changed"
            ) as second,
            lock_file(tmp_path / "lock", "backup"),
        ):
            pass
        assert second.value.status == 3
    with lock_file(tmp_path / "lock", "backup"):
        pass


def test_the_lock_of_a_killed_command_is_free(tmp_path):
    script = (
        "import sys; sys.path.insert(0, '.'); from pathlib import Path\n"
        "from deploy.operations.project import lock_file\n"
        f"with lock_file(Path({str(tmp_path / 'lock')!r}), 'rollout'):\n"
        "    print('held', flush=True); input()"
    )
    holder = subprocess.Popen(
        [*rig.ends_with_pytest(), sys.executable, "-c", script],
        cwd=rig.PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(Failure), lock_file(tmp_path / "lock", "backup"):
        pass
    holder.kill()
    holder.communicate()
    with lock_file(tmp_path / "lock", "backup", wait=20):
        pass


INTERRUPTED = """
import os, signal, sys
sys.path.insert(0, ".")
from deploy.operations import process

process.install_handlers()
try:
    {body}
except process.Interrupted:
    print("interrupted")
"""


def interrupted(body: str) -> str:
    """What a script prints whose `body` sends signals to itself."""
    script = INTERRUPTED.format(body=body.replace("\n", "\n    "))
    return subprocess.check_output([sys.executable, "-c", script], cwd=rig.PROJECT, text=True, timeout=60)


def test_a_signal_within_held_takes_effect_at_its_end():
    kill = "os.kill(os.getpid(), signal.SIGTERM)"
    body = f"with process.held():\n    {kill}\n    print('finished')\nprint('never')"
    assert interrupted(body) == "finished\ninterrupted\n"
    assert interrupted(body.replace("held()", "held(forget=True)")) == "finished\nnever\n"
    assert interrupted(f"{kill}\nprint('never')") == "interrupted\n"


def test_a_program_that_runs_at_an_interrupt_is_ended_and_waited_for(tmp_path):
    script = tmp_path / "program"
    script.write_text(
        f"#!/bin/sh\ntrap 'echo ended > {tmp_path}/ended; exit' INT\n"
        "kill -INT $PPID\nwhile :; do sleep 1; done\n"
    )
    script.chmod(0o755)
    assert interrupted(f"process.run([{str(script)!r}])") == "interrupted\n"
    assert Path(tmp_path, "ended").read_text() == "ended\n"


def test_a_program_gets_no_ctrl_c_of_the_terminal(tmp_path):
    """The terminal sends it to a process group: the program is in another one."""
    (number,) = re.findall(
        r"\d+", interrupted("print(process.run(['ps', '-o', 'pgid=', '-p', str(os.getpid())]).stdout)")
    )
    script = "import os; print(os.getpgid(0))"
    theirs = interrupted(f"print(process.run([sys.executable, '-c', {script!r}]).stdout)").strip()
    assert theirs != number
    assert signal.SIGINT  # the signal that this is about


def test_a_program_that_hangs_ends_with_124(tmp_path):
    assert "124" in interrupted("print(process.run(['sleep', '60'], timeout=0.2).returncode)")


def test_each_module_can_be_imported_first():
    """A cycle of imports shows only where its wrong end comes first."""
    modules = [
        ".".join(path.relative_to(rig.PROJECT).with_suffix("").parts)
        for path in (rig.PROJECT / "deploy/operations").rglob("[!_]*.py")
    ]
    assert len(modules) > 40
    script = (
        "import importlib, sys\n"
        f"for name in {modules}:\n"
        "    for known in [known for known in sys.modules if known.startswith('deploy.')]:\n"
        "        del sys.modules[known]\n"
        "    importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=rig.PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
