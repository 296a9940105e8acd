"""Charsets of bodies: which content types name one that works, and how text is encoded in it."""

import codecs
import encodings
import pkgutil
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.models.templates.charset import BodyCharset, BodyEncoder, body_charset, find_charset_problem
from ringback.models.templates.decimal_fields import DecimalFields
from ringback.models.templates.template import compile_template
from tests.support.unhurried import unhurried

FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("content_type", "codec"),
    [
        ("text/plain", "utf-8"),
        ("text/plain; charset=utf-8", "utf-8"),
        ("text/plain;charset=UTF8", "utf-8"),
        ('text/plain; a="; charset=koi8-r"; Charset="windows-1251"', "cp1251"),
        ("text/plain ;; charset=WINDOWS-1251 ; b=c;", "cp1251"),
        ("text/plain; charset=windows-31J", "cp932"),
        ("text/plain; charset=Windows-874", "cp874"),
        ("text/plain; charset=ISO-8859-8-I", "iso8859-8"),
        ("text/plain; charset=csISO88596E", "iso8859-6"),
        ("text/plain; charset=cswindows1251", "cp1251"),
        ("text/plain; charset=csUTF8", "utf-8"),
        ("text/plain; charset=ISO-8859-1", "iso8859-1"),
        ("text/plain; charset=utf-16", "utf-16"),
        ("text/plain; xcharset=nonsense", "utf-8"),
        ("text/plain; charset=utf-8; charset=UTF8", "utf-8"),
        (f"{FORM}; charset=Shift_JIS", "shift_jis"),
        (f"{FORM}; charset=iso-2022-jp", "iso2022_jp"),
    ],
)
def test_a_content_type_names_a_charset(content_type: str, codec: str) -> None:
    assert find_charset_problem(content_type) is None
    assert body_charset(content_type).codec == codec


UNKNOWN = "contentType names the charset {!r}, which is unknown. Enter one such as utf-8 or windows-1251."
NOT_IN_FORMS = (
    "contentType names the charset {}, which a form cannot have. Enter one that contains ASCII, such as utf-8."
)


@pytest.mark.parametrize(
    ("content_type", "message"),
    [
        ("text/plain; charset=windows-1215", UNKNOWN.format("windows-1215")),
        ("text/plain; charset=", UNKNOWN.format("")),
        ('text/plain; charset="utf-8', UNKNOWN.format('"utf-8')),
        ("text/plain; charset='utf-8'", UNKNOWN.format("'utf-8'")),
        ("text/plain; charset=rot13", UNKNOWN.format("rot13")),
        ("text/plain; charset=base64", UNKNOWN.format("base64")),
        ("text/plain; charset=idna", UNKNOWN.format("idna")),
        ("text/plain; charset=unicode_escape", UNKNOWN.format("unicode_escape")),
        ("text/plain; charset=undefined", UNKNOWN.format("undefined")),
        ("text/plain; charset=aliases", UNKNOWN.format("aliases")),
        (
            "text/plain; charset=utf-8; charset=koi8-r",
            "contentType names the charsets utf-8 and koi8-r. Enter one of them.",
        ),
        (f"{FORM}; charset=utf-16", NOT_IN_FORMS.format("utf-16")),
        (f"{FORM.upper()} ;charset=UTF-7", NOT_IN_FORMS.format("UTF-7")),
        (f"{FORM};charset=cp037", NOT_IN_FORMS.format("cp037")),
    ],
)
def test_a_charset_that_cannot_work_is_a_fault_and_falls_back_to_utf_8(content_type: str, message: str) -> None:
    assert find_charset_problem(content_type) == message
    assert body_charset(content_type).is_utf8


@pytest.mark.parametrize(
    ("content_type", "codec"),
    [
        ("text/xml; charset = windows-1251", "cp1251"),
        ("text/xml; charset =windows-1251", "cp1251"),
        ("text/xml; charset= windows-1251", "cp1251"),
        ('text/xml; charset="windows-1251"x', "cp1251"),
        ("text/xml; a; charset=windows-1251", "cp1251"),
        ("text/xml; charset:windows-1251", "utf-8"),
        ("text/xml; foo=bar charset=windows-1251", "utf-8"),
        ("text/xml; charset", "utf-8"),
        ("text/xml;" + " ;" * 100 + " x", "utf-8"),
    ],
)
def test_parameters_that_cannot_be_read_are_a_fault_and_are_sent_as_receivers_guess(
    content_type: str, codec: str
) -> None:
    assert find_charset_problem(content_type) == (
        f"contentType is {content_type!r:.80}, whose parameters cannot be read. "
        "Write each as name=value, without spaces, such as charset=utf-8."
    )
    assert body_charset(content_type).codec == codec


def test_every_accepted_codec_encodes_any_text() -> None:
    accepted = 0
    for module in pkgutil.iter_modules(encodings.__path__):
        if find_charset_problem(f"text/plain; charset={module.name}") is None:
            accepted += 1
            charset = body_charset(f"text/plain; charset={module.name}")
            encoder = BodyEncoder(charset)
            decoded = encoder.encode("a ж 日 😀 \u0301").decode(charset.codec)
            assert ("?" in decoded) == encoder.has_replaced, module.name
    assert accepted > 90


def test_characters_that_the_charset_lacks_become_question_marks() -> None:
    encoder = BodyEncoder(BodyCharset("windows-1251", "cp1251", is_form=False))
    assert encoder.encode("жук") == b"\xe6\xf3\xea"
    assert not encoder.has_replaced
    assert encoder.encode("ж日é") == b"\xe6??"
    assert encoder.has_replaced


def test_json_loses_no_character() -> None:
    encoder = BodyEncoder(BodyCharset("windows-1251", "cp1251", is_form=False))
    assert encoder.encode_json('{"a": "ж日😀"}') == b'{"a": "\xe6\\u65e5\\ud83d\\ude00"}'
    assert not encoder.has_replaced


def test_url_encode_uses_the_charset_of_a_form_only() -> None:
    template = compile_template("{{ name | url_encode }}&{{ name }}")
    form = BodyEncoder(BodyCharset("windows-1251", "cp1251", is_form=True))
    text = BodyEncoder(BodyCharset("windows-1251", "cp1251", is_form=False))
    assert template.render({"name": "ж +"}, encoder=form) == "%E6+%2B&ж +"
    assert template.render({"name": "ж +"}, encoder=text) == "%D0%B6+%2B&ж +"
    assert template.render({"name": "ж +"}) == "%D0%B6+%2B&ж +"
    assert not form.has_replaced
    assert template.render({"name": "日"}, encoder=form) == "%3F&日"
    assert form.has_replaced


def test_decimals_compute_in_a_form_of_another_charset() -> None:
    template = compile_template("{{ item.name | url_encode }}={{ item.total | plus: 1 | url_encode }}")
    form = BodyEncoder(BodyCharset("windows-1251", "cp1251", is_form=True))
    names = {"item": {"name": "ж", "total": "350.50"}}
    assert template.render(names, DecimalFields({"item.total": "decimal"}), encoder=form) == "%E6=351.50"


@unhurried
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
    label=st.sampled_from(["windows-1251", "koi8-r", "iso-8859-1", "gb18030", "shift_jis", "euc-kr", "iso-2022-jp"]),
)
def test_a_form_is_read_back_in_its_charset(text: str, label: str) -> None:
    charset = body_charset(f"{FORM}; charset={label}")
    encoder = BodyEncoder(charset)
    form = compile_template("name={{ name | url_encode }}")
    body = encoder.encode(form.render({"name": text}, encoder=encoder))
    expected = text.encode(charset.codec, "replace").decode(charset.codec, "replace")
    assert parse_qsl(body.decode(charset.codec), encoding=charset.codec) == [("name", expected)]


@unhurried
@given(st.text(max_size=40))
def test_any_label_is_a_charset_or_a_fault(label: str) -> None:
    content_type = f"text/plain; charset={label}"
    assert codecs.lookup(body_charset(content_type).codec)
    problem = find_charset_problem(content_type)
    if problem is not None and problem.startswith("contentType names "):
        assert body_charset(content_type).is_utf8
