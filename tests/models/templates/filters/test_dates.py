"""The filter `date`: formats as Ruby writes them, dates as Shopify's Liquid reads them, and time zones."""

import datetime as dt
import string
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.models.templates.template import compile_template
from ringback.models.templates.validation import check_template
from tests.support.templates import catch_error, located_message
from tests.support.unhurried import unhurried

AT = "2026-03-01T09:05:07.123456Z"
#: Directives that Ruby and C write alike, in C's locale.
SHARED = "aAbBcCdDeFgGhHIjlkmMnprRsStTuUVwWxXyY%"


def render_date(text: object, form: str, zone: str | None = None) -> str:
    call = "date: form" if zone is None else "date: form, zone"
    return compile_template(f"{{{{ text | {call} }}}}").render({"text": text, "form": form, "zone": zone})


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("%L|%N|%3N|%6N|%9N|%1N|%12N", "123|123456000|123|123456|123456000|1|123456000000"),
        ("%z|%:z|%::z|%Z", "+0000|+00:00|+00:00:00|UTC"),
        ("%%s|%%%d|%%%%d|%s", "%s|%01|%%d|1772355907"),
        ("%-d.%-m.%y %-H:%M %-I %l %k %e", "1.3.26 9:05 9  9  9  1"),
        ("%_d|%010d|%_5m|%-j|%^a|%^B|%#p|%P|%10A|%-S", " 1|0000000001|    3|60|SUN|MARCH|am|am|    Sunday|7"),
        ("%v|%+|%x|%X|%D|%F|%T|%R|%r", " 1-MAR-2026|Sun Mar  1 09:05:07 UTC 2026|03/01/26|09:05:07|03/01/26|"
                                       "2026-03-01|09:05:07|09:05|09:05:07 AM"),
        ("%Ey|%Od|%Q|%!|%", "26|01|%Q|%!|%"),
        ("%G-W%V-%u|%U|%W|%w|%C|%g|%h", "2026-W09-7|09|08|0|20|26|Mar"),
    ],
)  # fmt: skip
def test_a_format_is_written_as_in_ruby(form: str, text: str) -> None:
    assert render_date(AT, form) == text


@unhurried
@given(
    st.datetimes(min_value=dt.datetime(1000, 1, 1), timezones=st.just(dt.UTC)),
    st.lists(st.sampled_from([f"%{letter}" for letter in SHARED]) | st.sampled_from(" :-%d.%mя"), max_size=12),
)
def test_common_directives_are_written_as_in_c(timestamp: dt.datetime, parts: list[str]) -> None:
    form = "".join(part for part in parts if part != "%")

    seconds = str(int((timestamp - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(seconds=1)))
    expected = "".join(
        seconds if part == "%s" else timestamp.strftime(part) if part.startswith("%") else part
        for part in parts
        if part != "%"
    )

    assert render_date(timestamp.isoformat(), form) == (expected or timestamp.isoformat())


@unhurried
@given(st.text(alphabet="%-0^#_:EOzLN" + string.ascii_letters + string.digits, max_size=20))
def test_no_format_is_an_error_of_ours(form: str) -> None:
    for error in check_template(f"{{{{ item.at | date: '{form}' }}}}", fields=["item.at"], sample={"at": AT}):
        assert located_message(error)[0].startswith("The date format contains a width of more than two digits")


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("03.04.2026", "2026-04-03T00:00:00"),
        ("3.4.2026", "2026-04-03T00:00:00"),
        ("03.04.26", "2026-04-03T00:00:00"),
        ("31.12.99", "1999-12-31T00:00:00"),
        ("03.04.2026 14:30", "2026-04-03T14:30:00"),
        ("03.04.2026, 14:30:15", "2026-04-03T14:30:15"),
        ("03.04.2026T14:30Z", "2026-04-03T14:30:00"),
        ("03.04.2026 10.30", "2026-04-03T10:30:00"),
        ("03.04.2026 10.30.15", "2026-04-03T10:30:15"),
        ("2026-04-03 10.30", "2026-04-03T10:30:00"),
        ("03-04-2026", "2026-04-03T00:00:00"),
        ("13-04-2026", "2026-04-13T00:00:00"),
        ("3-4-2026 14:30", "2026-04-03T14:30:00"),
        ("03-04-2026T14:30:00-03:00", "2026-04-03T14:30:00"),
        ("26-04-03", "2026-04-03T00:00:00"),
        ("26-4-3", "2026-04-03T00:00:00"),
        ("99-12-31", "1999-12-31T00:00:00"),
        ("2026-04-03", "2026-04-03T00:00:00"),
        ("March 14, 2016", "2016-03-14T00:00:00"),
        ("1152098955", "2006-07-05T11:29:15"),
        ("13.13.2026", "13.13.2026"),
        ("30.02.2026", "30.02.2026"),
        ("30-02-2026", "30-02-2026"),
        ("192.168.1.20", "192.168.1.20"),
        ("soon", "soon"),
        ("350.50", "350.50"),
        (2.675, "2.675"),
        ("-1152098955", "-1152098955"),
        (-1152098955, "1933-06-29T12:30:45"),
        (True, "true"),
    ],
)
def test_a_date_of_numbers_has_the_day_first(text: object, iso: str) -> None:
    assert render_date(text, "%Y-%m-%dT%H:%M:%S") == iso


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("Sat Jan 31 12:00:00 GMT+03:00 2026", "12:00 +03:00"),
        ("Sat Jan 31 2026 12:00:00 GMT+0300", "12:00 +03:00"),
        ("Sat Jan 31 2026 12:00:00 GMT+0300 (Moscow Standard Time)", "12:00 +03:00"),
        ("2026-01-31 12:00 UTC+3", "12:00 +03:00"),
        ("2026-01-31 12:00 PM GMT -0330", "12:00 -03:30"),
        ("2026-01-31 12:00:00 +0300 MSK", "12:00 +03:00"),
        ("2026-01-31 12:00:00 +0000 UTC", "12:00 +00:00"),
        ("2026-01-31 12:00:00 -0500 (EST)", "12:00 -05:00"),
        ("2026-01-31 12:00:00 EST", "12:00 -05:00"),
        ("Sat Jan 31 12:00:00 PDT 2026", "12:00 -07:00"),
        ("Sat, 31 Jan 2026 12:00:00 UT", "12:00 +00:00"),
        ("2026-01-31 12:00:00 MSK", "12:00 +03:00"),
        ("2026-01-31 12:00 P.M.", "12:00 +00:00"),
        ("2026-01-31 12:00:00 CET", "2026-01-31 12:00:00 CET"),
        ("2026-01-31 12:00:00 (MSK)", "2026-01-31 12:00:00 (MSK)"),
        ("2026-01-31 12:00:00 +25:00", "2026-01-31 12:00:00 +25:00"),
    ],
)
def test_the_zone_of_a_date_is_an_offset_or_a_known_name(text: str, time: str) -> None:
    assert render_date(text, "%H:%M %:z") == time


def test_missing_parts_of_a_date_are_those_of_today_before_the_first_part_given() -> None:
    today = render_date("now", "%F")

    assert render_date("March 2016", "%F") == render_date("2016-03", "%F") == "2016-03-01"
    assert render_date("2016 14:00", "%F %R") == "2016-01-01 14:00"
    assert render_date("March", "%F") == f"{today[:4]}-03-01"
    assert render_date("14th", "%F") == f"{today[:8]}14"
    assert render_date("10:30", "%F %R") == f"{today} 10:30"
    assert render_date("Friday", "%F") == "Friday"


@unhurried
@given(st.text(max_size=30) | st.text(alphabet="0123456789.-+:/ TZAPM()GMTUCESJanFriday", max_size=30))
def test_no_text_is_an_error(text: str) -> None:
    assert isinstance(render_date(text, "%c %Z"), str)


@pytest.mark.parametrize(
    ("text", "zone", "name"),
    [
        (AT, None, "UTC"),
        (AT, "Europe/Moscow", "MSK"),
        ("2026-03-01T12:00:00+03:00", None, ""),
        ("2026-03-01 12:00 EST", None, ""),
    ],
)
def test_an_offset_has_no_abbreviation(text: str, zone: str | None, name: str) -> None:
    assert render_date(text, "%Z|", zone) == f"{name}|"


@unhurried
@given(
    st.dates(min_value=dt.date(1970, 1, 1), max_value=dt.date(2068, 12, 31)), st.sampled_from(["%d.%m.%Y", "%d.%m.%y"])
)
def test_a_dotted_date_is_read_as_it_is_written(day: dt.date, form: str) -> None:
    assert render_date(render_date(day.isoformat(), form), "%F") == day.isoformat()


@pytest.mark.parametrize(
    ("text", "zone", "local"),
    [
        ("2026-03-01T22:05:00.000000Z", "Europe/Moscow", "02.03.2026 01:05 +03:00"),
        ("2026-03-01T22:05:00+05:00", "Europe/Moscow", "01.03.2026 20:05 +03:00"),
        ("2026-07-01 12:00", "Europe/Berlin", "01.07.2026 14:00 +02:00"),
        ("2026-01-01 12:00", "Europe/Berlin", "01.01.2026 13:00 +01:00"),
        ("2026-07-01", "America/New_York", "01.07.2026 00:00 -04:00"),
        ("01.07.2026", "America/New_York", "01.07.2026 00:00 -04:00"),
        ("01.07.2026 10.30", "Europe/Berlin", "01.07.2026 12:30 +02:00"),
        ("01.07.2026 12:00 EST", "Europe/Berlin", "01.07.2026 19:00 +02:00"),
        ("1152098955", "Asia/Kolkata", "05.07.2006 16:59 +05:30"),
        ("0001-01-01T00:00:00Z", "America/New_York", "0001-01-01T00:00:00Z"),
        ("soon", "Europe/Moscow", "soon"),
    ],
)
def test_a_time_zone_gives_local_time(text: str, zone: str, local: str) -> None:
    assert render_date(text, "%d.%m.%Y %H:%M %:z", zone) == local


@pytest.mark.parametrize("zone", ["Mars/Base", "", "..", "/etc/passwd", "Europe", "x" * 5_000, "a\0b", "\ud800"])
def test_an_unknown_time_zone_is_an_error(zone: str) -> None:
    error = catch_error(partial(render_date, AT, "%F", zone))
    assert located_message(error)[0].startswith("Unknown time zone '")


def test_a_literal_time_zone_is_checked_when_the_webhook_is_saved() -> None:
    check = partial(check_template, fields=["item.at", "item.zone"], sample={"at": AT, "zone": "Europe/Moscow"})

    for source, message in {
        "{{ item.at | date: '%F', 'Europe/Mosco' }}": "Unknown time zone 'Europe/Mosco'. Did you mean 'Europe/Moscow'?",
        "{% if false %}{{ item.at | date: item.zone, 'X' }}{% endif %}": (
            "Unknown time zone 'X'. Use a name of the IANA database, such as Europe/Berlin"
        ),
    }.items():
        assert [located_message(error)[0] for error in check(source)] == [message]
    assert (
        check("{{ event.created_at | date: '%d.%m.%Y %H:%M', 'Europe/Moscow' }}{{ item.at | date: '%F', item.zone }}")
        == []
    )
