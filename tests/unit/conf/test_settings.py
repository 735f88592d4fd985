"""Where settings come from: text is itself, whatever it looks like, and a secret is never said again."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.checkup import installed
from thalweg.checkup.finding import Severity
from thalweg.conf.settings import Settings, SettingsError, load_settings
from thalweg.jobs.runtime.job import use_own_spark

PASSWORD = "THALWEG_KAFKA__SASL_PASSWORD"


@pytest.mark.parametrize("secret", ["abc #def", "12345678", "null", "!AI!3B", "a: b", "[x", "'quoted'", "yes", " x "])
def test_text_from_the_environment_is_the_text(secret: str) -> None:
    kafka = load_settings(environment={PASSWORD: secret, "THALWEG_KAFKA__SASL_USERNAME": secret}).kafka
    assert kafka.sasl_password is not None
    assert kafka.sasl_password.get_secret_value() == kafka.sasl_username == secret


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_is_itself(text: str) -> None:
    password = load_settings(environment={PASSWORD: text}).kafka.sasl_password
    assert password is not None
    assert password.get_secret_value() == text
    assert load_settings(overrides=[f"warehouse.path={text}"], environment={}).warehouse.path == text


def test_what_is_no_text_is_read_as_what_it_is() -> None:
    settings = load_settings(
        overrides=["place.trigger_ms=50", "agent.time_scale=2.5"],
        environment={
            "THALWEG_OBSERVE__READ_AHEAD": "false",
            "THALWEG_SPARK__CONF": "{spark.ui.enabled: 'false'}",
            "THALWEG_LOGS__LEVEL": "debug",
        },
    )
    assert (settings.place.trigger_ms, settings.agent.time_scale) == (50, 2.5)
    assert settings.observe.read_ahead is False
    assert settings.spark.conf == {"spark.ui.enabled": "false"}
    assert settings.logs.level == "debug"


@pytest.mark.parametrize(
    ("environment", "file"),
    [
        ({"THALWEG_KAFKA__SASL_PASWORD": "!hunter2!3B"}, ""),  # misspelt: no such setting, and still a secret
        ({"THALWEG_KAFKA__SASL_PASSWORD__X": "hunter2"}, ""),
        ({}, "kafka:\n  sasl_password: !hunter2!3B\n"),
        ({}, "kafka:\n  sasl_password: [hunter2\n"),
        ({}, "kafka:\n  sasl_password: {hunter2: 1}\n"),
    ],
)
def test_a_refusal_never_says_the_secret(environment: dict[str, str], file: str, tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(file, encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        load_settings(config, environment=environment)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None  # nor does a traceback


def test_settings_never_show_the_secret() -> None:
    assert "hunter2" not in repr(load_settings(environment={PASSWORD: "hunter2"}))


def test_the_default_address_is_nobodys_word() -> None:
    assert not Settings().kafka.is_named
    assert not load_settings(environment={"THALWEG_KAFKA__TOPIC_PREFIX": "x"}).kafka.is_named
    assert load_settings(overrides=["kafka.bootstrap_servers=127.0.0.1:9092"], environment={}).kafka.is_named


def test_another_sparks_environment_is_passed_over_and_said() -> None:
    environ = {"SPARK_HOME": "/opt/spark3", "PYSPARK_PYTHON": "/usr/bin/python2", "PATH": "/bin"}
    finding = installed.spark_finding(environ, "/our/python")
    assert finding.status is Severity.WARNING
    assert "SPARK_HOME=/opt/spark3" in finding.seen
    assert "PYSPARK_PYTHON=/usr/bin/python2" in finding.seen
    assert installed.spark_finding({"PYSPARK_PYTHON": "/our/python"}, "/our/python").status is Severity.OK
    use_own_spark(environ, local=True)
    assert "SPARK_HOME" not in environ
    assert "python2" not in environ["PYSPARK_PYTHON"]
    assert os.path.basename(environ["PYSPARK_DRIVER_PYTHON"]).startswith("python")


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e400"])
@pytest.mark.parametrize("name", ["place.look_again_every_s", "place.tenants.a.budget_usd_per_hour", "agent.log_mb"])
def test_a_limit_is_a_number(name: str, number: str) -> None:
    with pytest.raises(SettingsError, match=name.replace(".", r"\.")):
        load_settings(None, (f"{name}={number}",))
