"""Process trees: their members, and the end of all of them."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from spoter.processes import end_process_tree, process_tree, session_members

SLEEP = "import time; time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); {SLEEP}"


def parent_of(child: str, then: str = SLEEP, **options: object) -> str:
    """Return a program that starts `child`, prints its process ID, and then runs `then`."""
    return f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {child!r}], stdout=subprocess.PIPE, **{options!r})
{"child.stdout.readline()" if child == STUBBORN else ""}
print(child.pid, flush=True)
{then}
"""


@pytest.fixture
def start():
    started = []

    def start(program, **options):
        """Return the process and the first line that it prints."""
        options = {"start_new_session": True} | options
        started.append(subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, **options))
        return started[-1], started[-1].stdout.readline().strip()

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


def gone(pid) -> bool:
    try:
        return psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def pids(processes) -> set:
    return {process.pid for process in processes}


def test_session_is_ended_by_sigterm(start):
    leader, child = start(parent_of(SLEEP))
    assert pids(session_members(leader)) == pids(process_tree(leader)) == {leader.pid, int(child)}
    end_process_tree(leader)
    assert leader.returncode == -signal.SIGTERM and gone(child)
    assert session_members(leader) == process_tree(leader) == []
    end_process_tree(leader)  # a second call does no harm


def test_members_are_found_after_their_leader_has_ended(start):
    leader, child = start(parent_of(SLEEP, then=""))
    leader.wait()
    assert pids(session_members(leader)) == {int(child)}
    end_process_tree(leader)
    assert leader.returncode == 0 and gone(child)


def test_process_that_ignores_sigterm_is_killed_after_the_grace_period(start):
    leader, child = start(parent_of(STUBBORN))
    start_time = time.monotonic()
    end_process_tree(leader, grace=0.3)
    assert 0.3 <= time.monotonic() - start_time < 5 and gone(child)
    assert leader.returncode == -signal.SIGTERM


def test_descendants_in_other_sessions_are_ended_too(start):
    leader, child = start(parent_of(STUBBORN, start_new_session=True))
    assert pids(session_members(leader)) == {leader.pid}
    assert pids(process_tree(leader)) == {leader.pid, int(child)}
    end_process_tree(leader, grace=0.2)
    assert gone(child)


def test_parent_can_end_a_child_in_another_session_first(start):
    reap = "sys.exit(child.kill() or child.wait() and 7)"
    then = f"import signal; signal.signal(signal.SIGTERM, lambda *_: {reap}); print('ready', flush=True); {SLEEP}"
    leader, child = start(parent_of(STUBBORN, then=then, start_new_session=True))
    assert leader.stdout.readline() == "ready\n"
    end_process_tree(leader, grace=20)
    assert leader.returncode == 7 and gone(child)


def test_process_that_leads_no_session_is_ended_with_its_descendants_only(start):
    other, _ = start(STUBBORN)
    process, child = start(parent_of(SLEEP), start_new_session=False)
    assert session_members(process) == [] and pids(process_tree(process)) == {process.pid, int(child)}
    end_process_tree(process)
    assert process.returncode == -signal.SIGTERM and gone(child) and not gone(other.pid)


def test_zombies_are_not_members(start):
    """A leader that does not wait for its child leaves a zombie."""
    leader, child = start(parent_of("", then=SLEEP))
    wait_until(lambda: gone(child))
    assert pids(process_tree(leader)) == {leader.pid}
    leader.kill()
    wait_until(lambda: session_members(leader) == [])
