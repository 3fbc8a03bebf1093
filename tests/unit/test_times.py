"""What people write for a moment, and what it means here, in summer and at night."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from agent.errors import ConfigInvalid
from agent.gate.times import Instant, Latest, Prefix, parse_when

BERLIN = ZoneInfo("Europe/Berlin")
NS = 1_000_000_000


def ns(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> int:
    """Return the nanoseconds of a local time in ISO 8601."""
    return int(datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()) * NS


NOW = ns("2026-11-23 19:30:00")


@pytest.mark.parametrize("text", ["", "  ", "latest", "Latest", " LATEST "])
def test_nothing_and_latest_mean_the_newest(text: str) -> None:
    """Without a time people want what is newest."""
    assert parse_when(text, NOW, BERLIN) == Latest()


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("now", "2026-11-23 19:30:00"),
        ("14:00", "2026-11-23 14:00:00"),
        ("today 9:30", "2026-11-23 09:30:00"),
        ("yesterday 14:00", "2026-11-22 14:00:00"),
        ("  Yesterday   14:00:05 ", "2026-11-22 14:00:05"),
        ("2026-11-22 14:00", "2026-11-22 14:00:00"),
        ("2026-11-22T14:00:05", "2026-11-22 14:00:05"),
        ("2026-11-22 14:00+01:00", "2026-11-22 14:00:00"),
        ("2026-11-22T13:00:00Z", "2026-11-22 14:00:00"),
        ("2026-11-22 08:00 -0500", "2026-11-22 14:00:00"),
        ("3 hours ago", "2026-11-23 16:30:00"),
        ("1 hour ago", "2026-11-23 18:30:00"),
        ("2 days ago", "2026-11-21 19:30:00"),
        ("1 week ago", "2026-11-16 19:30:00"),
        ("90 minutes ago", "2026-11-23 18:00:00"),
    ],
)
def test_moments_are_read_in_local_time(text: str, local: str) -> None:
    """What people write is meant in their own zone unless they name one."""
    assert parse_when(text, NOW, BERLIN) == Instant(ns(local))


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("2026-11-22", "2026-11-23 00:00:00"),
        ("yesterday", "2026-11-23 00:00:00"),
        ("today", "2026-11-24 00:00:00"),
    ],
)
def test_date_alone_means_its_end(text: str, after: str) -> None:
    """As of a day is with all of that day in it."""
    assert parse_when(text, NOW, BERLIN) == Instant(ns(after) - 1)


@pytest.mark.parametrize("text", ["9f3c", "2026", "DEADBEEF", "20261122", "0" * 64])
def test_hexadecimal_digits_are_a_snapshot(text: str) -> None:
    """Four or more: the start of an id, even where the digits could be a year."""
    assert parse_when(text, NOW, BERLIN) == Prefix(text.lower())


@pytest.mark.parametrize(
    "text",
    ["abc", "0" * 65, "2026-02-30", "25:00", "14:61", "tomorrow", "yesterday 14", "hours ago",
     "3 fortnights ago", "2026-11-22 14:00 Mars", "1969-12-31", "9999-12-31", "999999 weeks ago",
     "2026-13-01 10:00", "14:00 yesterday", "-1 days ago", "0x9f3c", "\u0661\u0664:00",
     "now\udcff", "latest" + " " * 64 + "x", "now" + " " * 100],
)  # fmt: skip
def test_anything_else_is_refused_with_examples(text: str) -> None:
    """The error shows how to write it, and does not repeat what was typed."""
    with pytest.raises(ConfigInvalid) as caught:
        parse_when(text, NOW, BERLIN)
    assert "yesterday 14:00" in caught.value.hint
    assert text not in caught.value.message


def test_doubled_hour_is_its_later_reading() -> None:
    """The night the clocks go back, 02:30 comes twice: the later one has more in it."""
    now = ns("2026-10-26 08:00:00")
    assert parse_when("yesterday 02:30", now, BERLIN) == Instant(ns("2026-10-25 02:30", fold=1))


def test_skipped_hour_is_no_crash() -> None:
    """The night the clocks go forward, 02:30 is the moment after the gap."""
    instant = parse_when("2026-03-29 02:30", NOW, BERLIN)
    assert instant == Instant(ns("2026-03-29 03:30:00"))


def test_hours_are_hours_and_days_are_days_over_a_clock_change() -> None:
    """Thirty hours ago counts hours; a day ago is the same time of day."""
    now = ns("2026-10-26 01:00:00")
    assert parse_when("24 hours ago", now, BERLIN) == Instant(ns("2026-10-25 02:00", fold=0))
    assert parse_when("1 day ago", now, BERLIN) == Instant(ns("2026-10-25 01:00:00"))


def test_day_that_ends_in_a_gap_ends_there() -> None:
    """Where midnight does not exist, the day ends when the clocks jump."""
    zone = ZoneInfo("America/Asuncion")  # 2023-10-01 00:00 became 01:00
    assert parse_when("2023-09-30", NOW, zone) == Instant(ns("2023-10-01 01:00", zone) - 1)


def test_machines_own_zone_is_the_default() -> None:
    """Without a zone the machine's is meant."""
    local = datetime.fromisoformat("2026-11-22 14:00").astimezone(UTC)
    assert parse_when("2026-11-22 14:00", NOW) == Instant(int(local.timestamp()) * NS)
