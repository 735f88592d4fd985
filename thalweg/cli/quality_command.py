"""`thalweg quality`: judge the newest stored telemetry by the value rules, with Great Expectations."""

import sys
from pathlib import Path

import click

from thalweg.cli.reach.reading import WrongCall, find_warehouse
from thalweg.cli.terminal.render import print_json, print_table
from thalweg.conf.settings import SettingsError, load_settings
from thalweg.scheduling.counted import counted
from thalweg.streams.telemetry.rules import site_rules


@click.command(short_help="Judge the newest stored telemetry by the value rules.")
@click.option("--warehouse", metavar="URI", help="Folder or object-store URI of the tables.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="YAML settings file.")
@click.option("--set", "overrides", multiple=True, metavar="GROUP.FIELD=VALUE", help="One setting; repeatable.")
@click.option("--rows", type=click.IntRange(min=1), default=20_000, show_default=True, help="How many, newest first.")
@click.option(
    "--html", "folder", type=click.Path(file_okay=False, path_type=Path), help="Write the library's page here."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def quality(
    warehouse: str | None,
    config: Path | None,
    overrides: tuple[str, ...],
    rows: int,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Say of each value rule how many of the newest stored rows break it; exit code 1 if any does.

    The rules are those of the setting `observe.rules`. The stream judges every row by them before it is stored, so a
    row that breaks one was stored under other rules, or is a fault of ours.

    \b
    Examples:
      thalweg quality
      thalweg quality --json --rows 100000
      thalweg quality --set observe.rules=rules.yaml --html report
    """
    try:
        rules = site_rules(load_settings(config, overrides).observe)
        place = find_warehouse(warehouse, config)
    except SettingsError as error:
        raise WrongCall(str(error)) from error
    if "://" not in place and not Path(place).is_dir():
        raise click.ClickException(f"there is no warehouse at {place}: name another with --warehouse")
    from thalweg.streams.telemetry.stored_quality import stored_quality  # late: the library takes two seconds

    found = stored_quality(place, rules, rows)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.html").write_text(found.report.page(), encoding="utf-8")
    if as_json:
        print_json(
            {
                "rows": found.rows,
                "rules": [{"rule": name, "breaking": count} for name, count in found.breaking.items()],
                "not_stored": list(found.not_stored),
                "ok": not found.broken,
            }
        )
    else:
        listed = {rule.name: rule for rule in rules}
        print_table(
            ("rule", "field", "allowed", "breaking"),
            [
                {"rule": name, "field": listed[name].field, "allowed": listed[name].demand, "breaking": count}
                for name, count in found.breaking.items()
            ],
        )
        not_stored = ", ".join(found.not_stored) or "nothing"
        click.echo(f"\n{counted(found.rows, 'row')}; not stored, so not judged here: {not_stored}")
    if found.broken:
        sys.exit(1)
