"""What every process of an installation needs alike is stored with it, and a difference refuses to start."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.ops import shared_settings
from pitboss.ops.provision import provision
from pitboss.ops.shared_settings import (
    StoredSettings,
    adopt_stored,
    check,
    collect,
    digest_of,
    list_differences,
)
from pitboss.settings import read_worker_settings, worker_environment
from schemas.errors import UsageError
from streams.providers.registry import DIALECTS, policies

BRANDS = "hub88:acme|zeta,*:acme"


def worker(**variables):
    return read_worker_settings(
        {f"PITBOSS_{name.upper()}": text for name, text in variables.items()}
    )


def stored(**variables):
    sections = collect(worker(**variables))
    complete = {name: given or {} for name, given in sections.items()}
    return StoredSettings(complete, digest_of(sections), "kim")


def test_the_same_settings_in_another_order_do_not_differ():
    check(stored(brands=BRANDS), collect(worker(brands="*:acme,hub88:zeta|acme")))
    assert (
        digest_of(collect(worker(brands="*:acme,hub88:zeta|acme"))) == stored(brands=BRANDS).digest
    )


def test_a_difference_refuses_and_names_what_differs():
    with pytest.raises(UsageError) as refused:
        check(stored(brands=BRANDS), collect(worker(brands="hub88:acme,*:acme")))
    assert 'brands.hub88: stored ["acme","zeta"], here ["acme"]' in str(refused.value)
    assert "brands.*" not in str(refused.value)
    assert "pitboss provision --accept-settings" in str(refused.value)


def test_what_is_unset_here_takes_what_is_stored_unless_it_is_accepted():
    before, here = stored(brands=BRANDS).sections, collect(worker())
    assert list_differences(before, here) == []
    assert list_differences(before, here, is_exact=True) == [
        'brands.*: stored ["acme"], here nothing',
        'brands.hub88: stored ["acme","zeta"], here nothing',
    ]


def test_a_currency_of_one_process_alone_is_a_difference(tmp_path):
    file = tmp_path / "currencies.json"
    file.write_text('{"DOGE": 8}')
    with pytest.raises(UsageError, match=r"currencies\.DOGE: stored nothing, here 8"):
        check(stored(), collect(worker(currencies_file=str(file))))


def test_another_policy_is_a_difference_and_a_new_one_is_not():
    kept = stored()
    changed = json.loads(json.dumps(kept.sections))
    changed["policies"]["hub88"]["win_without_bet"] = "BOOK"
    del changed["policies"]["adyen"]
    before = StoredSettings(changed, "", "kim")
    with pytest.raises(
        UsageError, match=r'policies\.hub88\.win_without_bet: stored "BOOK"'
    ) as refused:
        check(before, collect(worker()))
    assert "adyen" not in str(refused.value)


@pytest.fixture
def dialects_file(tmp_path):
    file = tmp_path / "dialects.toml"
    file.write_text('[adyen.policy]\nwin_without_bet = "REFUSE"\n')
    yield file
    DIALECTS.configure({})


def test_a_process_without_the_file_is_not_blamed_for_its_policies(dialects_file):
    DIALECTS.configure({"adyen": {"policy": {"win_without_bet": "REFUSE"}}})
    before = stored(dialects_file=str(dialects_file))
    DIALECTS.configure({})
    check(before, collect(worker()))


@pytest.mark.integration
def test_an_installation_stores_them_and_a_worker_without_them_takes_them(runtime, dialects_file):
    given = worker(brands=BRANDS, dialects_file=str(dialects_file))
    DIALECTS.configure({"adyen": {"policy": {"win_without_bet": "REFUSE"}}})
    provision(runtime, partitions=1, raw_partitions=1, providers=["hub88"], shared=collect(given))
    DIALECTS.configure({})
    taken = asyncio.run(adopt_stored(runtime, worker()))
    assert taken.brands == given.brands
    assert policies()["adyen"].win_without_bet == "REFUSE"
    with pytest.raises(UsageError, match=r"brands\.hub88"):
        asyncio.run(adopt_stored(runtime, worker(brands="hub88:other")))


@pytest.mark.integration
def test_a_change_is_shown_accepted_by_name_and_kept(runtime):
    provision(
        runtime, partitions=1, raw_partitions=1, providers=["hub88"], shared=collect(worker())
    )
    environ = {**worker_environment(runtime), "PITBOSS_BRANDS": BRANDS, "PITBOSS_UNSIGNED": ""}

    def run(*arguments):
        command = ["provision", "--partitions", "1", *arguments]
        return CliRunner().invoke(cli, command, env=environ)

    refused = run()
    assert refused.exit_code == 2
    assert "brands.hub88: stored nothing" in refused.stderr
    assert run("--accept-settings").exit_code == 2
    shown = run("--accept-settings", "--by", "kim", "--dry-run")
    assert 'would change  brands.hub88: stored nothing, here ["acme","zeta"]' in shown.stdout
    assert run().exit_code == 2
    done = run("--accept-settings", "--by", "kim")
    assert (done.exit_code, "changed  brands.hub88" in done.stdout) == (0, True)
    assert run().exit_code == 0
    kept = shared_settings.read_stored(runtime)
    assert kept is not None
    assert (kept.accepted_by, kept.sections["brands"]["*"]) == ("kim", ["acme"])
