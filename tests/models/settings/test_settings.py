"""Settings: every invalid value is reported in one line with its variable and what the value must be."""

import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from ringback.models import ConfigurationError, Settings, load_settings, settings
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.settings import find_unknown_variables

UNSUPPORTED = (
    "RINGBACK_DATABASE_URL starts with neither postgres:// nor sqlite://. "
    "Set it to postgres://USER:PASSWORD@HOST:PORT/NAME or sqlite://PATH."
)
NO_NAME = "RINGBACK_DATABASE_URL lacks the name of the database. Set it to postgres://USER:PASSWORD@HOST:PORT/NAME."
NO_FILE = "Set it to sqlite:// followed by the path of a file, without options."
NO_SERVER = "is not a URL of a supported server. Set it to a host after one of"
NO_BASE_URL = "Set it to an http or https URL without query and fragment, such as https://hooks.example."
CREDENTIALS = "RINGBACK_PUBLIC_URL contains a user name or a password. Remove them."
AS_A_NETWORK = "Write networks as in 10.0.0.0/8, separated by commas."


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        *(("PORT", port, f"RINGBACK_PORT is {port}. Set it to a whole number from 0 to 65535.")
          for port in ("http", "65536", "-1", "80.5")),
        ("PORT", "tcp://10.0.0.1:8000",
         "RINGBACK_PORT is tcp://10.0.0.1:8000. Kubernetes sets it to this in every pod if a service is named "
         "ringback. Rename the service, or set enableServiceLinks: false in the pod's spec."),
        *(("DATABASE_URL", url, UNSUPPORTED) for url in ("mysql://me:hunter2@db/x", "postgres:", "x")),
        *(("DATABASE_URL", url, NO_NAME) for url in ("postgres://u:hunter2@db", "postgresql://db/")),
        ("DATABASE_URL", "postgres://[db/x", "RINGBACK_DATABASE_URL cannot be read: a host or port is invalid. "
         "Write host:port. Percent-encode special characters in user and password, such as %2F for /."),
        *(("DATABASE_URL", url, f"RINGBACK_DATABASE_URL is {url}. {NO_FILE}")
          for url in ("sqlite://", "sqlite://:memory:", "sqlite://x.db?mode=ro")),
        ("DATABASE_POOL_SIZE", "1",
         "RINGBACK_DATABASE_POOL_SIZE is 1. Set it to a whole number from 3 to 1000."),
        *(("BROKER_URL", url, f"RINGBACK_BROKER_URL {NO_SERVER} redis://, rediss://, amqp://, amqps://.")
          for url in ("kafka://me:hunter2@host", "redis", "redis://", "amqp:/host")),
        *(("REDIS_URL", url, f"RINGBACK_REDIS_URL {NO_SERVER} redis://, rediss://.") for url in ("amqp://host", "x")),
        ("ADMIN_TOKEN", "hunter2",
         "RINGBACK_ADMIN_TOKEN, of 7 characters, is not a valid token. "
         "Set it to 16 to 512 ASCII characters without spaces."),
        *(("PUBLIC_URL", url, f"RINGBACK_PUBLIC_URL is {url}. {NO_BASE_URL}")
          for url in ("ftp://x", "https://x/?y=1", "https://x:99999", "hooks")),
        *(("PUBLIC_URL", url, CREDENTIALS) for url in ("https://me:hunter2@x", "https://me:hunter2@x:99999")),
        ("DANGEROUS_ALLOW_NETWORKS", "10.0.0.0/8,nine",
         "RINGBACK_DANGEROUS_ALLOW_NETWORKS contains nine, which is not a network "
         f"('nine' does not appear to be an IPv4 or IPv6 network). {AS_A_NETWORK}"),
        ("DANGEROUS_ALLOW_NETWORKS", "10.0.0.1/8",
         "RINGBACK_DANGEROUS_ALLOW_NETWORKS contains 10.0.0.1/8, which is not a network "
         f"(10.0.0.1/8 has host bits set). {AS_A_NETWORK}"),
        *(("ALLOW_PORTS", f"443,{port}",
           f"RINGBACK_ALLOW_PORTS contains {port}, which is neither a port nor a range of ports from 1 to 65535. "
           "Write ports as in 443,8000-8999, separated by commas.")
          for port in ("http", "0", "65536", "90-80", "-1", "1-", "٨٠")),
        *(("LEASE_SECONDS", value, f"RINGBACK_LEASE_SECONDS is {value}. Set it to a number that is at least 3.")
          for value in ("2.9", "inf", "nan", "15s")),
        ("REDACT_PATTERNS", "x-a, (",
         "RINGBACK_REDACT_PATTERNS contains (, which is not a regular expression (unclosed group). "
         "Write regular expressions as in x-corp-.*, separated by commas or, if one contains a comma, by lines."),
        ("API_INTROSPECTION", "maybe", "RINGBACK_API_INTROSPECTION is maybe. Set it to true or false."),
        ("WORKER_CONCURRENCY", "0", "RINGBACK_WORKER_CONCURRENCY is 0. Set it to a whole number from 1 to 1000."),
        ("LOG_LEVEL", "LOUD", "RINGBACK_LOG_LEVEL is LOUD. Set it to DEBUG, INFO, WARNING or ERROR."),
    ],
)  # fmt: skip
def test_an_invalid_value_is_reported(monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str) -> None:
    monkeypatch.setenv(f"RINGBACK_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(caught.value) == sentence
    assert "hunter2" not in str(caught.value)


def test_a_value_of_the_wrong_type_is_reported() -> None:
    with pytest.raises(ConfigurationError, match=r"^RINGBACK_HOST is 5. Input should be a valid string.$"):
        load_settings(host=5)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("RINGBACK_DATABASE_UR", "RINGBACK_DATABASE_URL"),
        ("RINGBACK_DATABSAE_URL", "RINGBACK_DATABASE_URL"),
        ("RINGBACK_DATADIR", "RINGBACK_DATA_DIR"),
        ("RINGBACK_MODEL", "RINGBACK_MODELS"),
        ("ringback_prot", "RINGBACK_PORT"),
    ],
)
def test_a_misspelled_name_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, nearest: str) -> None:
    monkeypatch.setenv(name, "x")

    with pytest.raises(ConfigurationError) as caught:
        load_settings()

    assert str(caught.value) == f"{name} is not a setting. Did you mean {nearest}?"
    assert find_unknown_variables() == [name]


def test_an_unknown_name_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBACK_WORKER_THREADS", "8")
    monkeypatch.setenv("RINGBACK_COLOR", "red")

    assert not hasattr(load_settings(), "worker_threads")
    assert find_unknown_variables() == ["RINGBACK_COLOR", "RINGBACK_WORKER_THREADS"]


@pytest.mark.parametrize(
    "name",
    [
        "RINGBACK_URL", "RINGBACK_TOKEN", "RINGBACK_TEST_SEED", "RINGBACK_SERVICE_HOST", "RINGBACK_SERVICE_PORT_HTTP",
        "RINGBACK_PORT_8000_TCP", "RINGBACK_PORT_8000_TCP_ADDR", "RINGBACK_HOST", "ringback_host", "RINGBACKHOST",
    ],
)  # fmt: skip
def test_settings_and_variables_of_others_are_known(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")

    load_settings()

    assert find_unknown_variables() == []


def test_several_invalid_values_are_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBACK_PORT", "x")
    monkeypatch.setenv("RINGBACK_ADMIN_TOKEN", "hunter2")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(caught.value).count("RINGBACK_") == 2
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_defaults() -> None:
    loaded = load_settings()
    assert loaded.database_path == Path(".ringback/ringback.db")
    assert (loaded.host, loaded.port, loaded.dangerous_allow_networks, loaded.models) == ("127.0.0.1", 8000, (), ())
    assert loaded.lease_seconds == 15.0
    assert loaded.allow_ports == AddressPolicy().ports


def test_the_shortest_lease_is_three_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBACK_LEASE_SECONDS", "3")

    assert load_settings().lease_seconds == 3.0


def test_values_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DATA_DIR": "/srv/x",
        "DATABASE_URL": "sqlite:///var/lib/rb.db",
        "DANGEROUS_ALLOW_NETWORKS": " 10.0.0.0/8, ::1 ,",
        "ALLOW_PORTS": "443, 8000 - 8999 ,",
        "MODELS": "garage, shop ,",
        "PUBLIC_URL": "https://hooks.example/x/",
        "SECRET_KEY": "",
        "ADMIN_TOKEN": "0123456789abcdef",
        "UNKNOWN": "ignored",
    }.items():
        monkeypatch.setenv(f"RINGBACK_{name}", value)
    loaded = load_settings()
    assert loaded.data_dir == Path("/srv/x")
    assert loaded.database_path == Path("/var/lib/rb.db")
    assert loaded.dangerous_allow_networks == (ip_network("10.0.0.0/8"), ip_network("::1"))
    assert loaded.allow_ports == (range(443, 444), range(8_000, 9_000))
    assert (loaded.models, loaded.public_url) == (("garage", "shop"), "https://hooks.example/x")
    assert loaded.secret_key is None
    assert loaded.admin_token == SecretStr("0123456789abcdef")
    assert "0123456789abcdef" not in repr(loaded)


def test_overrides_replace_the_environment_unless_they_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBACK_PORT", "1234")
    assert (load_settings(port=None).port, load_settings(port=99).port) == (1234, 99)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("fd00::1", "http://[fd00::1]:8000"),
        ("hooks.example", "http://hooks.example:8000"),
    ],
)
def test_address(host: str, address: str) -> None:
    assert load_settings(host=host).address() == address
    assert load_settings(host=host).address(81) == address.replace(":8000", ":81")
    assert load_settings(host=host, public_url="https://x.example/rb/").address(81) == "https://x.example/rb"


def test_settings_are_frozen() -> None:
    loaded: Any = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        loaded.port = 1


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_a_module_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(models=("no_such_garage",)).load_models()
    assert str(caught.value) == (
        "RINGBACK_MODELS names the module no_such_garage, which cannot be imported (No module named 'no_such_garage'). "
        "Install it, or add its directory to PYTHONPATH."
    )
    (tmp_path / "rb_wrong.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ZeroDivisionError):  # an error inside the module keeps its traceback
        load_settings(models=("rb_wrong",)).load_models()
    assert "rb_wrong" not in sys.modules


def test_a_database_driver_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBACK_DATABASE_URL", "postgres://db/x")
    monkeypatch.setattr("ringback.models.settings.values.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError) as caught:
        settings.load_settings()
    assert str(caught.value) == (
        "RINGBACK_DATABASE_URL names Postgres, but its driver is missing. Run: pip install '.[postgres]'"
    )


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ("^x-corp-, ssn$ ,,", ("^x-corp-", "ssn$")),
        ("^x-.{1,3}$\n\n  ssn$\n", ("^x-.{1,3}$", "ssn$")),
        ("", ()),
    ],
)
def test_redact_patterns_stand_between_commas_or_on_lines(
    monkeypatch: pytest.MonkeyPatch, text: str, patterns: tuple[str, ...]
) -> None:
    monkeypatch.setenv("RINGBACK_REDACT_PATTERNS", text)

    assert load_settings().redact_patterns == patterns
