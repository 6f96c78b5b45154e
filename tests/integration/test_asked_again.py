"""A request asked again by its key, as its reply was lost: the same answer, nothing done twice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from jobctl.client import Client
from jobd.wire import envelope
from jobd.wire.verbs import VERBS
from tests.support.fakehost import SMALL, FakeHost
from tests.support.people import People, is_root
from tests.support.rawpeer import RawPeer, long_frame, raw_peer
from tests.support.waiting import until


class Twice:
    """Asks each request twice with its key, over connections of their own."""

    def __init__(self, host: FakeHost) -> None:
        self._path = Path(host.home / "run" / "jobd.sock")
        self.asked: set[str] = set()

    def __call__(self, verb: str, **arguments: Any) -> Any:
        key = os.urandom(16)
        first, second = (self._ask(verb, arguments, key) for _ in range(2))
        assert second == first, verb
        assert first[1] == envelope.RESULT, first
        self.asked.add(verb)
        return first[2]

    def _ask(self, verb: str, arguments: dict[str, Any], key: bytes) -> Any:
        with raw_peer(self._path) as peer:
            peer.send(long_frame(envelope.request(5, verb, arguments, key)))
            return last(peer)


def last(peer: RawPeer) -> tuple[int, int, object]:
    reply = peer.reply()
    while reply[1] == envelope.PART:
        reply = peer.reply()
    return reply


def spec(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "img", "command": ["exit=1"], **SMALL, **more}


def test_every_changing_verb_answers_the_same_again(host: FakeHost, client: Client) -> None:
    twice = Twice(host)
    assert twice("job.register", spec=spec("again"))["changed"] is True
    twice("job.set", job="again", settings={"priority": 7})
    twice("job.apply", specs=[spec("again2", alert=[{"on": ["dead"], "journal": True}])])
    twice("job.pause", job="again")
    runs = twice("run.queue", job="again", count=3)
    assert len(client.runs(job="again", everything=True)) == 3
    first = str(client.runs(job="again")[-1]["id"])
    assert runs
    twice("run.hold", runs=[first])
    twice("run.release", runs=[first])
    twice("run.next", runs=[first])
    twice("run.edit", runs=[first], priority=3)
    twice("run.cancel", runs=[first])
    twice("run.retry", runs=[first])
    assert len(client.runs(job="again", everything=True)) == 4
    twice("schedule.add", job="again", schedule={"every": "1h"})
    twice("schedule.pause", job="again", name="every")
    twice("schedule.resume", job="again", name="every")
    twice("schedule.fire", job="again", name="every")
    twice("schedule.remove", job="again", name="every")
    twice("job.set", job="again", settings={"on": [{"topic": "told"}]})
    assert twice("topic.emit", topic="told")["count"] == 1
    twice("topic.emit", topic="nobody")
    number = twice("alert.test", job="again2")["alert"]
    (delivery,) = client.take_alerts()
    twice("alert.settle", delivery=delivery["delivery"], ok=True)
    twice("alert.resend", alert=number)
    twice("alert.snooze", job="again2", until=1 << 42)
    twice("run.cancel", job="again")
    twice("job.resume", job="again")
    twice("host.drain")
    twice("host.undrain")
    twice("job.unregister", job="again")
    changing = {verb.name for verb in VERBS if verb.changes}
    # an upload is its own bytes again, and a build is found by its key (its own tests)
    assert changing - twice.asked <= {"upload.put", "image.build"}


def test_a_key_is_for_one_piece_of_work_and_one_user(host: FakeHost, client: Client) -> None:
    client.register(spec("keyed"))
    key = os.urandom(16)
    path = host.home / "run" / "jobd.sock"
    with raw_peer(path) as peer:
        peer.send(long_frame(envelope.request(1, "job.pause", {"job": "keyed"}, key)))
        assert peer.reply()[1] == envelope.RESULT
        peer.send(long_frame(envelope.request(2, "job.resume", {"job": "keyed"}, key)))
        _, kind, error = peer.reply()
    assert kind == envelope.ERROR
    assert "used for job.pause" in str(error)
    assert client.job("keyed")["paused"] is True


def test_an_error_is_not_kept(host: FakeHost, client: Client) -> None:
    key = os.urandom(16)
    frame = long_frame(envelope.request(1, "job.pause", {"job": "later"}, key))
    with raw_peer(host.home / "run" / "jobd.sock") as peer:
        peer.send(frame)
        assert peer.reply()[1] == envelope.ERROR
        client.register(spec("later"))
        peer.send(frame)
        assert peer.reply()[1] == envelope.RESULT


@pytest.mark.skipif(not is_root(), reason="needs root, to become another user")
def test_another_user_is_not_shown_the_answer(host: FakeHost, client: Client) -> None:
    client.register(spec("mine"))
    key = os.urandom(16).hex()
    assert host.ctl("pause", "mine", "--request-key", key).status == 0
    people = People(host.home)
    try:
        assert people.say("nobody", "pause", "mine", "--request-key", key).status != 0
    finally:
        people.close()


def test_a_reply_that_was_lost_is_had_by_asking_again(host: FakeHost, client: Client) -> None:
    client.register(spec("lost"))
    path = host.home / "run" / "jobd.sock"
    key = os.urandom(16)
    frame = long_frame(envelope.request(3, "job.pause", {"job": "lost"}, key))
    with raw_peer(path) as peer:
        peer.send(frame)
        # the connection ends with the reply unread, once the work is done
        until(lambda: client.job("lost")["paused"])
    with raw_peer(path) as peer:
        peer.send(frame)
        _, kind, answer = last(peer)
    assert (kind, answer) == (
        envelope.RESULT,
        {"job": "lost", "paused": True, "changed": True},
    )


def test_after_a_restart_what_was_done_is_found_done(host: FakeHost, client: Client) -> None:
    client.register(spec("kept"))
    path = host.home / "run" / "jobd.sock"
    pause = long_frame(envelope.request(3, "job.pause", {"job": "kept"}, os.urandom(16)))
    queue = long_frame(envelope.request(4, "run.queue", {"job": "kept"}, os.urandom(16)))
    answers = []
    for _ in range(2):
        with raw_peer(path) as peer:
            for frame in (pause, queue):
                peer.send(frame)
                answers.append(last(peer)[2])
        host.restart()
    assert answers[2] == {"job": "kept", "paused": True, "changed": False}
    assert answers[3]["runs"] == answers[1]["runs"]  # type: ignore[index]
    with host.client() as again:
        assert len(again.runs(job="kept")) == 1
