"""Items whose work has died before share the stage with fewer others."""

import threading
import time

import pytest

from workers.admission_control import MOST, Admission


class Stage:
    """Items in play in threads of their own, each until it is told to leave."""

    def __init__(self) -> None:
        self.admission = Admission()
        self.in_play: list[str] = []
        self._leave: dict[str, threading.Event] = {}

    def enter(self, name: str, losses: int = 0) -> None:
        """Let an item come, and give it the time to enter if it may."""
        self._leave[name] = threading.Event()
        threading.Thread(target=self._play, args=(name, losses), daemon=True).start()
        time.sleep(0.03)

    def leave(self, name: str) -> None:
        self._leave[name].set()
        time.sleep(0.03)

    def _play(self, name: str, losses: int) -> None:
        with self.admission.entered(losses):
            self.in_play.append(name)
            self._leave[name].wait(10)
            self.in_play.remove(name)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_items_whose_work_never_died_are_all_in_play(stage: Stage) -> None:
    for at in range(3 * MOST):
        stage.enter(f"{at}")
    assert len(stage.in_play) == 3 * MOST


def test_an_item_that_died_often_is_alone_in_play_and_those_behind_it_wait(stage: Stage) -> None:
    stage.enter("first")
    stage.enter("suspect", losses=10)
    stage.enter("behind")
    assert stage.in_play == ["first"]
    stage.leave("first")
    assert stage.in_play == ["suspect"]
    stage.leave("suspect")
    assert stage.in_play == ["behind"]


def test_each_death_halves_how_many_are_in_play_with_an_item(stage: Stage) -> None:
    stage.enter("died twice", losses=2)
    for at in range(MOST):
        stage.enter(f"{at}")
    assert len(stage.in_play) == MOST >> 2


def test_an_item_whose_work_fails_makes_room(stage: Stage) -> None:
    with pytest.raises(OSError, match="bug"), stage.admission.entered(10):
        raise OSError("bug")
    stage.enter("next", losses=10)
    assert stage.in_play == ["next"]
