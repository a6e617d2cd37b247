"""A file becomes raw records once it is whole, and is moved with what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway import files
from gateway.files import FileReader, FileSource, find_sources
from schemas.errors import Unavailable
from streams.providers.registry import DIALECTS
from tests.unit.gateway.scene import FakeAppender

STATEMENT = b"""<?xml version="1.0" encoding="UTF-8"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"><BkToCstmrStmt><Stmt><Id>S1</Id>
<Acct><Id><IBAN>MT84MALT011000012345MTLCAST001S</IBAN></Id></Acct></Stmt></BkToCstmrStmt></Document>"""
HEADINGS = "TIMESTAMP\tPLAYER_ID\tCURRENCY\tBET_IN_MONTH\tBALANCE_MONTH_END\tPENDING_TRANSFER\tCASINO_CHIPS_VALUE"
ROW = "2026-10-31 23:59:59\tp-{}\tEUR\t10\t20\t0\t0"


def report(rows: int, padding: int = 0) -> bytes:
    lines = [ROW.format(f"{n:06d}" + "x" * padding) for n in range(rows)]
    return "\n".join(["ACME\tall\t+0", *lines, HEADINGS]).encode() + b"\n"


class Scene:
    def __init__(self, folder: Path, brands: Mapping[str, str] | None = None) -> None:
        self.appender = FakeAppender()
        self.sources = find_sources(folder, DIALECTS, None, brands or {}, "")
        self.reader = FileReader(self.sources, self.appender, "gateway-1", quiet_s=0)

    def source(self, provider: str) -> FileSource:
        return next(source for source in self.sources if source.provider == provider)

    def names(self, provider: str, folder: str = "") -> list[str]:
        place = self.source(provider).folder / folder
        return sorted(path.name for path in place.iterdir() if path.is_file())


@pytest.fixture
async def scene(tmp_path):
    scene = Scene(tmp_path)
    await scene.reader.on_start()
    return scene


def put(scene: Scene, provider: str, name: str, value: bytes) -> Path:
    path = scene.source(provider).folder / name
    path.write_bytes(value)
    return path


async def test_a_statement_is_appended_under_its_account_and_is_done(scene):
    put(scene, "camt", "monday.xml", STATEMENT)
    await scene.reader.look()
    [(topic, key, value, headers)] = scene.appender.records
    assert (topic, key, value) == (
        "provider.camt.raw.v1",
        b"MT84MALT011000012345MTLCAST001S",
        STATEMENT,
    )
    assert headers["file-name"] == b"monday.xml"
    assert int(headers["received-at"]) > 0
    assert (scene.names("camt"), scene.names("camt", "done")) == ([], ["monday.xml"])
    await scene.reader.look()
    assert len(scene.appender.records) == 1


async def test_a_folder_of_a_brand_gives_its_brand_and_region(tmp_path):
    scene = Scene(tmp_path, {"lucky": "eu"})
    await scene.reader.on_start()
    put(scene, "camt", "monday.xml", STATEMENT)
    await scene.reader.look()
    [(_, _, _, headers)] = scene.appender.records
    assert (headers["brand"], headers["region"]) == (b"lucky", b"eu")
    assert (tmp_path / "camt" / "lucky" / "done" / "monday.xml").exists()


async def test_a_long_report_becomes_several_that_are_each_whole(scene):
    whole = report(30_000, padding=40)
    put(scene, "lga_report", "october.txt", whole)
    await scene.reader.look()
    values = [value for _, _, value, _ in scene.appender.records]
    assert len(values) > 2
    assert max(map(len, values)) <= 1_000_000
    assert {key for _, key, _, _ in scene.appender.records} == {b"ACME"}
    rows = []
    for value in values:
        first, *between, last = value.split(b"\n")
        assert (first, last) == (b"ACME\tall\t+0", HEADINGS.encode())
        rows += between
    assert rows == whole.rstrip(b"\n").split(b"\n")[1:-1]


@pytest.mark.parametrize("name", [".hidden.xml", "a.xml.part", "a.tmp", "a.filepart", "a.xml~"])
async def test_names_of_unfinished_files_are_left_alone(scene, name):
    path = put(scene, "camt", name, STATEMENT)
    await scene.reader.look()
    assert scene.appender.records == []
    assert path.exists()


async def test_a_file_that_grows_is_left_alone(scene):
    scene.reader._quiet_s = 0.02
    path = put(scene, "camt", "monday.xml", STATEMENT[:100])
    await scene.reader.look()
    await asyncio.sleep(0.03)
    path.write_bytes(STATEMENT)
    await scene.reader.look()
    assert scene.appender.records == []
    await asyncio.sleep(0.03)
    await scene.reader.look()
    assert [value for _, _, value, _ in scene.appender.records] == [STATEMENT]


async def test_what_cannot_be_parsed_may_be_half_a_file_for_a_while(scene, monkeypatch):
    path = put(scene, "camt", "monday.xml", STATEMENT[:-20])
    await scene.reader.look()
    assert path.exists()
    monkeypatch.setattr(files, "UNFINISHED_S", 0)
    await scene.reader.look()
    assert scene.names("camt", "failed") == ["monday.xml", "monday.xml.reason.txt"]
    reason = scene.source("camt").folder / "failed" / "monday.xml.reason.txt"
    assert reason.read_text().startswith("MALFORMED: ")
    assert scene.appender.records == []


async def test_what_is_no_statement_fails_with_its_reason(scene):
    put(scene, "camt", "other.xml", b"<invoice/>")
    await scene.reader.look()
    reason = scene.source("camt").folder / "failed" / "other.xml.reason.txt"
    assert reason.read_text().startswith("UNKNOWN_OPERATION: ")


async def test_a_file_that_is_too_large_fails(scene, monkeypatch):
    monkeypatch.setattr(files, "FILE_BYTES_MAX", 100)
    put(scene, "camt", "monday.xml", STATEMENT)
    await scene.reader.look()
    assert scene.names("camt", "failed") == ["monday.xml", "monday.xml.reason.txt"]


async def test_what_the_broker_refuses_fails_with_its_reason(scene):
    scene.appender.refuses = 1
    put(scene, "camt", "monday.xml", STATEMENT)
    await scene.reader.look()
    assert scene.names("camt", "failed") == ["monday.xml", "monday.xml.reason.txt"]


async def test_without_a_broker_the_file_stays_and_is_read_again(scene, monkeypatch):
    put(scene, "camt", "monday.xml", STATEMENT)
    append = scene.appender.append

    def refuse(*arguments):
        pending = append(*arguments)
        pending.place = asyncio.get_running_loop().create_future()
        pending.fail(Unavailable("no broker"))
        return pending

    monkeypatch.setattr(scene.appender, "append", refuse)
    with pytest.raises(Unavailable):
        await scene.reader.look()
    assert scene.names("camt") == ["monday.xml"]
    monkeypatch.setattr(scene.appender, "append", append)
    await scene.reader.look()
    assert scene.names("camt", "done") == ["monday.xml"]


async def test_a_later_file_of_the_same_name_replaces_none(scene):
    for value in (STATEMENT, STATEMENT.replace(b"S1", b"S2"), STATEMENT):
        put(scene, "camt", "daily.xml", value)
        await scene.reader.look()
    done = scene.names("camt", "done")
    assert len(done) == 3
    assert done.count("daily.xml") == 1


async def test_a_link_is_no_file(scene, tmp_path):
    target = tmp_path / "elsewhere.xml"
    target.write_bytes(STATEMENT)
    (scene.source("camt").folder / "link.xml").symlink_to(target)
    await scene.reader.look()
    assert scene.appender.records == []


def test_only_providers_that_send_files_have_a_folder(tmp_path):
    names = {source.provider for source in find_sources(tmp_path, DIALECTS, None, {}, "")}
    assert names == {"camt", "lga_report"}
    assert find_sources(tmp_path, DIALECTS, {"hub88"}, {}, "") == []
