"""`snapshot create` that is killed, or whose disk fails, between any two steps: the old state or the new, never half.

`tests/snapshots/test_store.py` kills the publishing at each rename; here it is the whole command, at every change that
it makes to a file system, and the next `create` must just work.
"""

from __future__ import annotations

import errno
import random
import signal
from pathlib import Path

import pytest

from tests.faults.scene import Scene

pytestmark = [pytest.mark.broker, pytest.mark.timeout(1800)]


def points(scene: Scene, dice: random.Random, most: int, *, what: str = "") -> tuple[list[list[str]], list[int]]:
    """All steps of a `create` that goes well, and the numbers of those to try: all (of a kind), or some by chance."""
    steps = scene.create(scene.copy()).steps
    numbers = [number for number, step in enumerate(steps) if not what or step[0] == what]
    return steps, numbers if most >= len(numbers) else sorted(dice.sample(numbers, most))


def test_a_create_that_is_killed_between_any_two_steps_leaves_the_old_state_or_the_new(
    scene: Scene, dice: random.Random, rounds: int
) -> None:
    steps, numbers = points(scene, dice, rounds)
    assert len(steps) > 30
    states = []
    for number in [*numbers, len(steps) + 50]:
        home = scene.copy()
        died = scene.create(home, fault={"kind": "kill", "step": number})
        # Threads write at the same time, so the last steps may be fewer the next time.
        assert died.signal == signal.SIGKILL or number >= len(steps) - 5, steps[number]
        states.append(scene.state(home))
        scene.recover(home)
    assert states == sorted(states, reverse=True)  # old, old, …, new
    assert states[-1] == "new"


def test_a_create_that_is_killed_while_half_a_file_is_written_leaves_the_old_state_or_the_new(
    scene: Scene, dice: random.Random, rounds: int
) -> None:
    steps, numbers = points(scene, dice, rounds, what="sync")
    assert sum(step[0] == "sync" for step in steps) >= 6  # two objects, storage map, cut, manifest, name
    states = []
    for number in numbers:
        home = scene.copy()
        died = scene.create(home, fault={"kind": "torn", "step": number})
        assert died.signal == signal.SIGKILL
        states.append(scene.state(home))
        scene.recover(home)
    assert states == sorted(states, reverse=True)
    assert "old" in states


@pytest.mark.parametrize(("kind", "number"), [("error", errno.EIO), ("full", errno.ENOSPC)], ids=["eio", "enospc"])
def test_a_create_whose_disk_fails_at_any_step_is_an_error_of_ours_or_goes_well(
    scene: Scene, dice: random.Random, rounds: int, kind: str, number: int
) -> None:
    steps, numbers = points(scene, dice, rounds // 2 if rounds < 100 else rounds)
    for step in numbers:
        home = scene.copy()
        failed = scene.create(home, fault={"kind": kind, "step": step, "errno": number})
        assert failed.signal is None
        assert "Traceback" not in failed.stderr
        assert "unexpected" not in failed.stderr, (steps[step], failed.stderr)
        state = scene.state(home)
        # Whether the name is safe is not known when the flush after its rename fails: an error, and the new state.
        unsure = step <= steps.index(["flush", "refs", ""])
        allowed = {"old": {1}, "new": {0, 1} if unsure else {0}}
        assert failed.exit_code in allowed[state], (steps[step], failed.stderr)
        scene.recover(home)


@pytest.mark.parametrize(("sabotage", "kind", "what"), [("name-first", "kill", "rename"), ("in-place", "torn", "sync")])
def test_a_store_that_published_wrongly_would_be_noticed(scene: Scene, sabotage: str, kind: str, what: str) -> None:
    steps = scene.create(scene.copy(), sabotage=sabotage).steps
    noticed = 0
    for number, step in enumerate(steps):
        if step[0] == what and step[1].startswith(("storage/", "manifests/")):
            home = scene.copy()
            assert scene.create(home, sabotage=sabotage, fault={"kind": kind, "step": number}).signal == signal.SIGKILL
            try:
                scene.state(home)
            except AssertionError:
                noticed += 1
    assert noticed > 0


def test_what_is_renamed_was_flushed_before_and_its_folder_is_flushed_afterwards(scene: Scene) -> None:
    steps = scene.create(scene.copy()).steps
    lasting = ("objects", "storage", "cuts", "manifests", "refs")
    renamed = [
        (number, step) for number, step in enumerate(steps) if step[0] == "rename" and step[1].startswith(lasting)
    ]
    assert len(renamed) >= 6
    for number, (_, path, source) in renamed:
        # An object is renamed twice: to its digest first, once that is known.
        sources = {source, *(step[2] for step in steps if step[:2] == ["rename", source])}
        assert any(["sync", name, ""] in steps[:number] for name in sources), f"{path} may be empty after a power cut"
        assert ["flush", str(Path(path).parent), ""] in steps[number:], f"{path} may be lost with the power"
    for number, (what, path, _) in enumerate(steps):
        if what == "mkdir" and path.startswith(lasting):
            assert ["flush", str(Path(path).parent), ""] in steps[number:], f"{path} may be lost with the power"
