"""Whether a series' description says that it is another contrast than T1; most files say nothing, and are taken."""

import re

from annotate_server.backends.meshnet.parameters import Contrast
from annotate_server.domain.errors import NotMadeFor

_T1 = re.compile(r"t1|mprage|mp2rage|bravo|spgr|fspgr")
_OTHER = re.compile(
    r"(?<![a-z])(t2|(?:flair|dwi|adc|dti|swi|bold|tof|mra|mrv|pdw?|asl|stir|trace|ciss|fiesta|perfusion)(?![a-z]))"
)
_ENHANCED = re.compile(r"(?<![a-z])(post|gd|gad|gado[a-z]*|ce|contrast)(?![a-z])|\+c\b")


def check_contrast(description: str, wanted: Contrast, title: str) -> tuple[str, ...]:
    """Return what a person should know about the contrast that a series' description names.

    Raises NotMadeFor where it names another one and not T1. Only the word that counts is repeated: the rest of a
    description is free text, which may name a person.
    """
    if wanted is Contrast.ANY:
        return ()
    text = description.lower()
    other, is_t1 = _OTHER.search(text), bool(_T1.search(text))
    if other is not None and not is_t1:
        raise NotMadeFor(f"its description says {other[1].upper()} and {title} is made for T1")
    if _ENHANCED.search(text):
        return ("Its description suggests contrast medium; the network was trained without.",)
    return ()
