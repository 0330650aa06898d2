"""From source text to judged translations: search, the engine with its cache, confidence."""
