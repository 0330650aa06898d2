"""Faults of tables with labels, and of texts for a language model."""

import gzip
import json

from tests.faults.stage import Stage, case, chapter

PREPARE = "prepare --cache_dir prepared --data.tokenizer characters"
TABLE = f"{PREPARE} --text review --label stars --data"
TRAIN = (
    "train --data reviews.csv --text review --label stars --cache_dir prepared --data.tokenizer characters "
    "--train_steps 2 --no_baselines --no_report"
)


def rows(stage: Stage) -> list[str]:
    """A table of 400 labelled texts, with a header."""
    texts = (line.decode().strip() for line in stage.lines("corpus.en"))
    return ["review,stars\n", *(f"{text},{('good', 'bad')[number % 2]}\n" for number, text in enumerate(texts))]


chapter("Tables with labels")


@case("A column that is not there", "Of the text, or of the label; two columns that were mistaken for each other.")
def wrong_column(stage: Stage) -> None:
    stage.write("reviews.csv", "".join(rows(stage)))
    stage.refused(f"{PREPARE} --text reviews --label stars --data reviews.csv")
    stage.refused(f"{PREPARE} --text review --label star --data reviews.csv")
    stage.refused(f"{PREPARE} --text stars --label review --data reviews.csv")
    stage.refused(TRAIN.replace("stars", "star") + " --output_dir other")
    assert not (stage.folder / "other").exists()


@case(
    "Empty texts, empty labels, NaN",
    "Rows without a text or a label are left out, counted, and the first ones named, up to one in a hundred; so are "
    "numbers that are not finite, and weights.",
)
def empty_rows(stage: Stage) -> None:
    table = rows(stage)
    table[7:7] = [",good\n", "a text,\n", "another,NaN\n"]
    stage.write("reviews.csv", "".join(table))
    stage.accepted(f"{TABLE} reviews.csv", show=r"pairs read|unreadable|empty  |reviews\.csv:\d+:")
    stage.write("reviews.csv", "".join(table + ["another,NaN\n"] * 4))
    stage.refused(f"{TABLE} reviews.csv", show=r"error|cannot be read")
    numbers = [f"{row.split(',')[0]},{number / 8}\n" for number, row in enumerate(table[20:])]
    stage.write("numbers.csv", "".join([table[0], *numbers, "one,NaN\n", "two,inf\n"]))
    stage.accepted(f"{TABLE} numbers.csv --label_kind regression", show=r"pairs read|unreadable|numbers\.csv:\d+:")
    weighted = [f"{row.strip()},1\n" for row in table[20:]]
    stage.write("weights.csv", "".join(["review,stars,weight\n", *weighted, "one,good,NaN\n"]))
    stage.accepted(f"{TABLE} weights.csv --weight weight", show=r"pairs read|unreadable|weights\.csv:\d+:")


@case(
    "A label that training has not",
    "In a test file that is given with the table, and in one that comes later. Empty texts there are texts.",
)
def unknown_label(stage: Stage) -> None:
    stage.write("reviews.csv", "".join(rows(stage)))
    stage.write("test.csv", "review,stars\none two,good\nthree,goood\n")
    stage.refused(f"{TABLE} reviews.csv --test test.csv", show="error")
    stage.refused(TRAIN + " --output_dir other --test test.csv", show="error")
    assert not (stage.folder / "other").exists()
    code, _, err = stage.command(TRAIN + " --output_dir other")
    assert code == 0, err
    stage.refused("evaluate other --data test.csv")
    stage.write("test.csv", "review,stars\none two,good\n,bad\n")
    stage.accepted("evaluate other --data test.csv", show='"texts"', output=True)
    stage.write("test.csv", "text,stars\none two,good\n")
    stage.refused("evaluate other --data test.csv")
    stage.accepted("evaluate other --data test.csv --text text", show='"texts"', output=True)
    code, out, _ = stage.command("classify other < lines.txt", b"one two\n\n \n")
    assert code == 0 and out.count("\n") == 3


@case("A truncated table or set", "A download that broke off.")
def truncated_table(stage: Stage) -> None:
    stage.write("reviews.csv.gz", gzip.compress("".join(rows(stage)).encode())[:-200])
    stage.refused(f"{TABLE} reviews.csv.gz")
    stage.write("sets/train.label.gz", gzip.compress(b"NUM:dist How far ?\n" * 99)[:-9])
    stage.write("sets/test.label", "LOC:city Where ?\n")
    stage.refused(f"{PREPARE} --problem classify_trec --data_dir sets")


@case("A named set with other content", "It is used, and told that scores may not compare with published ones.")
def other_set(stage: Stage) -> None:
    stage.write("sets/train.label", "NUM:dist How far ?\nHUM:ind Who ?\n" * 60)
    stage.write("sets/test.label", "LOC:city Where ?\n")
    stage.accepted(f"{PREPARE} --problem classify_trec --data_dir sets", show="differs")
    stage.write("sets/train.label", "NUM:dist How far ?\nWHO:ind Who ?\n" * 60)
    stage.refused(f"{PREPARE} --problem classify_trec --data_dir sets", show="error")


chapter("Texts of a language model")


@case("A field that is not there, or holds no text", "A mistyped name, null, NaN.")
def wrong_field(stage: Stage) -> None:
    texts = [json.dumps({"body": line.decode().strip()}) + "\n" for line in stage.lines("corpus.en")]
    stage.write("posts.jsonl", "".join(texts))
    stage.refused(f"{PREPARE} --data posts.jsonl --text bodi", show="error")
    stage.refused(f"{PREPARE} --data posts.jsonl", show="error")
    for value in ("null", "NaN"):
        stage.write("posts.jsonl", "".join([*texts[:6], f'{{"body": {value}}}\n', *texts[6:]]))
        stage.refused(f"{PREPARE} --data posts.jsonl --text body", show="error")


@case("No text", "An empty file, and a folder without any.")
def no_text(stage: Stage) -> None:
    stage.write("notes.txt", "")
    stage.refused(f"{PREPARE} --data notes.txt")
    stage.write("texts/readme.md", "one two\n")
    stage.refused(f"{PREPARE} --data texts")


@case("A truncated text", "A download that broke off.")
def truncated_text(stage: Stage) -> None:
    content = gzip.compress(b"".join(stage.lines("corpus.en")))[:-200]
    stage.write("notes.txt.gz", content)
    stage.refused(f"{PREPARE} --data notes.txt.gz")
    stage.write("sets/tinyshakespeare.txt.gz", content)
    stage.refused(f"{PREPARE} --problem lm_tinyshakespeare --data_dir sets")


@case("A named text with other content", "It is used, and told that scores may not compare with published ones.")
def other_text(stage: Stage) -> None:
    stage.write("sets/tinyshakespeare.txt", b"".join(stage.lines("corpus.en")))
    stage.accepted(f"{PREPARE} --problem lm_tinyshakespeare --data_dir sets", show="differs")
