"""Upper bounds of a text's tokens, for models whose tokenizer is not at hand.

    message("甲∧¬乙")  ->  139

A byte-level or byte-fallback tokenizer never makes more tokens of a text than the text has UTF-8 bytes. That
is about three times too many for Chinese: a bound for money, not an estimate (`prompts.tokens`).
"""

import unicodedata

# Tokens that a chat template puts around one message: roles, marks, a default system prompt.
TEMPLATE = 128


def tokens(text: str) -> int:
    """Bound the tokens of a text."""
    # Some tokenizers normalize first, which makes some characters longer.
    forms = (text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFKC", text))
    return max(len(form.encode(errors="surrogatepass")) for form in forms)


def message(text: str) -> int:
    """Bound the tokens of one message to a chat model, its template included."""
    return tokens(text) + TEMPLATE
