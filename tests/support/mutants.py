"""Deliberate bugs, each with the test that has to catch it (fault matrix, row 65).

A mutant is a piece of source that is another one: named so that its row reads as the bug. One that
no test catches is a hole in the tests, one whose source is gone has to be written anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, slots=True)
class Mutant:
    """`file` with `edits` made: pairs of what stands there once, and what stands there then.

    `caught_by` is one test, below `tests/`, as pytest names it.
    """

    name: str
    file: str
    caught_by: str
    edits: tuple[tuple[str, str], ...]

    def source(self) -> str:
        """The changed source. Fails where what is to be changed is not there once."""
        text = (ROOT / self.file).read_text(encoding="utf-8")
        for old, new in self.edits:
            assert text.count(old) == 1, f"mutant {self.name}: {old!r} is there {text.count(old)}x"
            text = text.replace(old, new)
        return text


def _one(name: str, file: str, caught_by: str, old: str, new: str) -> Mutant:
    return Mutant(name, f"jobd/{file}.py", caught_by, ((old, new),))


_CRASH = "unit/test_journal_crash.py::"
_FAULTS = "unit/test_journal_faults.py::"
_DAMAGE = "unit/test_journal_damage.py::"
_RULES = "unit/test_journal_rules.py::"
_OPEN = "unit/test_journal_open.py::"
_SNAP = "unit/test_snapshot_crash.py::"
_SNAP_DAMAGE = "unit/test_snapshot_damage.py::"
_SALVAGE = "unit/test_salvage_damage.py::"
_REMAINS = "unit/test_remains.py::"
_WHOLE = "unit/test_wholecore.py::"
_CUTS = _CRASH + "test_power_cut_at_every_operation[0]"
_SNAP_CUTS = _SNAP + "test_power_cut_at_every_operation[0]"
_AFTER_FAILURE = _FAULTS + "test_after_a_failed_sync_the_cache_is_not_believed"
_LAST_BITS = _DAMAGE + "test_every_bit_of_the_last_segment[True]"
_SEALED = _RULES + "test_a_sealed_header_that_does_not_fit_is_damage"

WRITING = (
    _one("acknowledged before the sync", "journal/writer", _CUTS,
         "            fs.fdatasync(now.fd)\n", "            pass\n"),
    _one("a failed sync is tried again", "journal/writer", _AFTER_FAILURE,
         '            raise self._fail(error, "a batch cannot be synced") from error\n',
         "            fs.fdatasync(now.fd)\n"),
    _one("goes on after a failed sync", "journal/writer", _AFTER_FAILURE,
         "        self.failed = failed\n", ""),
    _one("a segment's name is not synced", "journal/space", _CUTS,
         "            fs.fsync_dir(self.directory)\n        except OSError as error:\n"
         "            fs.close(blank.fd)",
         "            pass\n        except OSError as error:\n            fs.close(blank.fd)"),
    _one("a segment's header is not synced", "journal/space", _CUTS,
         "            fs.fsync(blank.fd)\n", "            pass\n"),
    _one("the rest of a short write is appended", "journal/writer",
         _FAULTS + "test_short_write_is_repeated_whole_and_twice_is_taken_back",
         "if fs.pwrite(now.fd, blob, at) != size and fs.pwrite(now.fd, blob, at) != size:",
         "if fs.pwrite(now.fd, blob, at) < 0:"),
    _one("a torn write is left there", "journal/writer",
         _FAULTS + "test_short_write_is_repeated_whole_and_twice_is_taken_back",
         "        if is_full(error):\n            with suppress(OSError):",
         "        if False:\n            with suppress(OSError):"),
    _one("no room is kept for the marks", "journal/space",
         _FAULTS + "test_marks_always_have_room", "MARKS_BYTES = 2 * BATCH_BYTES",
         "MARKS_BYTES = 0"),
    _one("more room is promised than there is", "journal/writer",
         _FAULTS + "test_room_is_kept[True-65536]",
         "            room += max(0, spare.reserved - ",
         "            room += max(0, 2 * spare.reserved - "),
    _one("no idle mark", "journal/writer", _LAST_BITS,
         "        if not self._real or not", "        if self._real or not"),
    _one("the lock is not waited for", "journal/lock", _OPEN + "test_a_second_opener_is_refused",
         "        while not self._fs.try_lock(self._fd):", "        while False:"),
)  # fmt: skip

READING = (
    _one("the checksum of a payload is ignored", "journal/segment", _CUTS,
         "                if crc32(payload) != p_crc:", "                if False:"),
    _one("the checksum of a header is ignored", "journal/segment",
         _DAMAGE + "test_every_bit_of_the_first_segment", " or crc32(head) != crc:", ":"),
    _one("the salt is ignored", "journal/segment",
         _RULES + "test_a_sealed_header_of_another_salt_is_stale", " or its_salt != salt", ""),
    _one("the chain is ignored", "journal/segment", _SEALED, " or previous != chain", ""),
    _one("a gap in the numbers is ignored", "journal/segment", _SEALED,
         "its_lsn != lsn + 1 or ", ""),
    _one("the watermark is ignored", "journal/segment", _SEALED, "mark <= lsn and ", ""),
    _one("the mark of a clean stop is ignored", "journal/examine",
         _DAMAGE + "test_bits_behind_a_clean_stop_are_damage",
         "    if sound.flags & CLEAN:\n", "    if False:\n"),
    _one("what is sound behind a bad place is cut", "journal/examine", _LAST_BITS,
         "    if later is not None:", "    if False:"),
    _one("a batch in another's place is a tear", "journal/examine",
         _RULES + "test_a_batch_twice_and_batches_in_another_order",
         "    if walk.misfit:", "    if False:"),
    _one("a read error is a tear", "journal/examine", _RULES + "test_a_read_error_is_not_a_tear",
         "        raise unreadable(directory, name, walk.offset, error) from error\n",
         "        pass\n"),
    _one("where an inner segment ends is ignored", "journal/examine",
         _DAMAGE + "test_truncation_of_an_inner_segment_at_every_byte",
         "        if (sound.end, sound.last_lsn, sound.last_crc) != (",
         "        if False and (sound.end, sound.last_lsn, sound.last_crc) != ("),
    _one("another queue's segment is taken", "journal/examine",
         _RULES + "test_segments_missing_swapped_or_of_another_queue",
         "    if header.store != before.store:", "    if False:"),
    _one("the cache is believed after a failure", "journal/examine", _AFTER_FAILURE,
         "        fs.drop_cache(fd)\n        last = _walk", "        last = _walk"),
    _one("what a kill left unsynced is relied on", "journal/examine",
         _FAULTS + "test_a_queue_that_cannot_be_synced_is_not_read_further",
         "            fs.fdatasync(fd)\n", "            pass\n"),
    _one("a newer format is read", "journal/segment",
         _RULES + "test_unknown_major_version_is_refused_with_the_version_needed",
         "    if major != MAJOR:", "    if False:"),
    _one("torn bytes are cut and not kept", "journal/recovery",
         _CRASH + "test_torn_bytes_are_never_lost_whenever_recovery_is_cut",
         "            fs.fsync(target)\n", "            pass\n"),
    _one("a quarantine is written over", "journal/recovery",
         _DAMAGE + "test_quarantine_is_never_overwritten",
         "    while candidate in taken or", "    while candidate not in taken and"),
    _one("the cut of a tear is not synced", "journal/recovery", _CUTS,
         "        if last:\n            fs.fsync(fd)\n", ""),
    _one("a body's checksum is ignored", "journal/bodies",
         "unit/test_bodies.py::test_every_damage_is_told",
         "        if (size, crc) != (body.size, body.crc):", "        if size != body.size:"),
)  # fmt: skip

SNAPSHOTS = (
    Mutant("a snapshot is not synced", "jobd/journal/snapshot.py", _SNAP_CUTS, (
        ("        self._fs.fdatasync(self._fd)\n", ""),
        ("        fs.fsync(self._fd)\n", ""),
    )),
    _one("a snapshot is read back from memory", "journal/snapshot",
         _SNAP_DAMAGE + "test_what_was_not_written_as_it_should_is_found_at_once",
         "        fs.drop_cache(self._fd)\n", ""),
    _one("a segment too many goes", "journal/retention",
         _SNAP + "test_the_older_snapshot_is_as_good_at_any_moment",
         "(first_lsn_of(after) or 0) <= keep_from + 1",
         "(first_lsn_of(after) or 0) <= keep_from + 9"),
    _one("segments go before the snapshot has its name", "journal/journal", _SNAP_CUTS,
         "        snapshot = self._snapshots.publish(made, bad)\n",
         "        from jobd.journal.retention import remove, replaced\n"
         "        gone = replaced(self._fs.listdir(self.directory), made.lsn)\n"
         "        remove(self._fs, self.directory, gone, _at_once)\n"
         "        snapshot = self._snapshots.publish(made, bad)\n"),
    _one("the older snapshot's segments go", "journal/retention",
         _SNAP + "test_the_older_snapshot_is_as_good_at_any_moment",
         "            keep = self._older[0][0] if self._older else 0", "            pass"),
    _one("the first snapshot replaces the queue", "journal/retention",
         _SNAP + "test_the_older_snapshot_is_as_good_at_any_moment",
         "self._older[0][0] if self._older else 0", "self._older[0][0] if self._older else keep"),
    _one("a damaged snapshot is given up with all of them", "journal/basis",
         _SNAP_DAMAGE + "test_the_older_one_tells_the_same",
         "            bad.append(Bad(name, error.offset, str(error)))\n",
         "            bad.append(Bad(name, error.offset, str(error)))\n            break\n"),
    _one("a snapshot may end anywhere", "journal/snapshot",
         _SNAP_DAMAGE + "test_any_end_but_its_own_is_seen",
         "    if walk.offset != size:", "    if False:"),
    _one("a snapshot of another past is taken", "journal/examine",
         _SNAP_DAMAGE + "test_a_snapshot_of_another_past_is_not_taken",
         "if index else basis.misfit(header)", "if index else None"),
)  # fmt: skip

SALVAGE = (
    _one("a run with a hole is not held", "core/salvage",
         _SALVAGE + "test_two_hurt_places",
         "        if run.hurt:\n            return Hold(SUSPECT, run.hurt)\n", ""),
    _one("holes are not counted", "core/remains",
         _REMAINS + "test_a_change_that_is_not_there_is_a_hole",
         "        thing.holes += lost\n", ""),
    _one("a record counts twice", "core/remains",
         _REMAINS + "test_a_record_that_is_met_twice_counts_once",
         "        if item.revision <= thing.rev:", "        if item.revision < thing.rev:"),
    _one("what nobody can name was about nobody", "core/salvage",
         _SALVAGE + "test_a_zeroed_window_never_makes_a_run_that_is_not_true",
         "        elif run.last < self.remains.last_loss:", "        elif False:"),
    _one("the name of an attempt is used again", "core/remains",
         _REMAINS + "test_an_attempt_that_only_a_frame_tells_of_is_counted",
         "            run.attempts += e.BY_TYPE.get(item.type) is e.AttemptClaimed\n", ""),
    _one("files that were salvaged are gone", "journal/swap",
         _SALVAGE + "test_one_flipped_bit_costs_no_other_run",
         "            fs.link(old, new)\n", "            pass\n"),
    _one("the salvaged queue's names are not synced", "journal/swap",
         "unit/test_salvage_crash.py::test_a_power_cut_at_every_step",
         "    fs.fsync_dir(new)\n", ""),
)  # fmt: skip

CORE = (
    _one("half a decision is written", "daemon/core_loop",
         _WHOLE + "test_no_memory_at_any_line_of_a_decision_writes_no_half_of_it",
         "        if self._torn is not None:\n            raise self._torn\n", ""),
    _one("an effect goes out before the sync", "daemon/core_loop",
         _WHOLE + "test_lives_of_the_whole_core",
         "                places = self.journal.write(self._records)\n",
         "                for effect in self._effects:\n"
         "                    assert self.performer is not None\n"
         "                    self.performer.perform(effect)\n"
         "                places = self.journal.write(self._records)\n"),
    _one("a request that is sent twice queues twice", "core/queueing",
         "unit/test_core_queueing.py::test_a_request_that_is_sent_twice_queues_once",
         "        made = state.requests.find(command.request)\n", "        made = []\n"),
    _one("one attempt too many", "core/policy",
         "unit/test_core_policy.py::test_no_more_attempts_than_the_job_says",
         "    if charged >= retry.attempts:", "    if charged > retry.attempts:"),
    _one("a schedule's place does not move", "core/schedules",
         _WHOLE + "test_lives_of_the_whole_core",
         "        schedule.cursor = max(schedule.cursor, cursor)\n", ""),
    _one("a paused job starts", "core/dispatch", "unit/test_simulation.py::test_lives",
         "        if job.paused:\n", "        if False:\n"),
    _one("a drained host starts runs", "core/dispatch",
         "unit/test_core_changes.py::test_a_drained_host_starts_nothing_also_after_a_restart",
         "    if state.host.drained_at is not None:\n", "    if False:\n"),
)  # fmt: skip

MUTANTS = (*WRITING, *READING, *SNAPSHOTS, *SALVAGE, *CORE)
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
