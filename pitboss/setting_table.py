"""The declared table of Pitboss's settings.

One row per setting: the environment variable, the key in the TOML file, `pitboss doctor` and the
page docs/reference/configuration.md (written by `make docs`) come from it. `pitboss.settings` reads
the values, `pitboss.setting_types` has how they are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pitboss.security_settings import SECURITY_SETTINGS
from pitboss.setting_types import Setting, SettingType
from schemas.topics import RAW_PARTITIONS_DEFAULT

SETTINGS: Final = (
    Setting(
        "config",
        SettingType.PATH,
        "everything",
        "TOML file of settings. A variable of the environment wins over the file, the file over "
        "the default",
        "/etc/pitboss.toml",
        default_text="none",
        is_in_file=False,
    ),
    Setting(
        "kafka",
        SettingType.TEXT,
        "everything",
        "Bootstrap servers, comma-separated. Set both or neither of this and `PITBOSS_DATABASE`",
        "broker-1:9092,broker-2:9092",
        default_text="the embedded broker",
    ),
    Setting(
        "database",
        SettingType.URL,
        "everything",
        "`postgresql://user:password@host:port/postgres`; the path is replaced by the namespace's "
        "own database. In the file it must not hold the password: name a file of it with "
        "`?passfile=`, as libpq reads it",
        "postgresql://user:password@host:5432/postgres",
        default_text="the embedded database",
    ),
    *SECURITY_SETTINGS,
    Setting(
        "namespace",
        SettingType.TEXT,
        "everything",
        "Prefixes topics and consumer groups (`<namespace>.`) and names the database "
        "(`pitboss_<namespace>`, else `pitboss`). A lower-case letter, then at most 30 lower-case "
        "letters, digits or underscores",
        "load_1",
        default="",
        default_text="empty",
    ),
    Setting(
        "home",
        SettingType.PATH,
        "everything",
        "Folder of the embedded servers' data, and of all logs",
        "/var/lib/pitboss",
        default_text="`.pitboss` in the working directory",
    ),
    Setting(
        "cache",
        SettingType.PATH,
        "`up`",
        "Folder of Kafka's jars, which may be lost at any time",
        "/var/cache/pitboss",
        default_text="`$XDG_CACHE_HOME/pitboss`, else `~/.cache/pitboss`",
    ),
    Setting(
        "maven",
        SettingType.TEXT,
        "`up`",
        "Repository that Kafka's jars are fetched from, once a machine",
        "https://maven.example/repository",
        default_text="Maven Central",
    ),
    Setting(
        "providers",
        SettingType.NAMES,
        "everything",
        "Providers whose raw topics are made and read, comma-separated, or `all`. `pitboss "
        "provision` stores them with the installation; a process whose setting differs from what "
        "is stored refuses to start. See "
        "[operations.md](../howto/operations.md#the-providers-of-an-installation)",
        "hub88,house",
        default_text="what is stored; at the first `provision` all",
    ),
    Setting(
        "raw_partitions",
        SettingType.NUMBER,
        "everything",
        "Partitions of each raw topic, from 1 to 1,000. Stored with the installation at the first "
        "`provision`; another number is refused then. An installation that has raw topics keeps "
        "their number",
        "6",
        default_text=f"what is stored; at the first `provision` {RAW_PARTITIONS_DEFAULT}",
        unit="partitions",
    ),
    Setting(
        "brands",
        SettingType.BRANDS,
        "`normalise`",
        "The brands of each provider's records, `*` for the providers that are not named. Once any "
        "is named, a record whose header `brand` is missing or not listed is a dead letter "
        '(`UNKNOWN_BRAND`). In the file a table: `brands = {hub88 = ["acme", "zeta"], "*" = '
        '["acme"]}`',
        "hub88:acme|zeta,*:acme",
        default_text="none: a record may have any brand, without the header `default`",
    ),
    Setting(
        "keys_file",
        SettingType.PATH,
        "`normalise`, `drift`, `gateway`, operators' commands",
        "The providers' keys, a JSON object: see [Keys file](#keys-file). A name that is not a "
        "provider is refused",
        "/run/secrets/keys.json",
        default_text="none: no signature is checked",
    ),
    Setting(
        "unsigned",
        SettingType.NAMES,
        "`normalise`",
        "Providers that sign and whose records are booked all the same without a key, "
        "comma-separated, or `all`. One that is not named and has no key refuses to start. "
        "`pitboss run --unsigned` adds to it",
        "camt,hub88",
        default_text="on the embedded servers `all`; on given ones none",
    ),
    Setting(
        "worker_id",
        SettingType.TEXT,
        "all roles",
        "Kafka's `group.instance.id`: a worker that comes back under it within 10 s causes no "
        "rebalance. No two live workers of a role may share one. `pitboss run` puts `-<role>-<n>` "
        "behind it: set it where two hosts have one name, or one host runs `pitboss run` twice",
        "rack-7",
        default="",
        default_text="empty; for `pitboss run` the host's name",
    ),
    Setting(
        "resolve_min_age_ms",
        SettingType.NUMBER,
        "`resolve`",
        "The earliest time after its first attempt at which the search for its player is given up",
        "60000",
        default=60_000,
        unit="milliseconds",
    ),
    Setting(
        "park",
        SettingType.NAMES,
        "`normalise`",
        "Providers whose players wait behind a dead letter of theirs, comma-separated; with `none` "
        "(in the file: an empty list) waiting records are released and no new player waits. See "
        "[dead-letters.md](../howto/dead-letters.md#parking)",
        "hub88,house",
        default_text="none: no player waits",
    ),
    Setting(
        "park_records_max",
        SettingType.NUMBER,
        "`normalise`",
        "How many records may wait behind one dead letter; more are rejected (`PARK_FULL`)",
        "1000",
        default=1_000,
        unit="records",
    ),
    Setting(
        "park_age_max_ms",
        SettingType.NUMBER,
        "`normalise`",
        "How long they wait at most, by the broker's clock",
        "3600000",
        default=3_600_000,
        unit="milliseconds",
    ),
    Setting(
        "drift_sample",
        SettingType.SHARE,
        "`normalise`",
        "The share of raw records that `drift` compares with their payload schema; of rejected "
        "ones all. See [drift.md](../howto/drift.md)",
        "0.01",
        default=0.01,
    ),
    Setting(
        "fraud_enforce",
        SettingType.NAMES,
        "`fraud`",
        "Severities of alerts that stop their player, comma-separated: `block` blocks, `hold` "
        "keeps money from leaving. "
        "See [fraud.md](../explanation/fraud.md#from-an-alert-to-a-block)",
        "block,hold",
        default_text="none: alerts are only published",
    ),
    Setting(
        "gateway_port",
        SettingType.NUMBER,
        "`gateway`",
        "Port of the providers' HTTP door. `run all` starts a gateway only where this is set; "
        "`run gateway` takes 8088 without it. See [gateway.md](../howto/gateway.md)",
        "8088",
        default_text="none: `run all` starts no gateway",
        unit="port",
    ),
    Setting(
        "gateway_host",
        SettingType.TEXT,
        "`gateway`",
        "Address that the gateway listens on. Without TLS put a proxy that "
        "speaks it before any address that is not loopback",
        "10.0.0.5",
        default="127.0.0.1",
    ),
    Setting(
        "gateway_tls_cert",
        SettingType.PATH,
        "`gateway`",
        "PEM file of the gateway's certificate with its chain, for TLS. Set both or neither of "
        "this and `PITBOSS_GATEWAY_TLS_KEY`; both are read anew when they change",
        "/run/secrets/gateway.pem",
        default_text="none: plain HTTP",
    ),
    Setting(
        "gateway_tls_key",
        SettingType.PATH,
        "`gateway`",
        "PEM file of the private key of that certificate, without a password",
        "/run/secrets/gateway.key",
        default_text="none",
    ),
    Setting(
        "gateway_tls_client_ca",
        SettingType.PATH,
        "`gateway`",
        "PEM file of the authorities that may sign the certificates of providers; read anew when "
        "it changes",
        "/run/secrets/providers-ca.pem",
        default_text="none: no provider is asked for a certificate",
    ),
    Setting(
        "gateway_access_file",
        SettingType.PATH,
        "`gateway`",
        "TOML file of who may call for each provider, by address and by certificate, and of the "
        "proxies whose `X-Forwarded-For` is believed. See "
        "[gateway.md](../howto/gateway.md#who-may-call)",
        "/etc/pitboss/access.toml",
        default_text="none: anyone who reaches the gateway and can sign",
    ),
    Setting(
        "gateway_database",
        SettingType.URL,
        "`gateway`",
        "A copy of the ledger's database (a hot standby) that questions are answered from. A "
        "question waits until it has what its provider was answered before",
        "postgresql://pitboss:secret@standby:5432/postgres",
        default_text="`PITBOSS_DATABASE`",
    ),
    Setting(
        "gateway_brands",
        SettingType.NAMES,
        "`gateway`",
        "Brands that are served, each under URLs of its own, with its region behind a colon. A "
        "brand that is not named here does not exist for any caller",
        "lucky:eu,star",
        default_text="none: the default brand, without a region",
    ),
    Setting(
        "gateway_currency",
        SettingType.TEXT,
        "`gateway`",
        "Currency of every wallet, where all have the same: for calls of Pragmatic Play that bear "
        "no session token",
        "EUR",
        default="",
        default_text="none: such a call gets the answer to an unknown session",
    ),
    Setting(
        "gateway_session_key_file",
        SettingType.PATH,
        "`gateway`",
        "File of the key that signs session tokens, at least 32 bytes in hexadecimal. See "
        "[gateway.md](../howto/gateway.md#sessions)",
        "/run/secrets/session-key",
        default_text="none: no session is known",
    ),
    Setting(
        "gateway_files",
        SettingType.PATH,
        "`gateway`",
        "Folder in which bank statements and reports are put, in one folder a provider. See "
        "[gateway.md](../howto/gateway.md#files)",
        "/srv/pitboss/files",
        default_text="none: no files are read",
    ),
    Setting(
        "gateway_patience_ms",
        SettingType.NUMBER,
        "`gateway`",
        "How long a call waits for its decision before it is taken back; below the time-out of "
        "every provider",
        "3000",
        default_text="what each provider's face says (`pitboss gateway routes`)",
        unit="milliseconds",
    ),
    Setting(
        "gateway_player_rate",
        SettingType.NUMBER,
        "`gateway`",
        "How many bets a second one player may make at one provider; twice as many at once. More "
        "get the provider's error",
        "20",
        default=20,
        unit="bets a second",
    ),
    Setting(
        "gateway_provider_rate",
        SettingType.NUMBER,
        "`gateway`",
        "How many calls a second one provider may make to one brand",
        "500",
        default_text="none: as many as come",
        unit="calls a second",
    ),
    Setting(
        "currencies_file",
        SettingType.PATH,
        "everything",
        "Currencies beyond ISO 4217, BTC, ETH, USDT and USDC: a JSON object, code → decimals of "
        "the minor unit, at most 8. The same for every process; a currency's decimals never change",
        "/etc/pitboss/currencies.json",
        default_text="none",
    ),
    Setting(
        "dialects_file",
        SettingType.PATH,
        "everything",
        "Settings of this installation's dialects: a TOML file, provider → setting → value: see "
        "[Dialects file](#dialects-file). The same for every process",
        "/etc/pitboss/dialects.toml",
        default_text="none: as released",
    ),
    Setting(
        "adjust_alone",
        SettingType.AMOUNTS,
        "`pitboss ledger adjust`, `pitboss ledger suspense`",
        "Decides nothing: they refuse to act while it is set. What one person may move alone is "
        "the ledger's own limit (`pitboss ledger limit`)",
        "EUR:100,JPY:15000",
        default_text="none",
        unit="major units",
    ),
    Setting(
        "disk_free_min_mb",
        SettingType.NUMBER,
        "`pitboss status`, `pitboss doctor`",
        "Space that should be free where the home folder is: both commands end with 1 where there "
        "is less. An hour of a benchmark at full speed writes about 5 GB",
        "20480",
        default=5 * 1024,
        unit="MB",
    ),
    Setting(
        "worker_rss_max_mb",
        SettingType.NUMBER,
        "all roles",
        "Memory above which a worker drains and ends, to be started again: the last guard against "
        "whatever makes it grow. Under load it has some 100 to 300. 0: no limit, for where the "
        "container's platform has one",
        "2048",
        default=1024,
        unit="MB",
    ),
    Setting(
        "archive",
        SettingType.TEXT,
        "`archive`, `pitboss replay`, `pitboss archive`",
        "Folder, or URL that fsspec reaches, where the topics are kept as files. See "
        "[archive.md](../howto/archive.md)",
        "/var/lib/pitboss/archive",
        default_text="none: nothing is archived",
    ),
    Setting(
        "archive_span_ms",
        SettingType.NUMBER,
        "`archive`",
        "The longest stretch of time in one file; what is newer than that is not archived yet",
        "3600000",
        default=3_600_000,
        unit="milliseconds",
    ),
    Setting(
        "export",
        SettingType.TEXT,
        "`pitboss replay`",
        "What may leave the installation as files: `on`, with personal and secret fields only for "
        "a reason that is recorded; `masked`, never with them; `off`, nothing",
        "masked",
        default="on",
    ),
    Setting(
        "telemetry_port",
        SettingType.NUMBER,
        "all roles, `pitboss top`",
        "First port on 127.0.0.1 of the workers' `/healthz`, `/readyz`, `/metrics` and `/status`: "
        "[telemetry.md](../howto/telemetry.md) has that of each",
        "9470",
        default_text="none: nothing is recorded",
        unit="port",
    ),
    Setting(
        "otlp",
        SettingType.TEXT,
        "all roles",
        "URL of an OpenTelemetry collector that takes OTLP over HTTP: traces and metrics go there. "
        "Needs `pitboss[telemetry]`",
        "http://127.0.0.1:4318",
        default="",
        default_text="none: no traces",
    ),
    Setting(
        "trace_sample",
        SettingType.SHARE,
        "`ledger`",
        "Share of the traces that are kept of what was neither refused, doubled, alerted nor slow",
        "0.05",
        default=0.01,
    ),
    Setting(
        "log_level",
        SettingType.LEVEL,
        "all roles",
        "Level of the workers' logs: `DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`",
        "INFO",
        default="INFO",
    ),
)
"""Every setting of Pitboss, in the order of the reference page."""

BY_NAME: Final[Mapping[str, Setting]] = {setting.name: setting for setting in SETTINGS}
