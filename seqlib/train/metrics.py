"""Scores of translations: cased, detokenised sacreBLEU and chrF with their signatures, and the share of exact ones."""

import importlib.util
from collections.abc import Sequence
from typing import Any

# Languages whose words sacreBLEU's default tokenizer cannot find.
_TOKENIZERS = {"zh": "zh", "ja": "char", "ko": "char", "th": "char", "lo": "char", "km": "char", "my": "char"}


def bleu_available() -> bool:
    """True when sacrebleu is installed (the `eval` extra)."""
    return importlib.util.find_spec("sacrebleu") is not None


def exact_match(translations: Sequence[str], references: Sequence[str]) -> float:
    """Share of translations equal to their reference, 0 to 1."""
    pairs = zip(translations, references, strict=True)
    return sum(one.strip() == other.strip() for one, other in pairs) / max(1, len(references))


def score_texts(
    translations: Sequence[str], references: Sequence[str], language: str = "", lowercased: bool = False
) -> dict[str, Any]:
    """Corpus scores of translations against one reference each.

    `bleu` and `chrf` are {"score": 0 to 100, "signature"} of sacreBLEU on cased, detokenised text (Post 2018; Popović
    2015), left out when sacrebleu is not installed; `exact_match` is a share; `sentences` a count. `language` is the
    target's, for texts without spaces. With `lowercased` there is `bleu_lowercased` too, of texts in lower case and
    tokenised as sacreBLEU does it: what papers that lower and tokenise their texts report.
    """
    scores: dict[str, Any] = {}
    if bleu_available():
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF

        tokenize = _TOKENIZERS.get(language.split("-")[0].lower())
        metrics: dict[str, Any] = {"bleu": BLEU(tokenize=tokenize)}
        if lowercased:
            metrics["bleu_lowercased"] = BLEU(tokenize=tokenize, lowercase=True)
        metrics["chrf"] = CHRF()
        for name, metric in metrics.items():
            score = metric.corpus_score(list(translations), [list(references)]).score
            scores[name] = {"score": round(score, 2), "signature": str(metric.get_signature())}
    scores["exact_match"] = round(exact_match(translations, references), 4)
    scores["sentences"] = len(references)
    return scores
