"""Settings: every invalid value is reported in one line with its variable and what the value must be."""

import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from ringback.models import ConfigurationError, Settings, load_settings, settings

UNSUPPORTED = "must start with postgres:// or sqlite://; other databases are not supported"
NO_NAME = "the name of the database is missing: postgres://USER:PASSWORD@HOST:PORT/NAME"
SCHEMES = "must be a URL that starts with one of"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PORT", "http", "RINGBACK_PORT: Input should be a valid integer, unable to parse string as an integer"),
        ("PORT", "65536", "RINGBACK_PORT: Input should be less than or equal to 65535"),
        ("PORT", "-1", "RINGBACK_PORT: Input should be greater than or equal to 0"),
        *(("DATABASE_URL", url, f"RINGBACK_DATABASE_URL: {UNSUPPORTED}") for url in ("mysql://db/x", "postgres:")),
        *(
            ("DATABASE_URL", url, f"RINGBACK_DATABASE_URL: {NO_NAME}")
            for url in ("postgres://u:p@db", "postgresql://db/")
        ),
        ("DATABASE_POOL_SIZE", "1", "RINGBACK_DATABASE_POOL_SIZE: Input should be greater than or equal to 2"),
        (
            "DATABASE_URL",
            "sqlite://",
            "RINGBACK_DATABASE_URL: must be sqlite:// followed by the path of a file, without options",
        ),
        (
            "DATABASE_URL",
            "sqlite://:memory:",
            "RINGBACK_DATABASE_URL: must be sqlite:// followed by the path of a file, without options",
        ),
        (
            "DATABASE_URL",
            "sqlite://x.db?mode=ro",
            "RINGBACK_DATABASE_URL: must be sqlite:// followed by the path of a file, without options",
        ),
        *(
            ("BROKER_URL", url, f"RINGBACK_BROKER_URL: {SCHEMES} redis://, rediss://, amqp://, amqps://")
            for url in ("kafka://host", "redis", "redis://", "amqp:/host")
        ),
        *(("REDIS_URL", url, f"RINGBACK_REDIS_URL: {SCHEMES} redis://, rediss://") for url in ("amqp://host", "x")),
        ("ADMIN_TOKEN", "short", "RINGBACK_ADMIN_TOKEN: must be 16 to 512 ASCII characters without spaces"),
        (
            "PUBLIC_URL",
            "ftp://x",
            "RINGBACK_PUBLIC_URL: ftp://x is not an http(s) URL such as https://hooks.example",
        ),
        (
            "PUBLIC_URL",
            "https://x/?y=1",
            "RINGBACK_PUBLIC_URL: https://x/?y=1 is not an http(s) URL such as https://hooks.example",
        ),
        (
            "PUBLIC_URL",
            "https://x:99999",
            "RINGBACK_PUBLIC_URL: Port out of range 0-65535",
        ),
        ("PUBLIC_URL", "https://me:pw@x", "RINGBACK_PUBLIC_URL: must not contain credentials"),
        ("PUBLIC_URL", "hooks", "RINGBACK_PUBLIC_URL: hooks is not an http(s) URL such as https://hooks.example"),
        (
            "DANGEROUS_ALLOW_NETWORKS",
            "10.0.0.0/8,nine",
            "RINGBACK_DANGEROUS_ALLOW_NETWORKS: nine is not a network "
            "('nine' does not appear to be an IPv4 or IPv6 network); write it as in 10.0.0.0/8",
        ),
        (
            "DANGEROUS_ALLOW_NETWORKS",
            "10.0.0.1/8",
            "RINGBACK_DANGEROUS_ALLOW_NETWORKS: 10.0.0.1/8 is not a network "
            "(10.0.0.1/8 has host bits set); write it as in 10.0.0.0/8",
        ),
        ("LEASE_SECONDS", "2.9", "RINGBACK_LEASE_SECONDS: Input should be greater than or equal to 3"),
        ("LEASE_SECONDS", "inf", "RINGBACK_LEASE_SECONDS: Input should be a finite number"),
        ("LEASE_SECONDS", "nan", "RINGBACK_LEASE_SECONDS: Input should be a finite number"),
        ("WORKER_CONCURRENCY", "0", "RINGBACK_WORKER_CONCURRENCY: Input should be greater than or equal to 1"),
        ("LOG_LEVEL", "LOUD", "RINGBACK_LOG_LEVEL: String should match pattern '^(DEBUG|INFO|WARNING|ERROR)$'"),
    ],
)
def test_an_invalid_value_is_reported(monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str) -> None:
    monkeypatch.setenv(f"RINGBACK_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(caught.value) == sentence


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


def test_the_shortest_lease_is_three_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBACK_LEASE_SECONDS", "3")

    assert load_settings().lease_seconds == 3.0


def test_there_is_no_setting_for_worker_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBACK_WORKER_THREADS", "8")

    assert not hasattr(load_settings(), "worker_threads")


def test_values_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DATA_DIR": "/srv/x",
        "DATABASE_URL": "sqlite:///var/lib/rb.db",
        "DANGEROUS_ALLOW_NETWORKS": " 10.0.0.0/8, ::1 ,",
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
        "RINGBACK_MODELS: the module no_such_garage cannot be imported (No module named 'no_such_garage'); "
        "install it, or add its directory to PYTHONPATH"
    )
    (tmp_path / "rb_wrong.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ZeroDivisionError):  # an error inside the module keeps its traceback
        load_settings(models=("rb_wrong",)).load_models()
    assert "rb_wrong" not in sys.modules


def test_a_database_driver_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBACK_DATABASE_URL", "postgres://db/x")
    monkeypatch.setattr("ringback.models.settings.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError) as caught:
        settings.load_settings()
    assert str(caught.value) == (
        "RINGBACK_DATABASE_URL: Postgres needs a driver that is not installed: pip install 'ringback[postgres]'"
    )
