from dataclasses import fields

from thalweg.conf.place_defaults import PLACE_DEFAULTS, WeightDefaults
from thalweg.conf.settings import PlaceSettings, WeightSettings
from thalweg.jobs.placement.settings import assumed_price, plan_settings, tenants_of


def test_the_defaults_are_those_of_the_settings() -> None:
    said = PlaceSettings()
    for field in fields(PLACE_DEFAULTS):
        if field.name not in ("weights", "tenants"):
            assert getattr(PLACE_DEFAULTS, field.name) == getattr(said, field.name), field.name
    assert {field.name for field in fields(WeightDefaults)} == WeightSettings.model_fields.keys()
    assert plan_settings(PLACE_DEFAULTS) == plan_settings(said)
    assert tenants_of(PLACE_DEFAULTS) == tenants_of(said) == {}
    assert str(assumed_price(PLACE_DEFAULTS)) == str(assumed_price(said)) == "nan"
