"""What people do to containers, images and limits behind jobd's back: rows 42 to 46, 49, 50."""

from __future__ import annotations

import time

import pytest

from tests.engine.conftest import MakeRig
from tests.support.fault_rig import FaultRig
from tests.support.harness import IMAGE
from tests.support.private_engine import PrivateEngine


def test_a_container_removed_by_hand_is_lost_by_policy(
    rig: FaultRig, private: PrivateEngine
) -> None:
    """Row 42: never a success; held, retried, or the end, as the job says."""
    program = "[ $ATTEMPT = 1 ] && sleep 60; exit 0"
    rig.register("hold", program)
    rig.register("again", program, attempts=2)
    rig.register("dead", program, "--retry-interrupted", "dead")
    numbers = [rig.queue(name) for name in ("hold", "again", "dead")]
    for number in numbers:
        rig.begun(number)
    for number in numbers:
        private.sdk.remove_container(rig.container(number), force=True)
    hold, again, dead = (rig.ended(number) for number in numbers)
    assert (hold["status"], hold["reason"]["code"]) == ("held", "lost")
    assert "somebody" in hold["reason"]["text"]
    assert again["status"] == "succeeded"
    assert [one[0] for one in rig.outcomes(numbers[1])] == ["lost", "succeeded"]
    assert (dead["status"], dead["dead"]) == ("lost", True)
    assert "lost: " in rig.notes(numbers[0])


def test_a_foreign_container_under_our_name_is_left_alone(
    rig: FaultRig, private: PrivateEngine
) -> None:
    """Row 43, with another's labels and with none: a clear text, and nothing is touched."""
    rig.register("one", "exit 0", attempts=3)
    store = rig.store
    other = {"jobd.store": "00" * 16, "jobd.job": "x", "jobd.run": "1", "jobd.attempt": "1"}
    made = [
        private.sdk.create_container(
            IMAGE, ["sleep", "60"], name=f"jobd-{store[:8]}-{number}-1", labels=labels
        )["Id"]
        for number, labels in ((1, other), (2, {}))
    ]
    private.sdk.start(made[0])
    for number in (rig.queue("one"), rig.queue("one")):
        run = rig.ended(number)
        assert (run["status"], len(run["attempts"])) == ("failed", 1)
        assert "is not this attempt's" in run["reason"]["text"]
        assert "not touched" in run["reason"]["text"]
    rig.again()
    rig.wait_reconciled()
    assert private.sdk.inspect_container(made[0])["State"]["Running"]
    assert private.sdk.inspect_container(made[1])["State"]["Status"] == "created"
    assert rig.ended(rig.queue("one"))["status"] == "succeeded"


def test_an_orphan_of_our_store_is_reported_and_left_alone(
    rig: FaultRig, private: PrivateEngine
) -> None:
    """Row 44; and what is left of an attempt whose end is known goes."""
    rig.register("one", "exit 0")
    number = rig.queue("one")
    rig.ended(number)
    labels = {"jobd.store": rig.store, "jobd.job": "one", "jobd.attempt": "1"}
    orphan, left = rig.container(999), rig.container(number)
    for name, run in ((orphan, "999"), (left, str(number))):
        private.sdk.create_container(
            IMAGE, ["sleep", "60"], name=name, labels={**labels, "jobd.run": run}
        )
    private.sdk.start(orphan)
    rig.again()
    rig.wait_reconciled()
    deadline = time.monotonic() + 30
    while private.containers() != [orphan]:
        assert time.monotonic() < deadline, private.containers()
        time.sleep(0.1)
    assert private.sdk.inspect_container(orphan)["State"]["Running"]
    (note,) = [note for note in rig.api.status()["engine"]["notes"] if orphan in note]
    assert "remove it by hand" in note
    assert orphan in rig.last_words()


@pytest.mark.parametrize(
    ("pull", "status", "text"),
    [("never", "failed", "pull"), ("missing", "starting", "registry")],
)
def test_an_image_removed_between_two_attempts(
    rig: FaultRig, private: PrivateEngine, pull: str, status: str, text: str
) -> None:
    """Row 45: a clear word, by the job's pull policy, and no loop of attempts."""
    image = "127.0.0.1:1/gone:1"
    container = private.sdk.create_container(IMAGE, ["true"])["Id"]
    private.sdk.commit(container, "127.0.0.1:1/gone", "1")
    rig.ctl(
        *["register", "--name", "one", "--attempts", "3", "--retry-delay", "2s"],
        *["--network", "none", "--memory", "32M", "--cpus", "0.1", "--pull", pull],
        *[image, "sh", "-c", "exit 3"],
    )
    number = rig.queue("one")
    rig.until_status(number, "retrying")
    private.sdk.remove_image(image, force=True)
    run = rig.until(number, lambda run: len(run["attempts"]) == 2 and run["reason"])
    # what a start says changes from try to try: "pulling ...", then what came of it
    run = rig.until(
        number,
        lambda run: run["status"] == status and text in (run["reason"] or {}).get("text", ""),
    )
    assert "gone:1" in run["reason"]["text"]
    if status == "starting":
        # back again, from wherever: it goes on, and the attempt that could not start cost nothing
        private.sdk.commit(container, "127.0.0.1:1/gone", "1")
        assert rig.ended(number)["status"] == "failed"
        assert [one for one in rig.outcomes(number) if one[0] == "failed"] == [("failed", 3)] * 3


def test_a_retry_uses_the_image_of_the_first_attempt(rig: FaultRig, private: PrivateEngine) -> None:
    """Row 45: the tag was taken from under it, the image is still there."""
    private.sdk.tag(IMAGE, "moving", "1")
    rig.image = "moving:1"
    rig.register("one", "[ $ATTEMPT = 2 ]", "--pull", "never", attempts=2)
    number = rig.queue("one")
    rig.until(number, lambda run: run["attempts"] and run["attempts"][0]["outcome"])
    private.sdk.remove_image("moving:1")
    assert rig.ended(number)["status"] == "succeeded"


def test_out_of_memory_is_told_from_an_end_by_itself(rig: FaultRig) -> None:
    """Row 46: the main process, a child with a bad end, a child that was not missed."""
    hungry = "tail /dev/zero"
    rig.register("main", f"exec {hungry}", "--memory", "16M")
    rig.register("child", f"{hungry}; exit 3", "--memory", "16M")
    rig.register("missed", f"{hungry}; exit 0", "--memory", "16M")
    rig.register("self", "kill -9 $$")
    numbers = [rig.queue(name) for name in ("main", "child", "missed", "self")]
    main, child, missed, own = (rig.ended(number) for number in numbers)
    assert (main["status"], main["exit_code"]) == ("oom-killed", 137)
    assert (child["status"], child["exit_code"]) == ("oom-killed", 3)
    assert (missed["status"], missed["oom_hint"]) == ("succeeded", True)
    assert (own["status"], own["exit_code"]) == ("failed", 137)


def test_a_stop_that_is_ignored_is_followed_by_a_kill(rig: FaultRig) -> None:
    """Row 49."""
    rig.register("deaf", "trap '' TERM; sleep 60 & wait; sleep 60", "--stop-grace", "1s")
    number = rig.queue("deaf")
    rig.begun(number)
    rig.ctl("cancel", str(number))
    run = rig.ended(number)
    assert (run["status"], run["exit_code"]) == ("cancelled", 137)


def test_a_cancel_that_races_with_the_end_leaves_one_end(
    rig: FaultRig, private: PrivateEngine
) -> None:
    """Row 49: from before the start to after the end, in steps."""
    rig.register("one", "sleep 0.3; exit 4", attempts=2)
    numbers = []
    for step in range(12):
        numbers.append(rig.queue("one"))
        time.sleep(step * 0.08)
        rig.ctl("cancel", str(numbers[-1]), check=False)
    for number in numbers:
        run = rig.ended(number)
        word = run["attempts"][-1]["outcome"] if run["attempts"] else "cancelled"
        assert run["status"] in ("cancelled", "failed"), run
        assert word in ("cancelled", "failed")
    deadline = time.monotonic() + 30
    while private.containers():
        assert time.monotonic() < deadline, private.containers()
        time.sleep(0.1)


def test_less_capacity_than_is_running_kills_nothing(rigs: MakeRig) -> None:
    """Row 50: nothing starts until what runs is below the new limit."""
    roomy = ["capacity.reserve_cpus = 0", "capacity.reserve_memory = 0"]
    rig = rigs("capacity.cpus = 2", *roomy)
    rig.register("one", "while [ ! -e /job/go ]; do sleep 0.1; done", "--cpus", "0.6")
    numbers = [rig.queue("one") for _ in range(3)]
    for number in numbers:
        rig.begun(number)
    rig.kill()
    rig.reconfigure("capacity.cpus = 1", *roomy)
    rig.start()
    rig.ready()
    rig.wait_reconciled()
    waiting = rig.queue("one")
    capacity = rig.api.status()["capacity"]
    assert (capacity["cpus"], capacity["reserved_cpus"]) == (1, pytest.approx(1.8))
    for number in numbers:
        run = rig.run(waiting)
        assert (run["status"], run["reason"]["code"]) == ("queued", "capacity")
        assert rig.run(number)["status"] == "running"
        (rig.home / f"state/work/{number}.1/job/go").touch()
        assert rig.ended(number)["status"] == "succeeded"
    rig.begun(waiting)
    (rig.home / f"state/work/{waiting}.1/job/go").touch()
    assert rig.ended(waiting)["status"] == "succeeded"
