"""Numbers, ordinals, clock times and prices in both languages. All functions return (English, German)."""

from seqlib.problems.bulletin.lexicon import LEXICON

_EN_SMALL, _DE_SMALL, _EN_TENS, _DE_TENS = (
    LEXICON["numbers"][name].split() for name in ("small_en", "small_de", "tens_en", "tens_de")
)
_EN_ORDINAL = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth"}
_EN_ORDINAL |= {"nine": "ninth", "twelve": "twelfth"}
_DE_ORDINAL = {1: "ersten", 3: "dritten", 7: "siebten", 8: "achten"}


def number_en(n: int) -> str:
    """English words of 0..100."""
    if n < 20:
        return _EN_SMALL[n]
    if n == 100:
        return "a hundred"
    tens = _EN_TENS[n // 10 - 2]
    return f"{tens}-{_EN_SMALL[n % 10]}" if n % 10 else tens


def number_de(n: int) -> str:
    """German words of 0..100, in the counting form (eins)."""
    if n < 20:
        return _DE_SMALL[n]
    if n == 100:
        return "hundert"
    tens = _DE_TENS[n // 10 - 2]
    unit = "ein" if n % 10 == 1 else _DE_SMALL[n % 10]
    return f"{unit}und{tens}" if n % 10 else tens


def number(n: int) -> tuple[str, str]:
    """Words of 0..100 in both languages."""
    return number_en(n), number_de(n)


def ordinal(n: int) -> tuple[str, str]:
    """Ordinals of 1..31 as used in dates: "twenty-first", "einundzwanzigsten" (dative, weak)."""
    head, dash, last = number_en(n).rpartition("-")
    if last in _EN_ORDINAL:
        last = _EN_ORDINAL[last]
    elif last.endswith("y"):
        last = f"{last[:-1]}ieth"
    else:
        last = f"{last}th"
    german = _DE_ORDINAL.get(n) or number_de(n) + ("ten" if n < 20 else "sten")
    return f"{head}{dash}{last}", german


def clock_words(hour: int, minute: int) -> tuple[str, str]:
    """A spoken clock time, ``hour`` 1..12 and ``minute`` 0..55 in steps of five; German counts half to the next hour.

    25 and 35 minutes past are left out of speech: raises ValueError, as for any other minute.
    """
    here, after = hour, hour % 12 + 1
    if minute == 0:
        return f"{number_en(here)} o'clock", f"{'ein' if here == 1 else number_de(here)} Uhr"
    if minute == 30:
        return f"half past {number_en(here)}", f"halb {number_de(after)}"
    if minute == 15:
        return f"quarter past {number_en(here)}", f"Viertel nach {number_de(here)}"
    if minute == 45:
        return f"quarter to {number_en(after)}", f"Viertel vor {number_de(after)}"
    if minute in (5, 10, 20):
        return f"{number_en(minute)} past {number_en(here)}", f"{number_de(minute)} nach {number_de(here)}"
    if minute in (40, 50, 55):
        left = 60 - minute
        return f"{number_en(left)} to {number_en(after)}", f"{number_de(left)} vor {number_de(after)}"
    raise ValueError(f"no spoken form for minute {minute}")


def clock_24(hour: int, minute: int) -> tuple[str, str]:
    """A timetable's time: "17:45", "17:45 Uhr"."""
    return f"{hour}:{minute:02d}", f"{hour}:{minute:02d} Uhr"


def clock_12(hour: int, minute: int, afternoon: bool) -> tuple[str, str]:
    """A time with a.m. or p.m., ``hour`` 1..11: "5:45 p.m.", "17:45 Uhr"."""
    shown = hour + 12 if afternoon else hour
    return f"{hour}:{minute:02d} {'p.m.' if afternoon else 'a.m.'}", f"{shown}:{minute:02d} Uhr"


def price_words(euros: int) -> tuple[str, str]:
    """A whole price in words, accusative: "one euro" → "einen Euro", "twenty euros" → "zwanzig Euro"."""
    return ("one euro", "einen Euro") if euros == 1 else (f"{number_en(euros)} euros", f"{number_de(euros)} Euro")


def price_digits(euros: int, cents: int) -> tuple[str, str]:
    """A price in digits: "3.50 euros" → "3,50 Euro"; with no cents "45 euros" → "45 Euro"."""
    if cents == 0:
        return f"{euros} euros", f"{euros} Euro"
    return f"{euros}.{cents:02d} euros", f"{euros},{cents:02d} Euro"
