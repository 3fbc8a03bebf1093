"""What holds for every moment and every text."""

from contextlib import suppress
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ConfigInvalid
from agent.gate.times import Instant, Prefix, When, parse_when

NS = 1_000_000_000
NOW = 1_795_458_600 * NS
ZONES = st.sampled_from(
    [ZoneInfo(n) for n in ("UTC", "Europe/Berlin", "Asia/Shanghai", "America/St_Johns")]
)
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001 - local
    lambda moment: moment.replace(microsecond=0)
)


@given(st.text(max_size=80))
def test_any_text_is_a_value_or_refused(text: str) -> None:
    """No text, however odd, raises anything but ConfigInvalid."""
    with suppress(ConfigInvalid):
        assert isinstance(parse_when(text, NOW, ZoneInfo("Europe/Berlin")), When)


@given(MOMENTS, ZONES)
def test_written_local_time_is_read_back(moment: datetime, zone: ZoneInfo) -> None:
    """A local time means one of its two readings, the later; in a gap, the moment after it."""
    readings = [moment.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1)]
    assert parse_when(f"{moment:%Y-%m-%d %H:%M:%S}", NOW, zone) == Instant(int(max(readings)) * NS)


@given(MOMENTS, ZONES)
def test_zoned_time_means_the_same_everywhere(moment: datetime, zone: ZoneInfo) -> None:
    """With an offset written out, the reader's own zone does not matter."""
    text = moment.replace(tzinfo=ZoneInfo("Asia/Shanghai")).isoformat()
    assert parse_when(text, NOW, zone) == parse_when(text, NOW, ZoneInfo("UTC"))


@given(MOMENTS, ZONES)
def test_day_ends_just_before_the_next_begins(moment: datetime, zone: ZoneInfo) -> None:
    """A date alone is the last nanosecond before the next day's midnight."""
    day, after = moment.date(), moment.date() + timedelta(days=1)
    end = parse_when(f"{day}", NOW, zone)
    midnight = parse_when(f"{after} 00:00", NOW, zone)
    assert isinstance(end, Instant)
    assert isinstance(midnight, Instant)
    assert end.time_ns == midnight.time_ns - 1


@given(st.binary(min_size=2, max_size=32))
def test_every_snapshot_id_is_a_prefix_of_itself(name: bytes) -> None:
    """Whatever its digits, an id is never taken for a time."""
    assert parse_when(name.hex().upper(), NOW) == Prefix(name.hex())
