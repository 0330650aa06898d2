"""Faults of text files."""

import gzip
import json

from tests.faults.stage import Stage, case, chapter

PREPARE = "prepare --data corpus.en,corpus.de --cache_dir prepared --data.tokenizer characters"

chapter("Text files")


@case("Unequal files", "One file has lost its last line.")
def unequal_files(stage: Stage) -> None:
    stage.write("corpus.de", b"".join(stage.lines("corpus.de")[:-1]))
    stage.refused(PREPARE)


@case("Empty sides", "Pairs without a source or a target are left out, counted, and the first ones named.")
def empty_sides(stage: Stage) -> None:
    lines = stage.lines("corpus.de")
    lines[6], lines[41] = b"\n", b"  \n"
    stage.write("corpus.de", b"".join(lines))
    stage.accepted(PREPARE, show=r"pairs read|empty|corpus\.en:\d+:")


@case("A line of 230,000 characters", "A lost line end, usually: left out of training.")
def long_line(stage: Stage) -> None:
    lines = stage.lines("corpus.en")
    lines[9] = b"one two " * 28_750 + b"\n"
    stage.write("corpus.en", b"".join(lines))
    stage.accepted(PREPARE, show=r"pairs read|over-long|corpus\.en:\d+:")


@case("Latin-1 bytes in a UTF-8 file", "A few such lines are left out and named; many mean that the encoding is wrong.")
def latin_1(stage: Stage) -> None:
    lines = stage.lines("corpus.de")
    number = next(i for i, line in enumerate(lines) if "fünf".encode() in line)
    lines[number] = lines[number].decode().encode("latin-1")
    stage.write("corpus.de", b"".join(lines))
    stage.accepted(PREPARE, show=r"pairs read|unreadable|corpus\.de:\d+:")
    stage.write("corpus.de", b"".join(lines).decode("utf-8", "ignore").replace("vier", "für").encode("latin-1"))
    stage.refused(PREPARE)


@case("NUL bytes", "A file that was damaged, or is not UTF-8 text.")
def nul_bytes(stage: Stage) -> None:
    lines = stage.lines("corpus.en")
    lines[2] = b"one\0two\n"
    stage.write("corpus.en", b"".join(lines))
    stage.accepted(PREPARE, show=r"pairs read|unreadable|corpus\.en:\d+:")
    stage.write("corpus.en", b"".join(lines).decode().encode("utf-16-le"))
    stage.refused(PREPARE)


@case("A truncated gzip file", "A download that broke off.")
def truncated_gzip(stage: Stage) -> None:
    stage.write("corpus.en.gz", gzip.compress(b"".join(stage.lines("corpus.en")))[:-200])
    stage.refused(PREPARE.replace("corpus.en", "corpus.en.gz"))
    stage.refused("train --config tiny.yaml --data corpus.en.gz,corpus.de --output_dir other")
    assert not (stage.folder / "other").exists()


@case("Files that are not there", "A mistyped name, a folder in the place of a file, a single text file.")
def missing_files(stage: Stage) -> None:
    stage.refused("train --config tiny.yaml --data corpus.en,corpsu.de --output_dir other")
    stage.refused("train --config tiny.yaml --data corpus.en,run --output_dir other")
    stage.refused("train --config tiny.yaml --data corpus.en --output_dir other")
    assert not (stage.folder / "other").exists()


@case("Damaged tables", "A row without its second column, a quote that never ends, a line that is not JSON.")
def damaged_tables(stage: Stage) -> None:
    pairs = list(zip(stage.lines("corpus.en"), stage.lines("corpus.de"), strict=True))
    rows = [f"{source.decode().strip()}\t{target.decode().strip()}\n" for source, target in pairs]
    rows[4] = rows[4].replace("\t", " ")
    stage.write("corpus.tsv", "".join(rows))
    line = "prepare --data corpus.NAME --cache_dir prepared --data.tokenizer characters"
    stage.accepted(line.replace("NAME", "tsv"), show=r"pairs read|unreadable|corpus\.tsv:\d+:")
    stage.write("corpus.csv", "".join([rows[0], '"', *rows[1:]]).replace("\t", ","))
    stage.refused(line.replace("NAME", "csv"))
    objects = [json.dumps(dict(zip(("en", "de"), row.strip().split("\t")))) + "\n" for row in rows if "\t" in row]
    objects[7] = objects[7][:20] + "\n"
    stage.write("corpus.jsonl", "".join(objects))
    stage.accepted(line.replace("NAME", "jsonl --columns en,de"), show=r"pairs read|unreadable|corpus\.jsonl:\d+:")


@case("Damaged translation memories", "A unit without languages, one that the file breaks off in, declared entities.")
def damaged_memories(stage: Stage) -> None:
    pairs = zip(stage.lines("corpus.en"), stage.lines("corpus.de"), strict=True)
    units = [
        f'<tu><tuv xml:lang="en-GB"><seg>{source.decode().strip()}</seg></tuv>'
        f'<tuv xml:lang="de"><seg>{target.decode().strip()}</seg></tuv></tu>\n'
        for source, target in pairs
    ]
    units[2] = units[2].replace("xml:lang", "title")
    start, end = "<tmx>\n<body>\n", "</body>\n</tmx>\n"
    line = "prepare --data memory.tmx --languages en,de --cache_dir prepared --data.tokenizer characters"
    stage.write("memory.tmx", start + "".join(units) + end)
    stage.accepted(line, show=r"pairs read|unreadable|memory\.tmx:\d+:")
    stage.refused(line.replace("en,de", "en,fr"))
    stage.write("memory.tmx", start + "".join(units[:40]) + units[40][:50])
    stage.refused(line)
    stage.write("memory.tmx", '<!DOCTYPE tmx [<!ENTITY ha "haha">]>\n' + start + "".join(units) + end)
    stage.refused(line)


@case("A corpus that is too small", "No pair at all, and none that is left after cleaning.")
def empty_corpus(stage: Stage) -> None:
    stage.write("corpus.en", "")
    stage.write("corpus.de", "")
    stage.refused(PREPARE)
    stage.write("corpus.en", "\n" * 400)
    stage.write("corpus.de", "\n" * 400)
    stage.refused(PREPARE, show="error|kept|empty")


@case(
    "Such lines in a test set",
    "Held-out files are never cleaned, since scores must count every line: one that can't be read is refused; an empty "
    "one is scored as it is, and of one that is longer than the model takes the beginning is translated.",
)
def faulty_test_set(stage: Stage) -> None:
    test = stage.lines("corpus.en")[:40], stage.lines("corpus.de")[:40]
    test[1][3] = "fünf\n".encode("latin-1")
    stage.write("test.en", b"".join(test[0]))
    stage.write("test.de", b"".join(test[1]))
    stage.refused("evaluate run --data test.en,test.de")
    test[0][3], test[1][3] = b"\n", b"\n"
    test[0][8] = b"one two " * 28_750 + b"\n"
    stage.write("test.en", b"".join(test[0]))
    stage.write("test.de", b"".join(test[1]))
    stage.accepted("evaluate run --data test.en,test.de", show='"sentences"', output=True)
    stage.write("test.en", b"".join(test[0][:-1]))
    stage.refused("evaluate run --data test.en,test.de")


@case(
    "Such lines in what is translated",
    "One line comes out for each that goes in. What isn't UTF-8 is refused; of what is too long the beginning is "
    "translated, which `--json` tells.",
)
def faulty_input(stage: Stage) -> None:
    stage.refused("translate run < input.txt", "one\nfünf\n".encode("latin-1"))
    text = b"one two\n\n" + b"one two " * 28_750 + b"\none\0two\n"
    code, out, _ = stage.command("translate run", text)
    assert code == 0 and out.count("\n") == 4
    code, out, _ = stage.command("translate run --json", text)
    reasons = [json.loads(line)["stop_reason"] for line in out.splitlines()]
    assert reasons[1:3] == ["empty", "truncated_source"]
    stage.record("translate run --json < long.txt", json.dumps({"stop_reason": reasons[2]}))
