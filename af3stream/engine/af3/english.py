"""English words by what they do in a question, rather than by what they mean."""

from __future__ import annotations

from typing import Final

_COMMON: Final = """
a about above after again against ago all almost also although always am among an and another any anything are around
as at be because become been before being below between both but by called can cannot come could did do does doing
done down during each eight either enough even ever every few first five for four from further gave get give given go
goes going gone good got had has have having he her here hers herself him himself his how i if in into is it its
itself just keep kind know known last least less like made make many may me might more most much must my myself need
never next nine no none nor not nothing now number of off often on once one only or other others our out over own part
people per perhaps person please quite rather really said same say says second seem seven several shall she should
since six so some someone something sometimes speaking still such ten than that the their them then there these they
thing things think third this those though three through time to together too took toward two under until up upon us
use used using usually very via want was we well went were what whatever when where whether which while who why will
with within without would year yes yet you your yourself
"""
_ASKING: Final = """
answer anybody anyone audio began begin beginning begins conversation describe end ended ending ends everyone explain
find happen happened happening happens hear heard hears instrument list listen mention mentioned mentions mood music
name noise playing quote recording repeat sentence silence sound sounds speak speaker speakers speech spoke spoken
start started starts summarise summarize summary talk talked talking talks tell tells told tone topic transcribe
transcript voice whom whose word words write
"""
_WHETHER: Final = """
are can could did do does had has have is may must shall should was were will would
"""

COMMON: Final = frozenset(_COMMON.split())  # words that tell nothing about a sentence
ASKING: Final = frozenset(_ASKING.split())  # words of questions about any speech
WHETHER: Final = frozenset(_WHETHER.split())  # what a question of yes or no begins with
