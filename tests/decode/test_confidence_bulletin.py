"""What the source side alone tells: sentences from elsewhere against those of the bulletin language."""

from __future__ import annotations

import numpy as np
import pytest

from seqlib.decode.confidence import features, fit
from seqlib.decode.source_model import SourceModel, words
from seqlib.problems.bulletin import Bulletin
from seqlib.problems.bulletin.offdomain import OFF_DOMAIN
from tests.decode import test_confidence

ELSEWHERE = [
    *test_confidence.OFF_DOMAIN,
    "The weather was nice yesterday, so we went hiking in the mountains.",
    "I think that democracy needs constant care.",
    "What time does the movie start tonight?",
    "The cat sat on the mat.",
    "Our company reported record profits in the third quarter.",
    "Turn left at the next corner and go straight ahead.",
    "He has been learning to play the violin since he was five.",
    "To be, or not to be, that is the question.",
    "The patient should take two tablets daily after meals.",
    "Scientists have discovered a new species of frog in Brazil.",
    "Where is the nearest pharmacy?",
    "The stock market crashed on Monday.",
    "Can you help me fix my bicycle?",
    "Shakespeare wrote many plays.",
    "The train of thought was lost in the noise.",
    "A man in a blue shirt is standing on a ladder.",
    "Children are playing soccer in the park.",
    "Global warming threatens the polar ice caps.",
    "I love you more than words can say.",
    "Two plus two equals four.",
    "Python is a programming language.",
    "The president will give a speech tomorrow at the university.",
    "My phone battery dies too quickly.",
    "Happy birthday to you!",
    "The contract expires at the end of the year.",
    "This sentence has nothing to do with trains.",
    "Bananas are rich in potassium.",
    "Never give up on your dreams.",
    "The court rejected the appeal on Tuesday.",
    "How many people live in this city?",
    "lorem ipsum dolor sit amet consectetur",
    "Der Zug nach Berlin fährt um acht Uhr ab.",
    "asdf qwer zxcv",
    "The Treaty of Versailles was signed in 1919.",
    "Add the onions and fry until golden brown.",
    "Water boils at one hundred degrees.",
    "She opened the window because the room was hot.",
    "The dog barked all night.",
    "We regret to inform you that your application was not successful.",
    "His argument was neither convincing nor original.",
]


@pytest.fixture(scope="module")
def bulletin():
    language = Bulletin(0)
    train = [language.sample("train", number).source for number in range(25_000)]
    parts = {"dev": 600, "test": 600, "test_names": 300}
    return train, {name: [s.source for s in language.distinct(name, n)] for name, n in parts.items()}


def test_elsewhere_is_flagged_and_the_language_is_not(bulletin):
    train, parts = bulletin
    source = SourceModel.fit(train)
    rng = np.random.default_rng(0)

    def measured(texts):
        """Output losses that say nothing: drawn alike for every text."""
        return [features(t, len(words(t)), -rng.exponential(0.02, len(words(t)) + 1), source) for t in texts]

    calibration = fit(measured(parts["dev"]), source)
    flagged = {
        name: float((calibration.confidence(measured(texts)) < calibration.threshold).mean())
        for name, texts in {**parts, "elsewhere": ELSEWHERE, "list": OFF_DOMAIN}.items()
    }
    assert flagged["list"] >= 0.95, flagged
    assert flagged["elsewhere"] >= 0.85, flagged
    assert flagged["test"] <= 0.02, flagged
    assert flagged["test_names"] <= 0.02, flagged
