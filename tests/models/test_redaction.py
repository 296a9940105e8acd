"""Redaction: which parts of headers, URLs and texts are stored, and which are redacted."""

import time
from random import Random
from urllib.parse import quote

import pytest

from ringback.models.redaction import DEFAULT, MASK, MAX_NAME_CHARS, MAX_SEARCHED_CHARS, Redaction

redact = DEFAULT.redact_headers
redact_url = DEFAULT.redact_url
redact_text = DEFAULT.redact_text


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "authorization",
        "Proxy-Authorization",
        "X-Authorization",
        "Cookie",
        "X-Api-Key",
        "apikey",
        "X-APIKEY",
        "Ocp-Apim-Subscription-Key",
        "X-Auth-Token",
        "AccessToken",
        "X-Amz-Security-Token",
        "X-Shared-Secret",
        "client_secret",
        "X-Password",
        "X-Passwd",
        "X-Auth",
        "X-Session-Id",
        "Private-Key",
        "Set-Cookie",
        "Set-Cookie2",
        "sig",
        "X-Ms-Signature",
        "X-Sign",
        "code",
        "X-Auth-Code",
        "X-Vault-Token",
        "X-Vault-Namespace",
        "X-PAT",
        "X-Github-Pat",
        "DD-API-KEY",
        "X-Functions-Key",
        "AWSAccessKeyId",
        "sharedKey",
        "clientSecret",
        "accountKey",
        "X-Amz-Credential",
        "PHPSESSID",
        "X-JWT",
        "X-Authentication",
        "SAMLResponse",
        "connection_string",
        "user[password]",
        "x" * (MAX_NAME_CHARS + 1),
    ],
)
def test_the_value_of_a_header_that_names_a_secret_is_redacted(name: str) -> None:
    assert redact(((name, "s3cr3t"),)) == [(name, MASK)]


@pytest.mark.parametrize(
    "name",
    [
        "Content-Type",
        "User-Agent",
        "PS-WEBHOOK_EVENT-ID",
        "Ringback-Event",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "Idempotency-Key",
        "X-Keyboard",
        "Author",
        "X-Authority-Name",
        "X-Monkey",
        "Accept",
        "X-Status-Code",
        "zip_code",
        "Keep-Alive",
        "WWW-Authenticate",
        "Authentication-Results",
        "Access-Control-Allow-Credentials",
        "X-Design",
        "X-Path",
        "X-Pattern",
        "Signal",
        "Hotkey",
        "Compass",
    ],
)
def test_other_values_are_stored(name: str) -> None:
    assert redact(((name, "plain"),)) == [(name, "plain")]


@pytest.mark.parametrize(
    ("value", "redacted"),
    [
        ("Bearer abc.def", f"Bearer {MASK}"),
        ("Basic dXNlcjpwYXNz", f"Basic {MASK}"),
        ("Bearer", MASK),
        ("two words", f"two {MASK}"),
        ("correct-horse battery", MASK),
        ("averylongfirstword rest", MASK),
        ("", MASK),
    ],
)
def test_the_scheme_of_an_authorization_stays_readable(value: str, redacted: str) -> None:
    assert redact((("Authorization", value),)) == [("Authorization", redacted)]


def test_only_an_authorization_has_a_scheme() -> None:
    assert redact((("X-Password", "correct horse"),)) == [("X-Password", MASK)]


def test_order_and_repetitions_are_preserved() -> None:
    assert redact((("B", "1"), ("A", "2"), ("B", "3"))) == [("B", "1"), ("A", "2"), ("B", "3")]


@pytest.mark.parametrize("name", ["X-Signature", "X-Hub-Signature-256", "X-HMAC", "X-Bearer"])
def test_signatures_of_others_are_redacted_but_not_our_own(name: str) -> None:
    assert redact(((name, "s3cr3t"), ("webhook-signature", "v1,abc"))) == [
        (name, MASK),
        ("webhook-signature", "v1,abc"),
    ]


@pytest.mark.parametrize("name", ["webhook-signature", "Webhook-Signature"])
@pytest.mark.parametrize(
    ("value", "redacted"),
    [
        (f"v1,{'a/' * 21}b=", f"v1,{'a/' * 21}b="),
        ("https://u:pw@h.example/?token=abc", f"https://{MASK}@h.example/?token={MASK}"),
        ("v1,a password=hunter2", f"v1,a password={MASK}"),
    ],
)
def test_only_what_is_a_signature_counts_as_one(name: str, value: str, redacted: str) -> None:
    assert redact(((name, value),)) == [(name, redacted)]


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("https://x.example/a?b=c", "https://x.example/a?b=c"),
        ("https://x.example/?token=s3cr3t&a=%20b+c", f"https://x.example/?token={MASK}&a=%20b+c"),
        ("https://x.example/?api%5Fkey=s3cr3t", f"https://x.example/?api%5Fkey={MASK}"),
        ("https://x.example/?token&secret=", "https://x.example/?token&secret="),
        ("https://x.example/", "https://x.example/"),
        ("https://x.example/?a=1;sig=s3cr3t;b=2", f"https://x.example/?a=1;sig={MASK};b=2"),
        ("https://x.example/?a=token=b", "https://x.example/?a=token=b"),
        ("https://x.example/?code=s3cr3t&status_code=5", f"https://x.example/?code={MASK}&status_code=5"),
        (
            "https://x.example/?X-Amz-Signature=a&X-Amz-Date=b",
            f"https://x.example/?X-Amz-Signature={MASK}&X-Amz-Date=b",
        ),
        ("https://x.example/#access_token=s3cr3t&a=b", f"https://x.example/#access_token={MASK}&a=b"),
        ("https://me:s3cr3t@x.example/a@b", f"https://{MASK}@x.example/a@b"),
        ("https://s3cr3t@x.example", f"https://{MASK}@x.example"),
        ("postgres://me:s3c@r3t@db:5432/x", f"postgres://{MASK}@db:5432/x"),
        ("//x.example/a?sig=s3cr3t", f"//x.example/a?sig={MASK}"),
        ("//me:s3cr3t@x.example/a@b", f"//{MASK}@x.example/a@b"),
        ("/a?sig=s3cr3t", f"/a?sig={MASK}"),
        ("https://x.example/?token=two words&a=b", f"https://x.example/?token={MASK}&a=b"),
        ("/a;v=1?token=s3cr3t&b=2", f"/a;v=1?token={MASK}&b=2"),
        (";a=b?sig=s3cr3t", f";a=b?sig={MASK}"),
        ("#a=b?token=s3cr3t", f"#a=b?token={MASK}"),
        ("/?a=b?c=d?token=s3cr3t", f"/?a=b?c=d?token={MASK}"),
        ("/?token=s3?cr3t&a=b", f"/?token={MASK}&a=b"),
        ("/?token=?s3cr3t?sig=s3cr3t?", f"/?token={MASK}"),
        ("/?code_verifier=s3cr3t&ticket=5", f"/?code_verifier={MASK}&ticket=5"),
        ("/?pin=s3cr3t&pin_color=red", f"/?pin={MASK}&pin_color=red"),
        ("/?pw=s3cr3t&sas=s3cr3t&skey=s3cr3t", f"/?pw={MASK}&sas={MASK}&skey={MASK}"),
        ("/?ｔoken=s3cr3t&%EF%BD%94oken=s3cr3t", f"/?ｔoken={MASK}&%EF%BD%94oken={MASK}"),
    ],
)
def test_secrets_of_a_url_are_redacted(url: str, redacted: str) -> None:
    assert redact_url(url) == redacted


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("https://hooks.slack.com/%73ervices/T0/B0/s3cr3t", f"https://hooks.slack.com/services/{MASK}"),
        ("https://hooks%2Eslack.com/services/T0/B0/s3cr3t?%61=b", f"https://hooks.slack.com/services/{MASK}?a=b"),
        ("https://bots.example/%62ot123:s3cr3t/send", f"https://bots.example/bot{MASK}/send"),
        ("/?a=%2Fb&x=https%3A%2F%2Fhooks.slack.com%2Fservices%2FT0%2Fs3cr3t", f"/?a=%2Fb&x={MASK}"),
        ("/?x=https%3A//me%3As3cr3t%40x.example/&a=b", f"/?x={MASK}&a=b"),
        ("/login?next=%2Fcb%3Fcode%3Ds3cr3t#a", f"/login?next={MASK}#a"),
        ("/login?next=%2Fcb%3Fto%3Dhttps%253A%252F%252Fx%252F%253Fa%253Db%2526sig%253Ds3cr3t", f"/login?next={MASK}"),
    ],
)
def test_secrets_that_escapes_hide_are_redacted(url: str, redacted: str) -> None:
    assert redact_url(url) == redacted
    assert redact_text(f"at {url} now") == f"at {redacted} now"


@pytest.mark.parametrize(
    "url",
    [
        "https://x.example/%61?b=%41",
        "https://x.example/?next=https%3A%2F%2Fshop.example%2Forders%3Fid%3D5&email=me%40x.example",
        "https://x.example/?at=2026-11-30T10%3A00&rate=5%25&name=%D0%98%D0%B2%D0%B0%D0%BD",
        "https://x.example/?a=%252525253Ftoken",
    ],
)
def test_urls_without_secrets_keep_their_escapes(url: str) -> None:
    assert redact_url(url) == url
    assert redact_text(f"at {url} now") == f"at {url} now"


SECRET = "T01ABCDEFGH/B01ABCDEFGH/1a2B3c4D5e6F7g8H9i0JkLmN"
UUID = "0b7a39cf-5d0e-4a57-a2a3-1f4d1e0f8a11"
HOOK = "1a2b3c4d5e6f7g8h9i0jklmnop"
BOT = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
URLS_BY_SERVICE = [
    (f"https://hooks.slack.com/services/{SECRET}", f"https://hooks.slack.com/services/{MASK}"),
    (f"https://hooks.slack.com/triggers/E01/5/{HOOK}?a=b", f"https://hooks.slack.com/triggers/{MASK}?a=b"),
    (f"https://proxy.example:8443/services/{SECRET}", f"https://proxy.example:8443/services/{MASK}"),
    (f"https://api.telegram.org/bot{BOT}/sendMessage?chat_id=5",
     f"https://api.telegram.org/bot{MASK}/sendMessage?chat_id=5"),
    (f"https://bots.example/bot{BOT.replace(':', '%3A')}/sendMessage", f"https://bots.example/bot{MASK}/sendMessage"),
    (f"https://api.telegram.org/file/bot{BOT}/a.png", f"https://api.telegram.org/file/bot{MASK}/a.png"),
    ("https://discord.com/api/webhooks/1/s3cr3t?wait=true", f"https://discord.com/api/webhooks/1/{MASK}?wait=true"),
    (f"https://ptb.discordapp.com/api/v10/webhooks/112233445566778899/{HOOK}-_{HOOK}/slack",
     f"https://ptb.discordapp.com/api/v10/webhooks/112233445566778899/{MASK}"),
    (f"https://corp.webhook.office.com/webhookb2/{UUID}@{UUID}/IncomingWebhook/{HOOK}/{UUID}",
     f"https://corp.webhook.office.com/webhookb2/{MASK}"),
    (f"https://outlook.office.com/webhook/{UUID}@{UUID}/IncomingWebhook/{HOOK}",
     f"https://outlook.office.com/webhook/{MASK}"),
    (f"https://prod-1.westeurope.logic.azure.com:443/workflows/{HOOK}/triggers/manual/paths/invoke?sv=1.0&sig={HOOK}",
     f"https://prod-1.westeurope.logic.azure.com:443/workflows/{HOOK}/triggers/manual/paths/invoke?sv=1.0&sig={MASK}"),
    ("https://hooks.zapier.com/hooks/catch/123456/abcdef/", f"https://hooks.zapier.com/hooks/catch/{MASK}"),
    (f"https://hook.eu1.make.com/{HOOK}", f"https://hook.eu1.make.com/{MASK}"),
    (f"https://hook.integromat.com/{HOOK}", f"https://hook.integromat.com/{MASK}"),
    (f"https://hook.us1.make.celonis.com/{HOOK}", f"https://hook.us1.make.celonis.com/{MASK}"),
    (f"https://maker.ifttt.com/trigger/x/json/with/key/{HOOK}", f"https://maker.ifttt.com/trigger/x/json/with/key/{MASK}"),
    (f"https://chat.corp.example/hooks/{HOOK}", f"https://chat.corp.example/hooks/{MASK}"),
    (f"https://chat.googleapis.com/v1/spaces/A/messages?key={HOOK}&token={HOOK}",
     f"https://chat.googleapis.com/v1/spaces/A/messages?key={MASK}&token={MASK}"),
    (f"https://events.pagerduty.com/integration/{UUID.replace('-', '')}/enqueue",
     f"https://events.pagerduty.com/integration/{MASK}"),
    (f"https://open.larksuite.com/open-apis/bot/v2/hook/{UUID}", f"https://open.larksuite.com/open-apis/bot/v2/hook/{MASK}"),
    (f"https://n8n.corp.example/webhook/{UUID}", f"https://n8n.corp.example/webhook/{MASK}"),
]  # fmt: skip


@pytest.mark.parametrize(("url", "redacted"), URLS_BY_SERVICE)
def test_the_secret_path_of_a_service_is_redacted(url: str, redacted: str) -> None:
    assert redact_url(url) == redacted
    assert redact_url(url.replace("https://", "HTTPS://")) == redacted.replace("https://", "HTTPS://")
    assert redact_text(f"The URL, rendered as '{url}', fails.") == f"The URL, rendered as '{redacted}', fails."
    assert redact((("X-Callback", url),)) == [("X-Callback", redacted)]


@pytest.mark.parametrize(
    "url",
    [
        "https://x.example/services/billing/orders",
        "https://x.example/robots/bot12/a",
        "https://x.example/api/webhooks/7/deliveries",
        "https://x.example/hooks/orders/created",
        "https://x.example/webhook/orders",
        "https://x.example/integration/orders",
        "https://x.example/inbox/a?page=2",
    ],
)
def test_other_paths_are_stored(url: str) -> None:
    assert redact_url(url) == url
    assert redact_text(url) == url


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Nothing to mask: a=b; token=c", "Nothing to mask: a=b; token=c"),
        ('See "https://x.example/?token=s3cr3t", then go on.', f'See "https://x.example/?token={MASK}", then go on.'),
        ("cannot connect to redis://:s3cr3t@db:1/0 (refused)", f"cannot connect to redis://{MASK}@db:1/0 (refused)"),
        (f"after /services/{SECRET}, and", f"after /services/{MASK} and"),
        ("back at #access_token=s3cr3t, then", f"back at #access_token={MASK} then"),
        ("at //me:s3cr3t@x.example, then", f"at //{MASK}@x.example, then"),
        ('{"a":"https://x/?a=1&sig=s3cr3t"}', f'{{"a":"https://x/?a=1&sig={MASK}"}}'),
    ],
)
def test_urls_in_texts_are_redacted(text: str, redacted: str) -> None:
    assert redact_text(text) == redacted


def test_a_relative_location_is_redacted_and_a_text_with_a_question_mark_is_stored() -> None:
    headers = (
        ("Location", "/login?token=two words"),
        ("X-Reason", "Why not?"),
        ("Link", "<https://x/?sig=a>; rel=next"),
    )

    assert redact(headers) == [
        ("Location", f"/login?token={MASK}"), ("X-Reason", "Why not?"), ("Link", f"<https://x/?sig={MASK}>; rel=next"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "redacted"),
    [
        ("Location", f"/services/{SECRET}", f"/services/{MASK}"),
        ("Content-Location", "/hooks/catch/1/abc/", f"/hooks/catch/{MASK}"),
        ("Location", "/cb#access_token=s3cr3t", f"/cb#access_token={MASK}"),
        ("Location", "cb;token=s3cr3t", f"cb;token={MASK}"),
        ("Location", "//me:s3cr3t@x.example/a", f"//{MASK}@x.example/a"),
        ("Link", "</cb#access_token=s3cr3t>; rel=next", f"</cb#access_token={MASK}>; rel=next"),
        ("Link", "<//me:s3cr3t@x.example>; rel=next", f"<//{MASK}@x.example>; rel=next"),
        ("Link", f"</services/{SECRET}>; rel=next", f"</services/{MASK}>; rel=next"),
        ("Refresh", "0; url=/hooks/catch/1/abc/", f"0; url=/hooks/catch/{MASK}"),
        ("X-Next", "#access_token=s3cr3t", f"#access_token={MASK}"),
    ],
)
def test_relative_urls_in_headers_are_redacted(name: str, value: str, redacted: str) -> None:
    assert redact(((name, value),)) == [(name, redacted)]


@pytest.mark.parametrize(
    ("name", "value", "redacted"),
    [
        ("X-Line", "t=1; sig=s3cr3t", f"t=1; sig={MASK}"),
        ("X-Line", "a=1;api-key=s3cr3t,b=2", f"a=1;api-key={MASK}"),
        ("X-Line", "ｔoken=s3cr3t", f"ｔoken={MASK}"),
        ("WWW-Authenticate", 'Bearer realm="x", token="s3cr3t, too", a="b"', f'Bearer realm="x", token={MASK}, a="b"'),
        ("WWW-Authenticate", 'Bearer token="s3\\"cr3t"', f"Bearer token={MASK}"),
        ("WWW-Authenticate", 'Bearer token="s3cr3t', f"Bearer token={MASK}"),
        ("Authentication-Info", "nextnonce=s3cr3t", MASK),
        ("Link", "</a>; rel=next; token=s3cr3t", f"</a>; rel=next; token={MASK}"),
    ],
)
def test_secret_parameters_of_headers_are_redacted(name: str, value: str, redacted: str) -> None:
    assert redact(((name, value),)) == [(name, redacted)]
    assert redact((("A", "b=c"), ("Location", "/"), (name, value)))[2] == (name, redacted)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Cache-Control", "private, max-age=0"),
        ("Alt-Svc", 'h3=":443"; ma=86400'),
        ("Permissions-Policy", "publickey-credentials-get=(self), otp-credentials=*"),
        ("WWW-Authenticate", 'Bearer error="invalid_token", error_description="The token expired"'),
        ("Authentication-Results", "mx.example; dkim=pass header.d=x.example"),
        ("Content-Security-Policy", "script-src 'sha256-token='"),
        ("ETag", 'W/"a="'),
        ("X-Text", "the key = 5"),
    ],
)
def test_other_parameters_of_headers_are_stored(name: str, value: str) -> None:
    assert redact(((name, value),)) == [(name, value)]
    assert redact((("Location", "/"), (name, value)))[1] == (name, value)


def test_urls_in_headers_are_redacted_altogether_once_there_is_too_much_to_search() -> None:
    long = "https://x.example/?a=" + "b" * (MAX_SEARCHED_CHARS - 40)
    headers = (("A", long), ("B", "https://x.example/?a=b"), ("C", "c" * 9_000), ("Location", "/?a=b"))

    assert redact(headers) == [("A", long), ("B", MASK), ("C", "c" * 9_000), ("Location", MASK)]


def test_names_that_the_operator_calls_secret_are_redacted_too() -> None:
    redaction = Redaction(["^x-corp-", "ssn$", "a{1,3}b"])

    headers = (("X-Corp-Id", "1"), ("My-SSN", "2"), ("aab", "3"), ("Not-X-Corp-Id", "4"), ("X-Api-Key", "5"))

    assert redaction.redact_headers(headers) == [
        ("X-Corp-Id", MASK), ("My-SSN", MASK), ("aab", MASK), ("Not-X-Corp-Id", "4"), ("X-Api-Key", MASK),
    ]  # fmt: skip
    assert redaction.redact_url("https://x/?ssn=1&name=2") == f"https://x/?ssn={MASK}&name=2"
    assert redaction.redact_text("at https://x/?ssn=1&name=2") == f"at https://x/?ssn={MASK}&name=2"
    assert DEFAULT.redact_url("https://x/?ssn=1&name=2") == "https://x/?ssn=1&name=2"


#: Texts that make a backtracking pattern slow, repeated to 64 KiB.
PIECES = [
    "a", "//", "//a", "://", "://a@", "?a", "?a=", "?=", ";", "/", "/bot1", "/bot1:", "/hooks/", "/hooks/a", "hook.",
    "hook.a.", "/api/", "/api/v1/webhooks/1", "/services/T", "/services/TAAAAAA/",
    "discord.com/api/webhooks/", ".office.com:", "-", "A", "aA", "?a=?", "?token=a?", "%73", "?a=%2F", "?a=%252F%2F",
    "?a=%25", "%25", "a=", 'a="', ',a="\\"', "token", ",", ",token=a",
]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_hostile_text_is_redacted_in_linear_time(piece: str) -> None:
    redaction = Redaction(["(a+)+$", "(a|a)*b", "(.*)*x"])
    text = "/" + piece * (65_536 // len(piece)) + "!"
    headers = [(text[:8_190], text), *((text[:100] + str(number), "v") for number in range(100)), ("Location", text)]

    started = time.thread_time()
    redaction.redact_text(text)
    redaction.redact_url(text)
    redaction.redact_headers(headers)
    assert time.thread_time() - started < 1.0


def test_no_secret_survives_whatever_is_around_it() -> None:
    random = Random(17)
    alphabet = "ab1?&;#=/:@%.-_~ '\"<>\\é"
    for _ in range(3_000):
        secret = "".join(random.choices("abcdefXYZ0123456789", k=24))
        noise = "".join(random.choices(alphabet, k=random.randrange(12)))
        ends = noise.replace("'", "").replace('"', "")
        name = random.choice(["token", "sig", "code", "X-PAT", "api%5Fkey", "X-Vault-Token", "apiKey"])
        url = f"https://x.example/{ends.partition('#')[0]}?a=1&{name}={secret}&b=2"
        assert secret not in redact_url(url), url
        assert secret not in redact_url(f"/?a=b&next={quote(url)}"), url
        assert secret not in redact_url(f"/;next={quote(url, safe='')}"), url
        assert secret not in redact_text(f"{noise} https://me:{secret}@x.example/{noise}")
        assert secret not in redact_url(f"https://hooks.slack.com/services/{secret}{noise}")
