"""Every word that the tiny benchmark can show or expect.

The tokenizer is word level: one word is one token wherever it stands, so an answer is
always exactly one token.
"""

COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
PLACES = ("left", "right", "top", "bottom")
LEVELS = ("low", "middle", "high")
YES_NO = ("yes", "no")
LETTERS = ("A", "B", "C", "D")

NUMBERS = tuple(str(number) for number in range(31))

QUESTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "color": ("what color is the object ?", COLORS),
    "shape": ("what shape is the object ?", SHAPES),
    "where": ("where is the object ?", PLACES),
    "count": ("how many dots are there ?", NUMBERS[1:7]),
    "many": ("are there more than three dots ?", YES_NO),
    "dot-color": ("what color are the dots ?", COLORS),
    "digit": ("which digit is shown ?", NUMBERS[:10]),
    "parity": ("is the digit odd or even ?", ("odd", "even")),
    "big": ("is the digit larger than four ?", YES_NO),
    "tallest": ("which bar is the tallest ?", COLORS),
    "shortest": ("which bar is the shortest ?", COLORS),
    "bars": ("how many bars are there ?", NUMBERS[2:5]),
    "level": ("how high is the tallest bar ?", LEVELS),
    "hour": ("which hour does the clock show ?", NUMBERS[1:13]),
    "up-down": ("is the hand up or down ?", ("up", "down")),
    "side": ("is the hand on the left or right ?", ("left", "right")),
}
"""Question kind → (its text, every answer that it can have)."""

CAPTION_WORDS = ("object", "dots", "digit", "bars", "clock", "tallest", "shortest", "near", "another", ".", ",")
TURN_WORDS = ("user", "assistant", "Question:", "Options:", "True", "False")


def words() -> tuple[str, ...]:
    """Return the whole vocabulary without special tokens, sorted so that ids are stable."""
    seen = {word for text, answers in QUESTIONS.values() for word in (*text.split(), *answers)}
    seen.update(COLORS, SHAPES, PLACES, LEVELS, LETTERS, NUMBERS, CAPTION_WORDS, TURN_WORDS)
    seen.update(f"{letter}." for letter in LETTERS)
    return tuple(sorted(seen))
